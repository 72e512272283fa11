"""Train on normal brains, find what is not: unsupervised anomaly detection in brain MRI, in JAX and Flax."""

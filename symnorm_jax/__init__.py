"""Train on normal brains, find what is not: unsupervised anomaly detection in brain MRI, in JAX and Flax."""


def __getattr__(name: str):
    """Give `Scorer`, whose import takes JAX along, to those who ask for it."""
    if name == "Scorer":
        from symnorm_jax.inference.scorer import Scorer

        return Scorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

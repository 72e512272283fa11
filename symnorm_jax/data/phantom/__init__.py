import symnorm_jax.data.sources  # noqa: F401, of which phantoms are one: whichever is asked for first, it comes first

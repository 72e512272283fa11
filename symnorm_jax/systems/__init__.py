"""The published systems by name; each file's `build(config)` gives a `System`."""

from symnorm_jax.systems import symnorm

BUILD = {"symnorm": symnorm.build}

"""What the reconstruction baselines share: a residual, the scores made of it, and the system around them."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax import losses
from symnorm_jax.errors import ConfigError
from symnorm_jax.masking import patch_grid
from symnorm_jax.systems.contract import Batch, Embedding


def embedding(batch: Batch, reconstruction: jax.Array, patch: int, z: jax.Array | None = None) -> Embedding:
    """The absolute residual as map, its mean over the brain as score `mae`, and `z` or else the residual by patch."""
    residual = jnp.abs(batch["image"] - reconstruction).mean(-1, keepdims=True) * batch["brain"]
    mae = losses.weighted_mean(residual, batch["brain"])
    z = by_patch(residual, batch["brain"], patch) if z is None else z
    panels = {"reconstruction": (reconstruction * batch["brain"])[..., :1]}
    return Embedding(z, {"mae": mae}, residual, panels)


def by_patch(x: jax.Array, brain: jax.Array, patch: int) -> jax.Array:
    """Mean of x `[B, *S, 1]` over the brain in each patch of `patch` pixels a side, `[B, patches]`; 0 where none is."""
    total, count = _patch_sums(x * brain, patch), _patch_sums(brain, patch)
    return (total / jnp.maximum(count, 1.0)).reshape(len(x), -1)


def _patch_sums(x: jax.Array, patch: int) -> jax.Array:
    window = (1, *(patch,) * (x.ndim - 2), 1)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID")


def check_sides(config: ConfigDict, divisor: int) -> None:
    """Raise ConfigError unless slices have two sides that divide by `divisor` and into patches."""
    if len(config.data.size) != 2 or any(side < 1 or side % divisor for side in config.data.size):
        raise ConfigError(f"data.size={tuple(config.data.size)}; two sides that divide by {divisor} are allowed.")
    patch_grid(tuple(config.data.size), config.mask.patch)

"""What the rivals on slices share: their networks, residuals, and the scores and embeddings made of those."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax import losses
from symnorm_jax.masking import patch_grid
from symnorm_jax.models.autoencoder import Autoencoder
from symnorm_jax.models.unet import UNet
from symnorm_jax.settings import check_sides
from symnorm_jax.systems.contract import DATA, Batch, Embedding

MEANING = (*DATA, "mask.patch")  # of every rival on slices
NET = "baseline"  # the name of a rival's network, of its stage, and of its section in `train`; it seeds random numbers


def unet_of(config: ConfigDict) -> UNet:
    """Make the U-Net of a config. Raises ConfigError for slices that do not divide into its levels or into patches."""
    _check_slices(config, config.unet.stem * 2 ** (len(config.unet.widths) - 1))
    return UNet(**config.unet, **config.network)


def autoencoder_of(config: ConfigDict, variational: bool = False) -> Autoencoder:
    """Make the autoencoder of a config. Raises ConfigError for slices that do not divide as it needs."""
    size = tuple(config.data.size)
    _check_slices(config, 2 ** len(config.autoencoder.widths))
    return Autoencoder(**config.autoencoder, **config.network, size=size, variational=variational)


def embedding(batch: Batch, reconstruction: jax.Array, patch: int, z: jax.Array | None = None) -> Embedding:
    """Give the absolute residual as map, its mean over the brain as score `mae`, and `z` or else means by patch."""
    residual = jnp.abs(batch["image"] - reconstruction).mean(-1, keepdims=True) * batch["brain"]
    mae = losses.weighted_mean(residual, batch["brain"])
    z = by_patch(residual, batch["brain"], patch) if z is None else z
    panels = {"reconstruction": (reconstruction * batch["brain"])[..., :1]}
    return Embedding(z, {"mae": mae}, residual, panels)


def by_patch(x: jax.Array, brain: jax.Array, patch: int) -> jax.Array:
    """Average x `[B, *S, 1]` over the brain in each patch of `patch` pixels a side, `[B, patches]`; 0 without brain."""
    total, count = _patch_sums(x * brain, patch), _patch_sums(brain, patch)
    return (total / jnp.maximum(count, 1.0)).reshape(len(x), -1)


def _patch_sums(x: jax.Array, patch: int) -> jax.Array:
    window = (1, *(patch,) * (x.ndim - 2), 1)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, window, "VALID")


def _check_slices(config: ConfigDict, divisor: int) -> None:
    check_sides(config, divisor)
    patch_grid(tuple(config.data.size), config.mask.patch)

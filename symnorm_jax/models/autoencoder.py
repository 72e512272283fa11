"""The convolutional autoencoder that the reconstruction rivals share, the unified one of Baur et al. (2021)."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from symnorm_jax.models.unet import Upsample, group_norm
from symnorm_jax.models.vae import LOG_VARIANCES

KERNEL = 5  # pixels a side
NARROWING = 8  # by which a 1 x 1 convolution divides the channels before the dense bottleneck


class Autoencoder(nn.Module):
    """Reconstruct an image by strided 5 x 5 convolutions to a dense bottleneck, and back.

    GroupNorm stands in for the authors' BatchNorm, and pixel shuffles for transposed convolutions. Sides divide by
    `2 ** len(widths)`; `variational` adds the log-variance of a posterior.
    """

    widths: Sequence[int]
    size: Sequence[int]
    latent: int = 128
    channels: int = 1
    variational: bool = False
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    def setup(self):
        rank, narrow = len(self.size), max(self.widths[-1] // NARROWING, 1)
        self.sides = [side >> len(self.widths) for side in self.size]
        block = partial(nn.remat(ResampleBlock) if self.remat else ResampleBlock, dtype=self.dtype)
        conv, dense = partial(nn.Conv, kernel_size=(1,) * rank, dtype=self.dtype), partial(nn.Dense, dtype=self.dtype)
        self.down = [block(width) for width in self.widths]
        self.narrow = conv(narrow)
        self.mean = dense(self.latent)
        self.log_variance = dense(self.latent, kernel_init=nn.initializers.zeros) if self.variational else None
        self.wide = dense(int(np.prod(self.sides)) * narrow)
        self.widen = conv(self.widths[-1])
        self.up = [block(width, up=True) for width in self.widths[::-1]]
        self.out = conv(self.channels)

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Compute the bottleneck's mean `[B, latent]`, and its log-variance `[B, latent]` if variational."""
        for block in self.down:
            x = block(x)
        x = self.narrow(x).reshape(len(x), -1)
        mean = self.mean(x).astype(jnp.float32)
        return mean, self.log_variance(x).astype(jnp.float32).clip(*LOG_VARIANCES) if self.variational else None

    def decode(self, z: jax.Array) -> jax.Array:
        """Reconstruct images from the bottleneck, `[B, latent] -> [B, *size, channels]`."""
        x = self.widen(self.wide(z).reshape(len(z), *self.sides, -1))
        for block in self.up:
            x = block(x)
        return self.out(x).astype(jnp.float32)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Reconstruct images from the mean, `[B, *S, C] -> [B, *S, channels]`."""
        return self.decode(self.encode(x)[0])


class ResampleBlock(nn.Module):
    """Halve the sides, or with `up` double them, by convolution, GroupNorm and leaky ReLU."""

    width: int
    up: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        strides, kernel = 1 if self.up else 2, (KERNEL,) * (x.ndim - 2)
        x = nn.Conv(self.width, kernel, strides, use_bias=False, dtype=self.dtype)(x)
        x = nn.leaky_relu(group_norm(x)(x))
        return Upsample(self.width, self.dtype)(x) if self.up else x

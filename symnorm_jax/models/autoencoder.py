"""The convolutional autoencoder with a dense bottleneck that reconstruction baselines of the field share."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from symnorm_jax.models.unet import Upsample, group_norm
from symnorm_jax.models.vae import MAX_LOG_VARIANCE

KERNEL = 5  # pixels a side
NARROWING = 8  # by which a 1 x 1 convolution divides the channels before the dense bottleneck


class Autoencoder(nn.Module):
    """The unified architecture of Baur et al. (2021): strided 5 x 5 convolutions and a dense bottleneck, and back.

    Where theirs has BatchNorm it has GroupNorm, and for transposed convolutions pixel shuffles. Sides divide by
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
        sides = [side >> len(self.widths) for side in self.size]
        level = nn.remat(Level) if self.remat else Level
        self.down = [level(width, dtype=self.dtype) for width in self.widths]
        conv, dense = partial(nn.Conv, dtype=self.dtype), partial(nn.Dense, dtype=self.dtype)
        self.narrow = conv(narrow, (1,) * rank)
        self.mean = dense(self.latent)
        self.log_variance = dense(self.latent, kernel_init=nn.initializers.zeros) if self.variational else None
        self.wide = dense(int(np.prod(sides)) * narrow)
        self.widen = conv(self.widths[-1], (1,) * rank)
        self.up = [level(width, up=True, dtype=self.dtype) for width in self.widths[::-1]]
        self.out = conv(self.channels, (1,) * rank)

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """The bottleneck's mean `[B, latent]`, and its log-variance `[B, latent]` if variational."""
        for level in self.down:
            x = level(x)
        x = self.narrow(x).reshape(len(x), -1)
        mean = self.mean(x).astype(jnp.float32)
        if self.log_variance is None:
            return mean, None
        return mean, self.log_variance(x).astype(jnp.float32).clip(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE)

    def decode(self, z: jax.Array) -> jax.Array:
        """`[B, latent] -> [B, *size, channels]`."""
        sides = [side >> len(self.widths) for side in self.size]
        x = self.widen(self.wide(z).reshape(len(z), *sides, -1))
        for level in self.up:
            x = level(x)
        return self.out(x).astype(jnp.float32)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Reconstruction from the mean, `[B, *S, C] -> [B, *S, channels]`."""
        mean, _ = self.encode(x)
        return self.decode(mean)


class Level(nn.Module):
    """Halves the sides, or with `up` doubles them; normalised and leaky."""

    width: int
    up: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        rank = x.ndim - 2
        x = nn.Conv(self.width, (KERNEL,) * rank, strides=1 if self.up else 2, use_bias=False, dtype=self.dtype)(x)
        x = nn.leaky_relu(group_norm(x)(x))
        return Upsample(self.width, self.dtype)(x) if self.up else x

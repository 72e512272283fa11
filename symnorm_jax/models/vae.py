"""The convolutional Beta-VAE (Higgins et al. 2017) that embeds difference maps.

It has no normalisation layers: they would divide out the size of a difference, which is what tells a lesion.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from symnorm_jax.models.unet import Upsample

LOG_VARIANCES = (-10.0, 10.0)  # bounds exp() in the first steps, before the posterior has settled


class Encoder(nn.Module):
    """Compute the posterior's mean and log-variance, `[B, *S, C] -> [B, latent]` each; a width halves the sides."""

    widths: Sequence[int]
    latent: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        for width in self.widths:
            x = nn.silu(nn.Conv(width, (3,) * (x.ndim - 2), strides=2, dtype=self.dtype)(x))
        x = x.reshape(len(x), -1)
        log_variance = nn.Dense(self.latent, kernel_init=nn.initializers.zeros, dtype=self.dtype)(x)
        mean = nn.Dense(self.latent, dtype=self.dtype)(x)
        return mean.astype(jnp.float32), log_variance.astype(jnp.float32).clip(*LOG_VARIANCES)


class Decoder(nn.Module):
    """Compute the likelihood's mean, `[B, latent] -> [B, *size, channels]`."""

    widths: Sequence[int]
    size: Sequence[int]
    channels: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        sides = [side >> len(self.widths) for side in self.size]
        x = nn.Dense(int(np.prod(sides)) * self.widths[-1], dtype=self.dtype)(z).reshape(len(z), *sides, -1)
        for width in self.widths[::-1]:
            x = nn.silu(nn.Conv(width, (3,) * len(sides), dtype=self.dtype)(x))
            x = Upsample(width, self.dtype)(x)
        return nn.Conv(self.channels, (1,) * len(sides), dtype=self.dtype)(x).astype(jnp.float32)


class BetaVAE(nn.Module):
    """Encode and decode maps of `size` pixels. Sides divide by `2 ** len(widths)`."""

    widths: Sequence[int]
    size: Sequence[int]
    latent: int = 1024
    channels: int = 1
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    def setup(self):
        encoder, decoder = (nn.remat(kind) if self.remat else kind for kind in (Encoder, Decoder))
        self.encoder = encoder(self.widths, self.latent, self.dtype)
        self.decoder = decoder(self.widths, self.size, self.channels, self.dtype)

    def __call__(self, x: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Reconstruct `[B, *S, C]` from one posterior sample; the posterior's mean and log-variance `[B, D]` follow.

        `noise` is standard normal `[B, D]`, drawn by the caller, who alone knows the key policy.
        """
        mean, log_variance = self.encoder(x)
        return self.decoder(mean + noise * jnp.exp(0.5 * log_variance)), mean, log_variance

    def encode(self, x: jax.Array) -> jax.Array:
        """Compute the embedding, the posterior mean: `[B, *S, C] -> [B, D]`."""
        return self.encoder(x)[0]

"""The autoencoder of the reconstruction rivals, the Beta-VAE of difference maps, and the decoder of masked volumes."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from symnorm_jax.models.unet import Upsample, group_norm, pixel_shuffle

LOG_VARIANCES = (-10.0, 10.0)  # bounds exp() in the first steps, before the posterior has settled


class Autoencoder(nn.Module):
    """Reconstruct an image by strided 5 x 5 convolutions to a dense bottleneck, and back (Baur et al. 2021).

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
        rank, narrow = len(self.size), max(self.widths[-1] // 8, 1)  # channels before the dense bottleneck
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
        x = self.narrow(x).reshape(x.shape[0], -1)
        mean = self.mean(x).astype(jnp.float32)
        return mean, self.log_variance(x).astype(jnp.float32).clip(*LOG_VARIANCES) if self.variational else None

    def decode(self, z: jax.Array) -> jax.Array:
        """Reconstruct images from the bottleneck, `[B, latent] -> [B, *size, channels]`."""
        x = self.widen(self.wide(z).reshape(z.shape[0], *self.sides, -1))
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
        strides, kernel = 1 if self.up else 2, (5,) * (x.ndim - 2)
        x = nn.Conv(self.width, kernel, strides, use_bias=False, dtype=self.dtype)(x)
        x = nn.leaky_relu(group_norm(x)(x))
        return Upsample(self.width, self.dtype)(x) if self.up else x


class Encoder(nn.Module):
    """Compute the posterior's mean and log-variance, `[B, *S, C] -> [B, latent]` each; a width halves the sides."""

    widths: Sequence[int]
    latent: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        for width in self.widths:
            x = nn.silu(nn.Conv(width, (3,) * (x.ndim - 2), strides=2, dtype=self.dtype)(x))
        x = x.reshape(x.shape[0], -1)
        log_variance = nn.Dense(self.latent, kernel_init=nn.initializers.zeros, dtype=self.dtype)(x)
        mean = nn.Dense(self.latent, dtype=self.dtype)(x)
        return mean.astype(jnp.float32), log_variance.astype(jnp.float32).clip(*LOG_VARIANCES)


class Decoder(nn.Module):
    """Compute the likelihood's mean, `[B, latent] -> [B, *size, 1]`."""

    widths: Sequence[int]
    size: Sequence[int]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        sides = [side >> len(self.widths) for side in self.size]
        x = nn.Dense(int(np.prod(sides)) * self.widths[-1], dtype=self.dtype)(z).reshape(z.shape[0], *sides, -1)
        for width in self.widths[::-1]:
            x = nn.silu(nn.Conv(width, (3,) * len(sides), dtype=self.dtype)(x))
            x = Upsample(width, self.dtype)(x)
        return nn.Conv(1, (1,) * len(sides), dtype=self.dtype)(x).astype(jnp.float32)


class BetaVAE(nn.Module):
    """Embed maps of `size` pixels and reconstruct them (Higgins et al. 2017). Sides divide by `2 ** len(widths)`.

    There are no normalisation layers: they would divide out the size of a difference, which is what tells a lesion.
    """

    widths: Sequence[int]
    size: Sequence[int]
    latent: int = 1024
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    def setup(self):
        encoder, decoder = (nn.remat(kind) if self.remat else kind for kind in (Encoder, Decoder))
        self.encoder = encoder(self.widths, self.latent, self.dtype)
        self.decoder = decoder(self.widths, self.size, self.dtype)

    def __call__(self, x: jax.Array, noise: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Reconstruct `[B, *S, 1]` with standard normal `noise` `[B, D]`; posterior mean and log-variance follow."""
        mean, log_variance = self.encoder(x)
        return self.decoder(mean + noise * jnp.exp(0.5 * log_variance)), mean, log_variance

    def encode(self, x: jax.Array) -> jax.Array:
        """Compute the embedding, the posterior mean: `[B, *S, 1] -> [B, D]`."""
        return self.encoder(x)[0]


class Decoder3D(nn.Module):
    """Decode a map that is `stride` times coarser than the volume, sides rounded up: `[B, *s, C] -> [B, *size, 1]`.

    Each width doubles the sides; then a linear layer draws all voxels under a place at once. GroupNorm throughout keeps
    one example independent of another. `stride` must divide by `2 ** len(widths)`.
    """

    widths: Sequence[int]
    size: Sequence[int]
    stride: int
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        stride, block = self.stride, nn.remat(UpBlock) if self.remat else UpBlock
        for i, width in enumerate(self.widths):
            stride //= 2
            x = block(width, tuple(-(-side // stride) for side in self.size), self.dtype, name=f"level{i}")(x)
        x = nn.Conv(stride**3, (1, 1, 1), dtype=self.dtype, name="voxels")(x)
        return pixel_shuffle(x, 1, stride)[:, *map(slice, self.size)].astype(jnp.float32)


class UpBlock(nn.Module):
    """Double the sides, cut them to `size`, which was rounded up, and convolve: `[B, *s, C] -> [B, *size, width]`."""

    width: int
    size: Sequence[int]
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Upsample(self.width, self.dtype)(x)[:, *map(slice, self.size)]
        x = nn.Conv(self.width, (3, 3, 3), use_bias=False, dtype=self.dtype)(x)
        return nn.relu(group_norm(x)(x))

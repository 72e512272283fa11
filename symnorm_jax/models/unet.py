"""The U-Net (Ronneberger et al. 2015) with GroupNorm, SiLU and up-sampling by pixel shuffle.

Blocks take two or three spatial axes alike. Every network of `models/` computes in its `dtype`, keeps its parameters
and the statistics of its norms in float32, and answers in float32.
"""

import math
from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def group_norm(x: jax.Array) -> nn.GroupNorm:
    """Make a GroupNorm for x of up to 8 groups, as many as divide its channels; it reduces in float32."""
    return nn.GroupNorm(num_groups=math.gcd(8, x.shape[-1]), dtype=x.dtype)


def pixel_shuffle(x: jax.Array, channels: int, factor: int = 2) -> jax.Array:
    """Turn channels into resolution, `[B, *S, factor**rank * C] -> [B, *(factor * S), C]` (Shi et al. 2016)."""
    (batch, *sides, _), rank = x.shape, x.ndim - 2
    x = x.reshape(batch, *sides, *(factor,) * rank, channels)
    order = [0, *(axis for i in range(rank) for axis in (1 + i, 1 + rank + i)), 1 + 2 * rank]
    return x.transpose(order).reshape(batch, *(factor * side for side in sides), channels)


def pixel_unshuffle(x: jax.Array, factor: int = 2) -> jax.Array:
    """Invert `pixel_shuffle`, `[B, *(factor * S), C] -> [B, *S, factor**rank * C]`."""
    (batch, *sides, channels), rank = x.shape, x.ndim - 2
    x = x.reshape(batch, *(part for side in sides for part in (side // factor, factor)), channels)
    order = [0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 1 + 2 * rank]
    return x.transpose(order).reshape(batch, *(side // factor for side in sides), channels * factor**rank)


class ConvBlock(nn.Module):
    """Apply convolution, GroupNorm and SiLU `depth` times: `[B, *S, C] -> [B, *S, width]`."""

    width: int
    depth: int = 2
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.depth):
            x = nn.Conv(self.width, (3,) * (x.ndim - 2), use_bias=False, dtype=self.dtype)(x)
            x = nn.silu(group_norm(x)(x))
        return x


class Upsample(nn.Module):
    """Double the resolution by a 1x1 convolution and a pixel shuffle: `[B, *S, C] -> [B, *2S, width]`.

    Equal to a transposed convolution of kernel and stride 2, whose gradient XLA computes many times slower.
    """

    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        rank = x.ndim - 2
        x = nn.Conv(self.width * 2**rank, (1,) * rank, dtype=self.dtype)(x)
        return pixel_shuffle(x, self.width)


class UNet(nn.Module):
    """Predict an image from an image, with a level of resolution per width: `[B, *S, C] -> [B, *S, channels]`.

    A `stem` above 1 folds that many pixels a side into channels and unfolds them at the end. Nothing is lost by it, and
    most of the time, which full resolution would take, is saved. Sides divide by `stem * 2 ** (len(widths) - 1)`. The
    encoder's features of each level are sown as the intermediate `encoder`. With `remat` the backward pass computes the
    blocks again instead of keeping their activations.
    """

    widths: Sequence[int]
    depth: int = 2
    stem: int = 1
    channels: int = 1
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        rank, skips, x = x.ndim - 2, [], pixel_unshuffle(x, self.stem)
        block = partial(nn.remat(ConvBlock) if self.remat else ConvBlock, depth=self.depth, dtype=self.dtype)
        for i, width in enumerate(self.widths):
            x = nn.avg_pool(x, (2,) * rank, (2,) * rank) if i else x
            skips.append(x := block(width, name=f"ConvBlock_{i}")(x))  # named, so that `remat` changes no name
        self.sow("intermediates", "encoder", [skip.astype(jnp.float32) for skip in skips])
        for i, (width, skip) in enumerate(zip(self.widths[-2::-1], skips[-2::-1], strict=True), len(skips)):
            x = block(width, name=f"ConvBlock_{i}")(jnp.concatenate([Upsample(width, self.dtype)(x), skip], -1))
        x = nn.Conv(self.channels * self.stem**rank, (1,) * rank, dtype=self.dtype)(x)
        return pixel_shuffle(x, self.channels, self.stem).astype(jnp.float32)

"""The U-Net (Ronneberger et al. 2015) with GroupNorm, SiLU and up-sampling by pixel shuffle.

Blocks take two or three spatial axes alike: kernels are sized from the rank of their input.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


def group_norm(x: jax.Array) -> nn.GroupNorm:
    """GroupNorm with up to 8 groups, as many as divide the channels of x."""
    return nn.GroupNorm(num_groups=math.gcd(8, x.shape[-1]))


def pixel_shuffle(x: jax.Array, channels: int, factor: int = 2) -> jax.Array:
    """Turn channels into resolution, `[B, *S, factor**rank * C] -> [B, *(factor * S), C]` (Shi et al. 2016)."""
    batch, *sides = x.shape[:-1]
    rank = len(sides)
    x = x.reshape(batch, *sides, *(factor,) * rank, channels)
    order = [0, *(axis for i in range(rank) for axis in (1 + i, 1 + rank + i)), 1 + 2 * rank]
    return x.transpose(order).reshape(batch, *(factor * side for side in sides), channels)


def pixel_unshuffle(x: jax.Array, factor: int = 2) -> jax.Array:
    """The inverse of `pixel_shuffle`, `[B, *(factor * S), C] -> [B, *S, factor**rank * C]`."""
    batch, *sides, channels = x.shape
    rank = len(sides)
    x = x.reshape(batch, *(part for side in sides for part in (side // factor, factor)), channels)
    order = [0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 1 + 2 * rank]
    return x.transpose(order).reshape(batch, *(side // factor for side in sides), channels * factor**rank)


class ConvBlock(nn.Module):
    """`depth` times convolution, GroupNorm, SiLU: `[B, *S, C] -> [B, *S, width]`."""

    width: int
    depth: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.depth):
            x = nn.Conv(self.width, (3,) * (x.ndim - 2), use_bias=False)(x)
            x = nn.silu(group_norm(x)(x))
        return x


class Upsample(nn.Module):
    """Doubles the resolution: 1x1 convolution, then pixel shuffle, `[B, *S, C] -> [B, *2S, width]`.

    Equal to a transposed convolution of kernel and stride 2, whose gradient XLA computes many times slower.
    """

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        rank = x.ndim - 2
        x = nn.Conv(self.width * 2**rank, (1,) * rank)(x)
        return pixel_shuffle(x, self.width)


class UNet(nn.Module):
    """One resolution level per width, the first at 1 / stem of the input's: `[B, *S, C] -> [B, *S, channels]`.

    A `stem` above 1 folds that many pixels a side into channels and unfolds them at the end, which loses nothing and
    saves most of the time, spent at full resolution. Sides divide by `stem * 2 ** (len(widths) - 1)`. What the encoder
    makes of each level is sown as the intermediate `encoder`.
    """

    widths: Sequence[int]
    depth: int = 2
    stem: int = 1
    channels: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = pixel_unshuffle(x, self.stem)
        skips = []
        for level, width in enumerate(self.widths):
            x = nn.avg_pool(x, (2,) * (x.ndim - 2), (2,) * (x.ndim - 2)) if level else x
            x = ConvBlock(width, self.depth)(x)
            skips.append(x)
        self.sow("intermediates", "encoder", skips)
        for width, skip in zip(self.widths[-2::-1], skips[-2::-1], strict=True):
            x = ConvBlock(width, self.depth)(jnp.concatenate([Upsample(width)(x), skip], -1))
        rank = x.ndim - 2
        x = nn.Conv(self.channels * self.stem**rank, (1,) * rank)(x)
        return pixel_shuffle(x, self.channels, self.stem)

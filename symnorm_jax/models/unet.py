"""The U-Net (Ronneberger et al. 2015) with GroupNorm, SiLU and up-sampling by pixel shuffle.

Blocks take two or three spatial axes alike: kernels are sized from the rank of their input.

Every network of `models/` computes in its `dtype`, keeps its parameters and the statistics of its norms in float32, and
answers in float32.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def group_norm(x: jax.Array) -> nn.GroupNorm:
    """GroupNorm with up to 8 groups, as many as divide the channels of x; reduced in float32, in the type of x."""
    return nn.GroupNorm(num_groups=math.gcd(8, x.shape[-1]), dtype=x.dtype)


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
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.depth):
            x = nn.Conv(self.width, (3,) * (x.ndim - 2), use_bias=False, dtype=self.dtype)(x)
            x = nn.silu(group_norm(x)(x))
        return x


class Upsample(nn.Module):
    """Doubles the resolution: 1x1 convolution, then pixel shuffle, `[B, *S, C] -> [B, *2S, width]`.

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
    """One resolution level per width, the first at 1 / stem of the input's: `[B, *S, C] -> [B, *S, channels]`.

    A `stem` above 1 folds that many pixels a side into channels and unfolds them at the end, which loses nothing and
    saves most of the time, spent at full resolution. Sides divide by `stem * 2 ** (len(widths) - 1)`. What the encoder
    makes of each level is sown as the intermediate `encoder`. With `remat` the backward pass computes the blocks again
    in place of keeping what is inside them.
    """

    widths: Sequence[int]
    depth: int = 2
    stem: int = 1
    channels: int = 1
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = pixel_unshuffle(x, self.stem)
        blocks, skips = self._blocks(), []
        for level, width in enumerate(self.widths):
            x = nn.avg_pool(x, (2,) * (x.ndim - 2), (2,) * (x.ndim - 2)) if level else x
            x = next(blocks)(width)(x)
            skips.append(x)
        self.sow("intermediates", "encoder", [skip.astype(jnp.float32) for skip in skips])
        for width, skip in zip(self.widths[-2::-1], skips[-2::-1], strict=True):
            x = next(blocks)(width)(jnp.concatenate([Upsample(width, self.dtype)(x), skip], -1))
        rank = x.ndim - 2
        x = nn.Conv(self.channels * self.stem**rank, (1,) * rank, dtype=self.dtype)(x)
        return pixel_shuffle(x, self.channels, self.stem).astype(jnp.float32)

    def _blocks(self) -> Iterator[Callable[[int], nn.Module]]:
        """Makers of blocks from their width, one after another, named alike with and without `remat`."""
        kind = nn.remat(ConvBlock) if self.remat else ConvBlock
        for i in itertools.count():
            yield partial(kind, depth=self.depth, dtype=self.dtype, name=f"ConvBlock_{i}")

"""From the last map of a 3-D encoder back to the volume, without a way around that map."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from symnorm_jax.models.unet import Upsample, group_norm, pixel_shuffle


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

"""Decoders that mark voxels from the maps of a 3-D Swin: that of Swin-UNETR, and a light one for CPUs."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from symnorm_jax.models.unet import ConvBlock, Upsample, pixel_shuffle

torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # as torch begins a convolution


class SwinUNETR(nn.Module):
    """Give the logits of voxels of a volume `[B, *S, C]`, `[B, *S, 1]`, as in Hatamizadeh et al. (2022) and MONAI.

    `maps` are those of its Swin, finest first, and `last` what has become of the last one: the only one that knows of
    a mirror image. All but the two coarsest pass a residual block on their way across, and so does the volume.
    """

    patch: int = 2
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, volume: jax.Array, maps: Sequence[jax.Array], last: jax.Array) -> jax.Array:
        block = nn.remat(Residual) if self.remat else Residual
        skips = [(maps[0].shape[-1], volume), *((x.shape[-1], x) for x in maps[:-1])]
        skips = [block(width, self.dtype, name=f"across{i}")(x) for i, (width, x) in enumerate(skips)] + [maps[-1]]
        x = block(last.shape[-1], self.dtype, name="last")(last)
        for i, skip in reversed(list(enumerate(skips))):
            x = self._up(x, skip, 2 if i else self.patch, f"up{i}")
            x = block(skip.shape[-1], self.dtype, name=f"level{i}")(x)
        conv = nn.Conv(1, (1, 1, 1), dtype=self.dtype, kernel_init=torch_uniform, name="voxels")
        return conv(x).astype(jnp.float32)

    def _up(self, x: jax.Array, skip: jax.Array, factor: int, name: str) -> jax.Array:
        """Enlarge x by a transposed convolution, written as a linear layer and a shuffle, and put `skip` behind it."""
        width = skip.shape[-1]
        linear = nn.Dense(width * factor**3, use_bias=False, dtype=self.dtype, kernel_init=torch_uniform, name=name)
        x = pixel_shuffle(linear(x), width, factor)[:, *map(slice, skip.shape[1:4])]  # odd sides were rounded up
        return jnp.concatenate([x, skip.astype(x.dtype)], -1)


class Residual(nn.Module):
    """Add two convolutions, each with InstanceNorm, to the input or a linear image of it: `[B, *S, C -> width]`."""

    width: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def conv(x: jax.Array, side: int, name: str) -> jax.Array:
            shared = {"use_bias": False, "dtype": self.dtype, "kernel_init": torch_uniform, "name": name}
            x = nn.Conv(self.width, (side,) * 3, **shared)(x)
            return nn.InstanceNorm(epsilon=1e-5, use_bias=False, use_scale=False, dtype=self.dtype)(x)

        inside = conv(nn.leaky_relu(conv(x, 3, "conv1")), 3, "conv2")
        x = conv(x, 1, "shortcut") if x.shape[-1] != self.width else x
        return nn.leaky_relu(inside + x)


class LightDecoder(nn.Module):
    """Do as SwinUNETR by one convolution a level, and draw all voxels of a patch at once: `[B, *S, 1]`.

    Nothing is computed at full resolution, where Swin-UNETR spends ten times what its Swin does.
    """

    patch: int = 2
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, volume: jax.Array, maps: Sequence[jax.Array], last: jax.Array) -> jax.Array:
        x, block = last, nn.remat(ConvBlock) if self.remat else ConvBlock
        for i, skip in reversed(list(enumerate(maps))):
            x = Upsample(skip.shape[-1], self.dtype, name=f"up{i}")(x)[:, *map(slice, skip.shape[1:4])]
            x = block(skip.shape[-1], 1, self.dtype, name=f"level{i}")(jnp.concatenate([x, skip.astype(x.dtype)], -1))
        x = nn.Dense(self.patch**3, dtype=self.dtype, name="voxels")(x)
        return pixel_shuffle(x, 1, self.patch)[:, *map(slice, volume.shape[1:4])].astype(jnp.float32)

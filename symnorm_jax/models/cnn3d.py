"""The simple fully convolutional network of brain age, trained from scratch (Peng et al. 2021, Med. Image Anal. 68)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from symnorm_jax.models.resnet3d import BatchNorm, he_normal


class CNN3D(nn.Module):
    """Compute features of volumes, `[B, X, Y, Z, C] -> [B, features]`; sides must be `2 ** len(widths)` or more.

    There is a 3x3x3 block with pooling for each width, a 1x1x1 block without, and the mean over what is left. The
    published widths are the defaults. The dropout before the last layer is left out, so that these features are trained
    and read like those of the other encoders. With `train` the batch's own statistics normalise it and move the running
    ones.
    """

    widths: Sequence[int] = (32, 64, 128, 256, 256)
    features: int = 64
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        block = nn.remat(PooledBlock) if self.remat else PooledBlock
        for i, width in enumerate(self.widths):
            x = block(width, 3, True, train, self.dtype, name=f"block{i}")(x)
        x = block(self.features, 1, False, train, self.dtype, name="last")(x)
        return x.mean((1, 2, 3), dtype=jnp.float32)


class PooledBlock(nn.Module):
    """Apply convolution, BatchNorm, max-pooling if it `pools`, and ReLU: `[B, *S, C] -> [B, *S / 2 or S, width]`."""

    width: int
    kernel: int
    pools: bool
    train: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # without a bias, which the norm would take away
        conv = nn.Conv(self.width, (self.kernel,) * 3, use_bias=False, dtype=self.dtype, kernel_init=he_normal)
        x = BatchNorm(self.train, self.dtype)(conv(x))
        return nn.relu(nn.max_pool(x, (2, 2, 2), (2, 2, 2)) if self.pools else x)

"""A small 3-D network that is trained with labels from scratch: the simple fully convolutional network of brain age.

Peng et al., Accurate brain age prediction with lightweight deep neural networks, Medical Image Analysis 68 (2021).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from symnorm_jax.models.resnet3d import BatchNorm, he_normal


class CNN3D(nn.Module):
    """`[B, X, Y, Z, C] -> [B, features]`; sides must be `2 ** len(widths)` or more.

    A block for each width, 3x3x3 convolution, BatchNorm, halving by max-pooling and ReLU, then one of 1x1x1 without
    pooling, and the mean over what is left. The published widths are the defaults. Its dropout before the last layer
    is left out, so that its features are trained and read like those of the other encoders.
    """

    widths: Sequence[int] = (32, 64, 128, 256, 256)
    features: int = 64
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Features `[B, features]`; in training by the statistics of the batch, which the running ones take in."""
        block = nn.remat(Block) if self.remat else Block
        for i, width in enumerate(self.widths):
            x = block(width, 3, True, train, self.dtype, name=f"block{i}")(x)
        x = block(self.features, 1, False, train, self.dtype, name="last")(x)
        return x.mean((1, 2, 3), dtype=jnp.float32)


class Block(nn.Module):
    """Convolution, norm, pooling and ReLU: `[B, *S, C] -> [B, *S / 2, width]`, the same sides unless `pools`."""

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

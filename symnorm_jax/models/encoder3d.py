"""Encoders of volumes, the projector and the head: the ResNet of 3D-Neuro-SimCLR, and a network of brain age.

ResNet and projector are as Kaczmarek et al. (arXiv 2509.10620) released them: a first convolution of stride 1,
max-pooling, basic blocks, shortcuts of kind B with a bias. Paddings and running statistics are torch's, so that its
weights give its features.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from symnorm_jax.errors import InputError
from symnorm_jax.models.unet import group_norm

MEMORY = 0.9  # share of the running statistics that a batch leaves as it was; torch calls 0.1 the momentum
EPSILON = 1e-5
NORMS = ("batch", "group")
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # He et al. 2015


class ResNet3D(nn.Module):
    """Compute features of volumes, `[B, X, Y, Z, C] -> [B, widths[-1]]`; the defaults are the released ResNet-18.

    As in He et al. (2016) and, in three dimensions, Hara et al. (2018). A level for each width has `depths` blocks; all
    but the first halve the sides. With `norm="batch"` the collection `batch_stats` holds running statistics, which a
    batch, whole however it is spread over devices, moves in training. Without `pooled` the map `[B, *s, widths[-1]]` is
    given, whose mean the features are. With `remat` the backward pass computes stem and blocks again instead of keeping
    their activations. Raises InputError for another `norm`.
    """

    widths: Sequence[int] = (64, 128, 256, 512)
    depths: Sequence[int] = (2, 2, 2, 2)
    stem_kernel: int = 7
    stem_stride: int = 1
    norm: str = "batch"
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, pooled: bool = True) -> jax.Array:
        if self.norm not in NORMS:
            raise InputError(f"norm={self.norm!r}; one of {NORMS} is allowed.")
        stem, block = (nn.remat(kind) if self.remat else kind for kind in (Stem, BasicBlock))
        shared = {"norm": self.norm, "train": train, "dtype": self.dtype}
        x = stem(self.widths[0], self.stem_kernel, self.stem_stride, **shared, name="stem")(x)
        for level, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True), 1):
            for i in range(depth):
                stride = 2 if level > 1 and i == 0 else 1
                x = block(width, stride, **shared, name=f"level{level}_block{i}")(x)
        return x.mean((1, 2, 3), dtype=jnp.float32) if pooled else x


class CNN3D(nn.Module):
    """Compute features of volumes, `[B, X, Y, Z, C] -> [B, features]`; sides must be `2 ** len(widths)` or more.

    The network of Peng et al. (2021, Med. Image Anal. 68), widths included: a 3x3x3 block with pooling for each width,
    a 1x1x1 block without, and the mean over what is left. Without its last dropout, to be trained like the ResNet.
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


class Projector(nn.Module):
    """Project features for the contrastive loss, which alone sees this: `[B, D] -> [B, out]` (Chen et al. 2020)."""

    hidden: int = 512
    out: int = 64
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(self.hidden, use_bias=False, dtype=self.dtype, name="hidden")(x))
        return nn.Dense(self.out, use_bias=False, dtype=self.dtype, name="out")(x).astype(jnp.float32)


class Head(nn.Module):
    """Predict a number from features by a linear layer, `[B, D] -> [B]`; 0 before anything is learned."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(1, kernel_init=nn.initializers.zeros, name="out")(x)[..., 0]


class Stem(nn.Module):
    """Apply the first convolution, norm, ReLU and max-pooling: `[B, *S, C] -> [B, *S / (2 * stride), width]`."""

    width: int
    kernel: int
    stride: int
    norm: str
    train: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(_conv_norm(self, x, self.kernel, self.stride, "conv", "norm"))
        return nn.max_pool(x, (3, 3, 3), (2, 2, 2), ((1, 1),) * 3)


class BasicBlock(nn.Module):
    """Add two 3x3x3 convolutions to a shortcut, `[B, *S, C] -> [B, *S / stride, width]`.

    The shortcut is the input itself or, where its shape would not fit, a biased 1x1x1 convolution and a norm (kind B).
    """

    width: int
    stride: int
    norm: str
    train: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shortcut = x
        x = nn.relu(_conv_norm(self, x, 3, self.stride, "conv1", "norm1"))
        x = _conv_norm(self, x, 3, 1, "conv2", "norm2")
        if self.stride > 1 or shortcut.shape[-1] != self.width:
            shortcut = _conv_norm(self, shortcut, 1, self.stride, "shortcut", "shortcut_norm", use_bias=True)
        return nn.relu(x + shortcut)


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


class BatchNorm(nn.Module):
    """Normalise a batch (Ioffe and Szegedy 2015) over all axes but the last, in float32, given back in `dtype`.

    The running variance takes in the unbiased variance of a batch, as in torch; in Flax's own norm the biased one. A
    batch is normalised by the biased one in both. Raises InputError for one value a channel, which has no variance.
    """

    train: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features, count = x.shape[-1:], x.size // x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, features, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, features)
        bias = self.param("bias", nn.initializers.zeros, features)
        x, mean, var = x.astype(jnp.float32), running_mean.value, running_var.value
        if self.train:
            if count < 2:
                raise InputError(f"a batch of shape {x.shape} has no variance; 2 values a channel or more are needed.")
            axes = tuple(range(x.ndim - 1))
            mean, var = x.mean(axes), x.var(axes)
            if not self.is_initializing():
                running_mean.value = MEMORY * running_mean.value + (1 - MEMORY) * mean
                running_var.value = MEMORY * running_var.value + (1 - MEMORY) * var * count / (count - 1)
        factor = scale * jax.lax.rsqrt(var + EPSILON)
        wide = (1,) * (x.ndim - 1) + features
        return ((x - mean.reshape(wide)) * factor.reshape(wide) + bias.reshape(wide)).astype(self.dtype)


def _conv_norm(module, x: jax.Array, kernel: int, stride: int, conv: str, norm: str, use_bias=False) -> jax.Array:
    """Convolve and normalise by layers of those names; with torch's padding, where SAME pads even sides at one end."""
    shared = {"use_bias": use_bias, "dtype": module.dtype, "kernel_init": he_normal}
    x = nn.Conv(module.width, (kernel,) * 3, stride, kernel // 2, **shared, name=conv)(x)
    return group_norm(x)(x) if module.norm == "group" else BatchNorm(module.train, x.dtype, name=norm)(x)

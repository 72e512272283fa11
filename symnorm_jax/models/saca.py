"""Symmetry-aware cross-attention (Ma et al., MICCAI 2024): a Swin of a volume and of its mirror image, and heads."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from symnorm_jax.geometry import mirror_batch
from symnorm_jax.models.swin3d import MLP, Swin3D, linear_init

EPSILON = 1e-12  # of the block's norms, as in BERT
MOST = 16  # times that a decoder narrows the width of its input
POOLS = ("mean", "token")


class PairedSwin(nn.Module):
    """Compute features of volumes beside their mirror images, `[B, X, Y, Z, C] -> [B, D]`, D = `embed` * 2**stages.

    Tokens of a volume, the places of the Swin's last map, attend to themselves and to those of its mirror image, which
    the same Swin makes; with `cross_heads=0` there is no such block, and no mirror image. Features are the tokens' mean
    or, with `pool="token"` and as released, the first of them, in a corner of the box.
    """

    embed: int = 48
    depths: Sequence[int] = (2, 2, 2, 2)
    heads: Sequence[int] = (3, 6, 12, 24)
    window: int = 7
    patch: int = 2
    merging: str = "fixed"
    clip: str = "exact"
    cross_heads: int = 12
    pool: str = "mean"  # one of POOLS
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    def setup(self):
        shape = self.embed, self.depths, self.heads, self.window, self.patch, self.merging, self.clip
        self.swin = Swin3D(*shape, self.dtype, self.remat)
        self.saca = CrossAttention(self.cross_heads, self.dtype) if self.cross_heads else None

    def maps(self, x: jax.Array) -> list[jax.Array]:
        """Give the maps of the Swin of volumes `[B, X, Y, Z, C]`, finest first, float32."""
        return self.swin(x)

    def tokens(self, x: jax.Array) -> jax.Array:
        """Give the last map of volumes, `[B, X, Y, Z, C] -> [B, *n, D]`, float32."""
        return self.swin(x)[-1]

    def attend(self, tokens: jax.Array, mirrored: jax.Array) -> jax.Array:
        """Let tokens `[B, *n, D]` attend to themselves and to those of the mirror image; float32."""
        if self.saca is None:
            return tokens
        flat = [x.reshape(x.shape[0], -1, x.shape[-1]) for x in (tokens, mirrored)]
        return self.saca(*flat).reshape(tokens.shape)

    def pooled(self, tokens: jax.Array, place: int = 0) -> jax.Array:
        """Make one vector of tokens, `[B, *n, D] -> [B, D]`: their mean, or the one at `place` in the order x, y, z."""
        flat = tokens.reshape(tokens.shape[0], -1, tokens.shape[-1])
        return flat.mean(1) if self.pool == "mean" else flat[:, place]

    def __call__(self, x: jax.Array, train: bool, pooled: bool = True) -> jax.Array:
        """Compute features or, unless `pooled`, what tokens have become `[B, *n, D]`; training changes nothing."""
        both = jnp.stack([x, mirror_batch(x)], 1) if self.saca else x[:, None]  # a pair stays on one device
        tokens = self.tokens(both.reshape(-1, *x.shape[1:]))
        tokens = tokens.reshape(*both.shape[:2], *tokens.shape[1:])
        attended = self.attend(tokens[:, 0], tokens[:, -1])
        return self.pooled(attended) if pooled else attended


class CrossAttention(nn.Module):
    """Let tokens `[B, N, D]` attend to themselves, then to those of the mirror image, as a layer of BERT does.

    Norms follow the sums, tokens have no positions, and there is no dropout, which the release has at 0.1.
    """

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, mirrored: jax.Array) -> jax.Array:
        x, mirrored = tokens.astype(self.dtype), mirrored.astype(self.dtype)
        x = Attention(self.heads, self.dtype, name="own")(x, x)
        x = Attention(self.heads, self.dtype, name="across")(x, mirrored)
        x = x + MLP(4 * x.shape[-1], self.dtype, name="mlp")(x)
        return nn.LayerNorm(EPSILON, name="norm")(x)


class Attention(nn.Module):
    """Attend from x `[B, N, D]` to y `[B, M, D]`, add what is found to x, and normalise."""

    heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        width = x.shape[-1]

        def linear(of: jax.Array, name: str) -> jax.Array:
            return nn.Dense(width, dtype=self.dtype, kernel_init=linear_init, name=name)(of)

        def divided(of: jax.Array, name: str) -> jax.Array:
            return linear(of, name).reshape(*of.shape[:2], self.heads, width // self.heads)

        q, k, v = divided(x, "query"), divided(y, "key"), divided(y, "value")
        logits = jnp.einsum("bnhd,bmhd->bhnm", q * q.shape[-1] ** -0.5, k)
        shares = jax.nn.softmax(logits.astype(jnp.float32)).astype(v.dtype)
        found = jnp.einsum("bhnm,bmhd->bnhd", shares, v).reshape(x.shape)
        return nn.LayerNorm(EPSILON, dtype=self.dtype, name="norm")(linear(found, "out") + x)


class Heads(nn.Module):
    """Answer the proxy tasks from vectors `[B, D]` by a linear layer each.

    `symmetry` and `contrast` project them, `rotation` gives the logits of four quarter turns.
    """

    features: int = 512

    def setup(self):
        dense = lambda width: nn.Dense(width, kernel_init=linear_init)  # noqa: E731
        self.symmetry, self.contrast, self.rotation = dense(self.features), dense(self.features), dense(4)
        self.scale = self.param("scale", nn.initializers.zeros, (2,))  # log of the slope, and the shift, of a cosine

    def __call__(self, x: jax.Array) -> tuple[jax.Array, ...]:
        """Answer all, which makes all parameters."""
        return self.symmetry(x), self.contrast(x), self.rotation(x), self.scale

    def answer(self, x: jax.Array, task: str) -> jax.Array:
        """Answer one task."""
        return getattr(self, task)(x)


class Reconstruction(nn.Module):
    """Paint volumes from tokens, `[B, *n, D] -> [B, *size, 1]`, each of `levels` doubling the sides.

    A convolution, an InstanceNorm without scale and bias, a leaky ReLU, and trilinear enlargement, as released.
    """

    size: Sequence[int]
    levels: int
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width, level = x.shape[-1], nn.remat(Level) if self.remat else Level
        for i in range(self.levels):
            x = level(width // min(2 ** (i + 1), MOST), self.dtype, name=f"level{i}")(x)
        x = nn.Conv(1, (1, 1, 1), dtype=self.dtype, name="voxels")(x)
        return x[:, *map(slice, self.size)].astype(jnp.float32)


class Level(nn.Module):
    """Convolve and double the sides, `[B, *s, C] -> [B, *(2 s), width]`."""

    width: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(self.width, (3, 3, 3), dtype=self.dtype, name="conv")(x)
        x = nn.leaky_relu(nn.InstanceNorm(epsilon=1e-5, use_bias=False, use_scale=False, dtype=self.dtype)(x))
        return jax.image.resize(x, (x.shape[0], *(2 * side for side in x.shape[1:4]), self.width), "trilinear")

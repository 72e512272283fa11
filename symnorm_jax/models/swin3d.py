"""The Swin transformer of volumes (Liu et al. 2021), as MONAI has it in its Swin-UNETR (Hatamizadeh et al. 2022).

Windows, paddings, order of places, epsilons and GELU are MONAI's, so that its weights give its maps. Two things differ
between its releases and are choices here: which corners a merging joins, and which biases a clipped window reads.
Windows and paddings are anchored at one end of an axis: the network is not equivariant to the mirror.
"""

from collections.abc import Sequence
from itertools import product
from math import prod

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

# The corners (x, y, z) of each 2 x 2 x 2 places that a merging joins, in order. `legacy` is MONAI's before 1.5, which
# all Swin-UNETR weights of that time were trained with: it sees two corners twice and two never. `fixed` is that of
# later ones, `v2` what both call mergingv2.
MERGINGS = {
    "legacy": ("000", "100", "010", "001", "101", "010", "001", "111"),
    "fixed": ("000", "100", "010", "001", "110", "101", "011", "111"),
    "v2": ("000", "001", "010", "011", "100", "101", "110", "111"),
}
# Of a window that a small map clips, `exact` reads the biases of its displacements; `monai` those of the places of the
# same numbers in a whole window, which are other displacements.
CLIPS = ("exact", "monai")
EPSILON = 1e-5
APART = -100.0  # added to the logits of two places that must not see each other
linear_init = nn.initializers.normal(0.02)


class Swin3D(nn.Module):
    """Compute a map of each stride, `[B, X, Y, Z, C] -> [B, *s, width]`; the defaults are those of Swin-UNETR.

    The first map is of patches, at stride `patch` and of width `embed`; each stage then halves the sides, rounded up,
    and doubles the width. What is given is normalised over channels, without scale and bias, float32; what goes from
    stage to stage is not. With `remat` the backward pass computes blocks again instead of keeping their insides.
    """

    embed: int = 48
    depths: Sequence[int] = (2, 2, 2, 2)
    heads: Sequence[int] = (3, 6, 12, 24)
    window: int = 7
    patch: int = 2
    merging: str = "fixed"  # one of MERGINGS
    clip: str = "exact"  # one of CLIPS
    dtype: DTypeLike = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> list[jax.Array]:
        block = nn.remat(Block) if self.remat else Block
        x = _padded(x, (self.patch,) * 3)
        maps = [PatchEmbedding(self.embed, self.patch, self.dtype, name="patches")(x)]
        for i, (depth, heads) in enumerate(zip(self.depths, self.heads, strict=True)):
            x = maps[-1]
            for j in range(depth):
                x = block(heads, self.window, j % 2 == 1, self.clip, self.dtype, name=f"stage{i}_block{j}")(x)
            maps.append(Merging(self.merging, self.dtype, name=f"stage{i}_merging")(x))
        plain = nn.LayerNorm(EPSILON, dtype=jnp.float32, use_scale=False, use_bias=False)
        return [plain(one) for one in maps]


class PatchEmbedding(nn.Module):
    """Embed patches of `side` voxels by one linear map, `[B, *S, C] -> [B, *S / side, width]`."""

    width: int
    side: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        bound = (x.shape[-1] * self.side**3) ** -0.5  # uniform, as torch begins a convolution
        uniform = lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound)  # noqa: E731
        sides = (self.side,) * 3
        conv = nn.Conv(self.width, sides, sides, dtype=self.dtype, kernel_init=uniform, bias_init=uniform, name="conv")
        return conv(x)


class Block(nn.Module):
    """Add attention within windows, and after it an MLP, to a map: `[B, X, Y, Z, C] -> [B, X, Y, Z, C]`.

    A window is `window` places a side or, of a smaller map, its side. In a `shifted` block windows lie half a window
    further along each axis that is longer than one.
    """

    heads: int
    window: int
    shifted: bool
    clip: str
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        sides = x.shape[1:4]
        window = tuple(min(side, self.window) for side in sides)
        shift = tuple(self.window // 2 if self.shifted and side > self.window else 0 for side in sides)
        inside = _padded(_norm(self, "norm1")(x), window)  # zeros that take part: their keys and values are biases
        apart = regions(inside.shape[1:4], window, shift) if any(shift) else None
        windows = divided(jnp.roll(inside, [-s for s in shift], (1, 2, 3)), window)
        attention = WindowAttention(self.heads, window, self.window, self.clip, self.dtype, name="attention")
        joined = undivided(attention(windows, apart), inside.shape, window)
        x = x + jnp.roll(joined, shift, (1, 2, 3))[:, *map(slice, sides)]
        return x + MLP(4 * x.shape[-1], self.dtype, name="mlp")(_norm(self, "norm2")(x))


class WindowAttention(nn.Module):
    """Let the places of each window attend to one another, `[B, windows, N, C] -> [B, windows, N, C]`.

    A bias is learned for each displacement within a whole window of `full` places a side. Places of different `regions`
    `[windows, N]` do not see each other.
    """

    heads: int
    window: tuple[int, int, int]
    full: int
    clip: str
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array, apart: np.ndarray | None) -> jax.Array:
        places, width = x.shape[-2:]
        table = self.param("bias", linear_init, ((2 * self.full - 1) ** 3, self.heads))
        three = _dense(3 * width, self.dtype, "qkv")(x).reshape(*x.shape[:-1], 3, self.heads, width // self.heads)
        q, k, v = (three[..., i, :, :] for i in range(3))
        logits = jnp.einsum("bwnhd,bwmhd->bwhnm", q * q.shape[-1] ** -0.5, k).astype(jnp.float32)
        index = bias_index(self.window, self.full, self.clip)
        logits += table[index].reshape(places, places, self.heads).transpose(2, 0, 1)[None, None]
        if apart is not None:
            region = jax.lax.optimization_barrier(jnp.asarray(apart))  # or XLA folds all pairs into a constant
            seen = region[:, :, None] == region[:, None]
            logits += jnp.where(seen, 0.0, APART)[None, :, None]
        shares = jax.nn.softmax(logits).astype(v.dtype)
        attended = jnp.einsum("bwhnm,bwmhd->bwnhd", shares, v).reshape(x.shape)
        return _dense(width, self.dtype, "proj")(attended)


class MLP(nn.Module):
    """Apply a hidden layer with the exact GELU to each place, `[..., C] -> [..., C]`."""

    hidden: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = nn.gelu(_dense(self.hidden, self.dtype, "linear1")(x), approximate=False)
        return _dense(x.shape[-1], self.dtype, "linear2")(hidden)


class Merging(nn.Module):
    """Join corners of 2 x 2 x 2 places to one: `[B, X, Y, Z, C] -> [B, X / 2, Y / 2, Z / 2, 2 C]`, rounded up."""

    kind: str
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width, x = x.shape[-1], _padded(x, (2, 2, 2))
        starts = [map(int, corner) for corner in MERGINGS[self.kind]]
        x = jnp.concatenate([x[:, i::2, j::2, k::2] for i, j, k in starts], -1)
        x = nn.LayerNorm(EPSILON, dtype=self.dtype, name="norm")(x)
        return nn.Dense(2 * width, use_bias=False, dtype=self.dtype, kernel_init=linear_init, name="reduction")(x)


def bias_index(window: tuple[int, int, int], full: int, clip: str) -> np.ndarray:
    """Number the displacement of each two of N places of a window in the table of a whole one, `[N * N]` int."""
    sides = window if clip == "exact" else (full,) * 3
    places = np.array(list(product(*map(range, sides))))[: prod(window)]  # z changes fastest
    apart = places[:, None] - places[None] + full - 1
    return (apart @ [(2 * full - 1) ** 2, 2 * full - 1, 1]).ravel()


def regions(sides: Sequence[int], window: Sequence[int], shift: Sequence[int]) -> np.ndarray:
    """Number what lay together before a map was rolled by `shift`, `[windows, N]`: three parts of each shifted axis."""
    parts = [
        (np.arange(side) >= side - w).astype(int) + (np.arange(side) >= side - s) if s else np.zeros(side, int)
        for side, w, s in zip(sides, window, shift, strict=True)
    ]
    whole = 9 * parts[0][:, None, None] + 3 * parts[1][:, None] + parts[2]
    return divided(whole[None, ..., None].astype(np.int8), window)[0, ..., 0]


def divided(x, window: Sequence[int]):
    """Divide a map into windows, `[B, X, Y, Z, C] -> [B, windows, N, C]`, both in the order of x, y, z."""
    counts = [side // w for side, w in zip(x.shape[1:4], window, strict=True)]
    x = x.reshape(x.shape[0], *(part for pair in zip(counts, window, strict=True) for part in pair), -1)
    return x.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(x.shape[0], prod(counts), prod(window), -1)


def undivided(x: jax.Array, shape: Sequence[int], window: Sequence[int]) -> jax.Array:
    """Invert `divided`; `shape` is that of the map."""
    counts = [side // w for side, w in zip(shape[1:4], window, strict=True)]
    return x.reshape(shape[0], *counts, *window, shape[-1]).transpose(0, 1, 4, 2, 5, 3, 6, 7).reshape(shape)


def _padded(x: jax.Array, multiple: Sequence[int]) -> jax.Array:
    """Add zeros at the end of each axis until its side divides."""
    widths = [(0, -side % m) for side, m in zip(x.shape[1:4], multiple, strict=True)]
    return jnp.pad(x, [(0, 0), *widths, (0, 0)])


def _norm(module: nn.Module, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(EPSILON, dtype=module.dtype, name=name)


def _dense(width: int, dtype: DTypeLike, name: str) -> nn.Dense:
    return nn.Dense(width, dtype=dtype, kernel_init=linear_init, name=name)

"""Views of a volume beside its mirror image, for symmetry-aware pre-training, drawn on the device and by example.

As released by Ma et al.: a crop and the crop at the same place of the mirror image, both turned by the same angle; then
blocks are cut out of the first. They are filled with noise. The release fills further ones with parts of another volume
of the batch, which is left out here: a view is a function of its own volume and key.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from symnorm_jax.geometry import SAGITTAL, mirror

TURNS = 4  # quarters
BLOCKS = 128  # that are drawn at most; of the mean size 90 reach 0.3 of the volume


class View(NamedTuple):
    """One view; every volume is `[*S, C]`."""

    seen: jax.Array  # with blocks cut out
    clean: jax.Array  # without
    mirrored: jax.Array  # of the mirror image, whole: what was cut out can be read off the other side
    turn: jax.Array  # [] int, quarters


def cropped(key: jax.Array, volume: jax.Array, side: int) -> tuple[jax.Array, jax.Array]:
    """Crop a volume `[X, Y, Z, C]` and its mirror image at one random start to `side` voxels; 0 leaves both whole."""
    if not side:
        return volume, mirror(volume)
    most = jnp.array(volume.shape[:3]) - side + 1
    start = jnp.floor(jax.random.uniform(key, (3,)) * most).astype(int)
    cut = lambda x: jax.lax.dynamic_slice(x, (*start, 0), (side,) * 3 + x.shape[3:])  # noqa: E731
    return cut(volume), cut(mirror(volume))


def draw(key: jax.Array, volume: jax.Array, mirrored: jax.Array, turns: bool, share: float, sides) -> View:
    """Draw a view of a pair `[*S, C]`; it `turns` or not, and loses up to a `share` by blocks, see `cut_out`."""
    keys = jax.random.split(key, 3)
    turn = jax.random.randint(keys[0], (), 0, TURNS if turns else 1)
    clean, mirrored = (turned(x, turn) if turns else x for x in (volume, mirrored))
    hidden = cut_out(keys[1], clean.shape[:3], share, sides)
    noise = jax.random.normal(keys[2], clean.shape)  # of mean and deviation 1, as the brain has
    return View(jnp.where(hidden, noise, clean), clean, mirrored, turn)


def turned(volume: jax.Array, turn: jax.Array) -> jax.Array:
    """Turn a volume `[X, Y, Y, C]` by `turn` `[]` quarters in the sagittal plane, which leaves left and right alone."""
    return jnp.stack([jnp.rot90(volume, quarters, SAGITTAL) for quarters in range(TURNS)])[turn]


def cut_out(key: jax.Array, shape: tuple[int, ...], share: float, sides: tuple[float, float]) -> jax.Array:
    """Draw the voxels that blocks cover, `[*shape, 1]` bool: blocks follow until they reach U(0, `share`) of them.

    A side of a block is a whole number of voxels from the first of `sides`, shares of the volume's, up to but not the
    second. Where blocks overlap voxels count twice, as in the release.
    """
    keys, whole = jax.random.split(key, 3), jnp.array([shape])
    least, end = (jnp.maximum(jnp.floor(part * whole), 1) for part in sides)
    size = least + jnp.floor(jax.random.uniform(keys[0], (BLOCKS, 3)) * jnp.maximum(end - least, 1))
    start = jnp.floor(jax.random.uniform(keys[1], (BLOCKS, 3)) * (whole - size + 1))
    parts = size.prod(1) / whole.prod()
    taken = jnp.cumsum(parts) - parts < share * jax.random.uniform(keys[2])
    inside = []
    for axis, side in enumerate(shape):
        place, first = jnp.arange(side)[None], start[:, axis, None]
        inside.append(((place >= first) & (place < first + size[:, axis, None])).astype(jnp.float32))
    covered = jnp.einsum("b,bx,by,bz->xyz", taken.astype(jnp.float32), *inside)
    return (covered > 0)[..., None]

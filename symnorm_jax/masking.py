"""Symmetry-aware masks on the patch grid, and their complementary covers for inference.

A mask is a boolean array over the grid of square patches, true where a patch is hidden. Axis 0 of the grid is
left-right, and the twin of a patch is its mirror image across the mid-line, so the grid must have an even width.

The paper ("Normal is All You Need", 2026) says "symmetry-aware masking" and no more; the families are this project's
readings of it, with the unsymmetric ones as controls:

==============  =========================================================================================
`exclusive`     a patch is hidden only where its twin is visible: contralateral evidence is always there
`paired`        a patch and its twin hide together: nothing can be copied across the mid-line
`hemisphere`    one half of the brain is hidden, the other visible
`checkerboard`  alternate patches, in one of the two phases; on a grid of even width also exclusive
`random`        each half on its own, whatever the other shows
`none`          nothing is hidden: a plain autoencoder
==============  =========================================================================================

Every mask hides as much of one half as of the other, and as much of the front as of the back, as far as numbers divide.
Training masks are drawn with NumPy in the input pipeline; only the grid travels, and `widen` makes pixels of it on
the device.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from symnorm_jax.errors import ConfigError
from symnorm_jax.geometry import LEFT_RIGHT, mirror

Grid = tuple[int, ...]
FIXED = ("hemisphere", "checkerboard", "none")  # families that divide the grid in one way only


def patch_grid(size: tuple[int, ...], patch: int) -> Grid:
    """Count the patches along each axis of an image of `size` pixels.

    Raises ConfigError where patches do not fill the image, or the mid-line would cut through a patch.
    """
    if any(side % patch for side in size) or (size[LEFT_RIGHT] // patch) % 2:
        raise ConfigError(
            f"mask.patch={patch} does not fit images of {tuple(size)} pixels: it must divide each side, "
            f"and the left-right side an even number of times."
        )
    return tuple(side // patch for side in size)


def draw(kind: str, grid: Grid, ratio: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a random training mask, `[*grid]` bool; its expected share of hidden patches is `1 / parts(kind, ratio)`."""
    count = parts(kind, ratio)
    return PARTITIONS[kind](grid, count, rng) == rng.integers(count)


def cover(kind: str, grid: Grid, ratio: float, covers: int = 1) -> np.ndarray:
    """Draw up to `covers` complementary covers for inference, `[covers * K, *grid]` bool, the same on every call.

    Within a cover of `K = parts(kind, ratio)` masks each patch is hidden exactly once (never, for `none`), and each
    mask obeys the law of its family. A family in which nothing is left to chance has one cover, however many are asked.
    """
    rng, count = np.random.default_rng(0), parts(kind, ratio)
    owners = [PARTITIONS[kind](grid, count, rng) for _ in range(1 if kind in FIXED else covers)]
    return np.concatenate([[owner == part for part in range(count)] for owner in owners])


def parts(kind: str, ratio: float) -> int:
    """Count K, the masks in a cover: the fewest that hide at most `ratio` of the patches each."""
    if kind not in PARTITIONS:
        raise ConfigError(f"mask.kind={kind!r}; one of {sorted(PARTITIONS)} is allowed.")
    halves = kind in ("hemisphere", "checkerboard")
    if not (ratio == 0.5 if halves else 0 < ratio <= 0.5):
        raise ConfigError(
            f"mask.ratio={ratio} with mask.kind={kind!r}; {'0.5' if halves else 'above 0, up to 0.5'} is allowed."
        )
    return 1 if kind == "none" else int(np.ceil(1 / ratio - 1e-9))


def widen(hidden: jax.Array, patch: int) -> jax.Array:
    """Widen patch masks to pixel masks with a channel, `[B, *grid] bool -> [B, *S, 1] float32`."""
    for axis in range(1, hidden.ndim):
        hidden = jnp.repeat(hidden, patch, axis)
    return hidden[..., None].astype(jnp.float32)


# Each family assigns every patch to the one mask of its cover, 0 to count - 1, that hides it.


def _exclusive(grid: Grid, count: int, rng: np.random.Generator) -> np.ndarray:
    own, lag = _dealt(grid, count, rng), rng.integers(1, count)
    return np.concatenate([own, mirror((own + lag) % count)])


def _paired(grid: Grid, count: int, rng: np.random.Generator) -> np.ndarray:
    own = _dealt(grid, count, rng)
    return np.concatenate([own, mirror(own)])


def _random(grid: Grid, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([_dealt(grid, count, rng), _dealt(grid, count, rng)])


def _dealt(grid: Grid, count: int, rng: np.random.Generator) -> np.ndarray:
    """Deal half a grid like shuffled decks, each with every owner as often, that lie from the side to the mid-line."""
    width, places = grid[LEFT_RIGHT] // 2, math.prod(grid) // 2
    deck = np.tile(np.arange(count), max(1, width // count))
    decks = rng.permuted(np.tile(deck, (-(-places // len(deck)), 1)), axis=1)
    return np.moveaxis(decks.ravel()[:places].reshape(*grid[1:], width), -1, LEFT_RIGHT)


def _hemisphere(grid: Grid, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.broadcast_to(np.indices(grid)[LEFT_RIGHT] >= grid[LEFT_RIGHT] // 2, grid).astype(int)


def _checkerboard(grid: Grid, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.indices(grid).sum(0) % 2


def _none(grid: Grid, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.full(grid, -1)


PARTITIONS: dict[str, Callable[[Grid, int, np.random.Generator], np.ndarray]] = {
    "exclusive": _exclusive,
    "paired": _paired,
    "hemisphere": _hemisphere,
    "checkerboard": _checkerboard,
    "random": _random,
    "none": _none,
}

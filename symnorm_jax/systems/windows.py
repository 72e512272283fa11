"""Networks over volumes larger than what they were trained on: windows that overlap by half, and their mean."""

from collections.abc import Callable
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

Net = Callable[..., tuple[jax.Array, jax.Array]]  # volumes [B, *w, C] -> a map [B, *w] and features [B, D]


def slid(net: Net, side: int, *volumes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Slide `net` over volumes `[B, *S, C]` in windows of `side` voxels, one after another; 0 shows it all at once.

    Windows of all volumes lie at the same places. A voxel has the mean of the windows that see it, and the features
    are the mean of all windows.
    """
    if not side:
        return net(*volumes)
    (count, *sides, _), window = volumes[0].shape, (side,) * 3
    starts = np.array(list(product(*(starts_of(length, side) for length in sides))))

    def one(total: jax.Array, start: jax.Array) -> tuple[jax.Array, jax.Array]:
        found, features = net(
            *(jax.lax.dynamic_slice(x, (0, *start, 0), (count, *window, x.shape[-1])) for x in volumes)
        )
        there = jax.lax.dynamic_slice(total, (0, *start), (count, *window))
        return jax.lax.dynamic_update_slice(total, there + found, (0, *start)), features

    seen = np.zeros(sides, np.float32)
    for start in starts:
        seen[tuple(slice(first, first + side) for first in start)] += 1
    total, features = jax.lax.scan(one, jnp.zeros((count, *sides)), jnp.asarray(starts))
    return total / seen[None], features.mean(0)


def starts_of(length: int, side: int) -> list[int]:
    """List where windows of `side` begin on an axis: every half window, and one that ends where the axis does."""
    return sorted({*range(0, length - side, max(side // 2, 1)), length - side})


def count_of(sides: tuple[int, ...], side: int) -> int:
    """Count the windows of a volume."""
    return int(np.prod([len(starts_of(length, side)) for length in sides])) if side else 1


def around(key: jax.Array, side: int, marked: jax.Array, brain: jax.Array) -> jax.Array:
    """Draw where a window of `side` begins, `[3]`: it is around a voxel of the brain `[*S]`, or of what is `marked`.

    Half of the windows are of what is marked, where anything is, or most would show nothing of it.
    """
    of_marked, which = jax.random.split(key)
    wanted = jnp.where(marked.any() & jax.random.bernoulli(of_marked), marked, brain)
    counted = jnp.cumsum(wanted.ravel())  # one number is drawn, and not one for each voxel
    place = jnp.searchsorted(counted, jax.random.randint(which, (), 0, counted[-1]), side="right")
    centre = jnp.unravel_index(place, brain.shape)
    return jnp.clip(jnp.stack(centre) - side // 2, 0, jnp.array(brain.shape) - side)

"""Streamed sums of embeddings: mean, scatter, and what Ledoit and Wolf's shrinkage needs.

Sums of any number of batches, devices or hosts merge as in Chan, Golub & LeVeque (1983): memory does not grow, and
nothing is squared before it is centred. They are float32, with what rounding takes kept beside them.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from symnorm_jax.training.sharding import by_example, make_mesh, put_whole, replicated

_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)  # accelerators use bfloat16 or TF32 otherwise


class Moments(NamedTuple):
    """Sums over the n vectors seen, c = z - mean; the last two give Ledoit-Wolf without a second pass."""

    n: jax.Array  # [] int32
    mean: jax.Array  # [D]
    m2: jax.Array  # [D, D] sum of c c'
    lost: jax.Array  # [D, D] what rounding has taken from m2, a digit or more over thousands of batches
    third: jax.Array  # [D] sum of |c|^2 c
    fourth: jax.Array  # [] sum of |c|^4


def scatter(moments: Moments) -> np.ndarray:
    """Sum c c' `[D, D]` over the vectors, in float64."""
    return np.asarray(moments.m2, np.float64) + np.asarray(moments.lost, np.float64)


def zeros(dim: int) -> Moments:
    """Make the moments of no vectors of length `dim`."""
    vector, square = jnp.zeros(dim), jnp.zeros((dim, dim))
    return Moments(jnp.int32(0), vector, square, square, vector, jnp.float32(0))


@jax.jit
def merge(a: Moments, b: Moments) -> Moments:
    """Merge the moments of two disjoint sets of vectors; associative and commutative up to rounding."""
    n = a.n + b.n
    mean = a.mean + (b.mean - a.mean) * (b.n / jnp.maximum(n, 1))
    a, b = about(a, mean), about(b, mean)
    m2, lost = _exact_sum(a.m2, b.m2)
    return Moments(n, mean, m2, lost + a.lost + b.lost, a.third + b.third, a.fourth + b.fourth)


@jax.jit
def update(moments: Moments, z: jax.Array, valid: jax.Array) -> Moments:
    """Add a batch z `[B, D]` to the moments, less the padding: rows where valid `[B]` is false."""
    z = jnp.where(valid[:, None], z.astype(jnp.float32), 0)
    n = valid.sum(dtype=jnp.int32)
    # Differences from one of the vectors are small and nearly exact: a large common offset costs no digits.
    origin = z[jnp.argmax(valid)]
    offset = jnp.where(valid[:, None], z - origin[None], 0)
    mean = offset.sum(0) / jnp.maximum(n, 1)
    centred = jnp.where(valid[:, None], offset - mean[None], 0)
    square = (centred**2).sum(1)
    m2, third, fourth = _matmul(centred.T, centred), _matmul(square, centred), _matmul(square, square)
    return merge(moments, Moments(n, origin + mean, m2, jnp.zeros_like(m2), third, fourth))


def stream(z: np.ndarray, batch: int = 1024) -> Moments:
    """Sum up z `[N, D]`, which every host has whole, about `batch` rows at a time, on all devices, which merge once."""
    mesh, dim = make_mesh(), z.shape[1]
    batch = -(-batch // mesh.size) * mesh.size
    begin, add, end = _on_devices(mesh)
    moments = begin(dim)
    for start in range(0, len(z), batch):
        rows = np.asarray(z[start : start + batch], np.float32)
        padded = np.pad(rows, ((0, batch - len(rows)), (0, 0)))  # one shape, so one compilation
        valid = np.arange(batch) < len(rows)
        parts = {"z": padded.reshape(mesh.size, -1, dim), "valid": valid.reshape(mesh.size, -1)}
        moments = jax.block_until_ready(add(moments, **put_whole(parts, mesh)))  # lest batches queue up in memory
    return end(moments)


@cache
def _on_devices(mesh: Mesh) -> tuple[Callable, Callable, Callable]:
    """No moments, an update and a merger, of moments `[devices, ...]` that lie one on each device."""
    apart = by_example(mesh)

    def begin(dim: int) -> Moments:
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (mesh.size, *x.shape)), zeros(dim))

    def end(moments: Moments) -> Moments:
        n, first = moments.n.sum(), moments.mean[0]
        share = (moments.n / jnp.maximum(n, 1))[:, None]
        mean = first + ((moments.mean - first[None]) * share).sum(0)
        near = jax.vmap(about, (0, None))(moments, mean)  # about one point sums can be added up, by an all-reduce
        return jax.tree.map(lambda x: x.sum(0), near)._replace(n=n, mean=mean)

    begin = jax.jit(begin, static_argnums=0, out_shardings=apart)
    add = jax.jit(jax.vmap(update), out_shardings=apart, donate_argnums=0)
    return begin, add, jax.jit(end, out_shardings=replicated(mesh))


def about(moments: Moments, point) -> Moments:
    """Give the same sums with c = z - point `[D]`: binomials of c + e about the mean, where the sum of c vanishes."""
    n, mean, m2, lost, third, fourth = moments
    e = mean - point
    square, total, along = _matmul(e, e), jnp.trace(m2), _matmul(m2, e)
    fourth += 4 * _matmul(third + along, e) + 2 * total * square + n * square**2
    third += total * e + 2 * along + n * square * e
    m2, rounding = _exact_sum(m2, n * jnp.outer(e, e))
    return Moments(n, point, m2, lost + rounding, third, fourth)


def _exact_sum(a, b):
    """a + b as rounded, and exactly what the rounding took from it (Knuth's two-sum)."""
    total = a + b
    kept = total - a
    return total, (a - (total - kept)) + (b - kept)

"""Changes of contrast: random ones, by which dal learns to look through them, and fixed ones, by which runs are tried.

A random change is of one slice in units of its own brain (`anatomy.in_own_unit`); what is drawn depends on an example's
key alone. A fixed change is a curve of intensities from 0 to 1, the percentiles of a scan's brain; it is no other
sequence, whose partial volumes and artefacts no curve makes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from symnorm_jax.systems.anatomy import imaging, in_own_unit

NODES = 4  # a side, of the field by which a scanner's coil is uneven
SPREAD = 0.7  # deviation of the factor by which the texture of a repainted class is multiplied


def _curve(places: tuple[float, ...], values: tuple[float, ...]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.interp(x, places, values)


# On T1, in these units, fluid is near 0.15, grey matter near 0.6, white matter near 0.9.
FIXED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "rising": _curve((0, 0.2, 0.5, 0.7, 1), (0, 0.05, 0.2, 0.7, 1)),
    "falling": lambda x: 1 - x,
    "T2-like": _curve((0, 0.15, 0.6, 0.9, 1), (1, 0.95, 0.5, 0.3, 0.25)),
    "FLAIR-like": _curve((0, 0.2, 0.6, 0.9, 1), (0, 0.1, 0.9, 0.6, 0.55)),
    "gamma 0.5": lambda x: np.maximum(x, 0) ** 0.5,
    "gamma 2": lambda x: np.maximum(x, 0) ** 2,
}


def changed(image: jax.Array, brain: jax.Array, prior: jax.Array, keys: jax.Array, settings: ConfigDict) -> jax.Array:
    """Change the contrast of slices `[B, *S, 1]`, 0 outside the brain; with probability `unchanged` not at all.

    With probability `repaint` classes are painted anew, sum_k prior_k (mu_k + g_k (x - m_k)), mu from U(0, 1) and g
    from N(0, SPREAD), so that texture and partial volumes stay; else intensities go through a random piecewise-linear
    curve of `knots`, a share `monotone` of them rising or falling. Then come the field of a coil, exp of normal noise
    of deviation `bias`, and white noise of deviation `noise`. `prior` `[B, *S, K]` are shares of classes.
    """
    mean = imaging(image, prior * brain)[..., 0]

    def of_one(x, inside, shares, centre, key):
        stays, how, paint, curve, last = jax.random.split(key, 5)
        painted = _repainted(paint, x, shares, centre)
        curved = _curved(curve, x, inside, settings)
        new = jnp.where(jax.random.uniform(how) < settings.repaint, painted, curved)
        return new, jax.random.uniform(stays) < settings.unchanged, last

    new, stays, last = jax.vmap(of_one)(image, brain, prior, mean, keys)
    new = in_own_unit(new, brain)[0]
    new = in_own_unit(jax.vmap(lambda x, key: _acquired(key, x, settings))(new, last), brain)[0]
    return jnp.where(stays[:, None, None, None], image * brain, new)


def _repainted(key: jax.Array, x: jax.Array, shares: jax.Array, mean: jax.Array) -> jax.Array:
    level, texture = jax.random.split(key)
    mean = mean[None, None]
    mu, g = jax.random.uniform(level, mean.shape), SPREAD * jax.random.normal(texture, mean.shape)
    return (shares * (mu + g * (x - mean))).sum(-1, keepdims=True)


def _curved(key: jax.Array, x: jax.Array, brain: jax.Array, settings: ConfigDict) -> jax.Array:
    drawn, sort, fall = jax.random.split(key, 3)
    values = jax.random.uniform(drawn, (settings.knots,))
    ordered = jnp.where(jax.random.uniform(fall) < 0.5, jnp.sort(values)[::-1], jnp.sort(values))
    values = jnp.where(jax.random.uniform(sort) < settings.monotone, ordered, values)
    low, high = jnp.where(brain > 0, x, jnp.inf).min(), jnp.where(brain > 0, x, -jnp.inf).max()
    return jnp.interp(x, jnp.linspace(low, high, settings.knots), values)


def _acquired(key: jax.Array, x: jax.Array, settings: ConfigDict) -> jax.Array:
    field, noise = jax.random.split(key)
    nodes = settings.bias * jax.random.normal(field, (NODES, NODES))
    uneven = jnp.exp(jax.image.resize(nodes, x.shape[:2], "cubic"))[..., None]
    return x * uneven + settings.noise * jax.random.normal(noise, x.shape)

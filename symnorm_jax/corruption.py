"""What slices are corrupted by for networks that learn to undo it; nothing is corrupted outside the brain.

Amounts are in standard deviations of the slice's own brain, its `spread`, and so the same in whatever unit
`data.normalise` makes. What is drawn for an example depends on its key and the example alone.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax.losses import TINY, weighted_mean

# Standard deviations between the percentiles 1 and 99 of a brain, which publications scale to 0 and 1: on average 4.3
# in 40 people of IXI and 3.5 in 34 of OASIS, both T1.
RANGE = 4.0


def middle(image: jax.Array, brain: jax.Array) -> jax.Array:
    """Average images `[B, *S, C]` over the brain `[B, *S, 1]`, in a shape that broadcasts against them."""
    return jnp.expand_dims(weighted_mean(image, brain), tuple(range(1, image.ndim)))


def spread(image: jax.Array, brain: jax.Array) -> jax.Array:
    """Compute the standard deviation of images `[B, *S, C]` in the brain, above 0, in a shape that broadcasts."""
    return jnp.sqrt(jnp.maximum(middle(jnp.square(image - middle(image, brain)), brain), TINY**2))


def add_noise(image: jax.Array, brain: jax.Array, keys: jax.Array, settings: ConfigDict) -> jax.Array:
    """Add `coarse_noise` to the brains of images `[B, *S, C]`, its deviation in standard deviations of the brain."""
    return image + spread(image, brain) * coarse_noise(image, keys, settings) * brain


def coarse_noise(image: jax.Array, keys: jax.Array, settings: ConfigDict) -> jax.Array:
    """Draw Gaussian noise of `settings.deviation` on `settings.grid` cells a side, enlarged to images `[B, *S, C]`.

    Between the cells' centres, where values are interpolated, deviation is less: two thirds of it on average. Noise is
    rolled by a random shift, so that no place of the grid is special, as in Kascenas et al. (2022).
    """

    def of_one(key: jax.Array) -> jax.Array:
        draw, *shifts = jax.random.split(key, 3)
        shape = (*(settings.grid,) * 2, image.shape[-1])
        noise = jax.image.resize(jax.random.normal(draw, shape), image.shape[1:], "linear")
        shift = [jax.random.randint(one, (), 0, side) for one, side in zip(shifts, image.shape[1:], strict=False)]
        return settings.deviation * jnp.roll(noise, jnp.stack(shift), (0, 1))

    return jax.vmap(of_one)(keys)


def erase(image: jax.Array, brain: jax.Array, keys: jax.Array, settings: ConfigDict) -> jax.Array:
    """Set the brain in `settings.rectangles` rectangles of images `[B, *S, C]` to its mean (Pathak et al. 2016).

    Sides are drawn from the range `settings.sides`, shares of those of the image.
    """

    def of_one(key: jax.Array) -> jax.Array:
        low, high = settings.sides
        centre, half = jnp.split(jax.random.uniform(key, (settings.rectangles, 4)), 2, axis=1)
        half = (low + (high - low) * half) / 2
        place = jnp.stack(jnp.meshgrid(*((jnp.arange(n) + 0.5) / n for n in image.shape[1:3]), indexing="ij"), -1)
        return (jnp.abs(place[None] - centre[:, None, None]) < half[:, None, None]).all(-1).any(0)

    return jnp.where((brain > 0) & jax.vmap(of_one)(keys)[..., None], middle(image, brain), image)

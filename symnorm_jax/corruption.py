"""What slices are corrupted by for networks that learn to undo it; nothing is corrupted outside the brain.

Amounts are in standard deviations of the slice's own brain, the `spread` of each contrast, and so the same in whatever
unit `data.normalise` makes. What is drawn for an example depends on its key and the example alone.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from ml_collections import ConfigDict

from symnorm_jax.losses import TINY
from symnorm_jax.settings import check_rules

# Standard deviations between the percentiles 1 and 99 of a brain, which publications scale to 0 and 1: on average 4.3
# in 40 people of IXI and 3.5 in 34 of OASIS, both T1.
RANGE = 4.0
EDGE = 0.5  # over which a blob comes in, in deviations of the field that it is cut out of


def check_grid(config: ConfigDict, section: str) -> None:
    """Raise ConfigError where the cells of a section's `grid` would be smaller than pixels."""
    most = min(config.data.size)
    check_rules(config, {f"{section}.grid": (lambda grid: 1 <= grid <= most, f"1 to {most} cells a side are")})


def corrupt(image: jax.Array, brain: jax.Array, keys: jax.Array, settings: ConfigDict) -> jax.Array:
    """Put blobs of foreign tissue and blobs of coarse noise into the brains `[B, *S, 1]` of images `[B, *S, C]`.

    Foreign is tissue from elsewhere in the same slice, so that no example needs another: shifted, flattened by any
    share, and made brighter or darker, by `settings.deviation` standard deviations of the brain. Either kind of blob
    covers up to `settings.share` of a slice: what stands out of a smooth field of `settings.grid` cells a side.
    """
    mean, unit = middle(image, brain), spread(image, brain)

    def of_one(tissue: jax.Array, key: jax.Array) -> jax.Array:
        where, what, noisy, noise = jax.random.split(key, 4)
        strange = tissue + _blobs(where, tissue, settings) * (_foreign(what, tissue, settings) - tissue)
        strange += _blobs(noisy, tissue, settings) * settings.deviation * _field(noise, tissue, settings)
        return strange - tissue

    return image + jax.vmap(of_one)((image - mean) / unit * brain, keys) * unit * brain


def middle(image: jax.Array, brain: jax.Array) -> jax.Array:
    """Average each contrast of images `[B, *S, C]` over the brain `[B, *S, 1]`, `[B, 1, ..., C]`, which broadcasts."""
    axes = tuple(range(1, image.ndim - 1))
    return (image * brain).sum(axes, keepdims=True) / jnp.maximum(brain.sum(axes, keepdims=True), TINY)


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
    return settings.deviation * jax.vmap(lambda one, key: _field(key, one, settings))(image, keys)


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


def _blobs(key: jax.Array, one: jax.Array, settings: ConfigDict) -> jax.Array:
    """Draw where a slice `[*S, C]` has blobs, 0 to 1, `[*S, 1]`."""
    drawn, share = jax.random.split(key)
    field = _field(drawn, one[..., :1], settings)
    least = ndtri(1 - settings.share * jax.random.uniform(share))
    return jnp.clip(((field - field.mean()) / field.std() - least) / EDGE + 0.5, 0, 1)


def _foreign(key: jax.Array, tissue: jax.Array, settings: ConfigDict) -> jax.Array:
    """Make foreign tissue of that of a slice `[*S, C]`, whose brain has mean 0 and deviation 1; 0 is what is none."""
    shift, contrast, level = jax.random.split(key, 3)
    return jax.random.uniform(contrast) * _shifted(shift, tissue) + settings.deviation * jax.random.normal(level)


def _field(key: jax.Array, one: jax.Array, settings: ConfigDict) -> jax.Array:
    """Draw standard normal values on `settings.grid` cells a side, enlarged to a slice `[*S, C]` and shifted."""
    drawn, shift = jax.random.split(key)
    noise = jax.random.normal(drawn, (*(settings.grid,) * 2, one.shape[-1]))
    return _shifted(shift, jax.image.resize(noise, one.shape, "linear"))


def _shifted(key: jax.Array, one: jax.Array) -> jax.Array:
    """Roll a slice `[*S, C]` by a random shift."""
    return jnp.roll(one, jax.random.randint(key, (2,), 0, jnp.array(one.shape[:2])), (0, 1))

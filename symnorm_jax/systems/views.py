"""Random views of volumes for contrastive learning, drawn on the device.

Steps, ranges and their order are as in the release of 3D-Neuro-SimCLR (Kaczmarek et al. 2025): crop and resize, flip,
rotation, shift, gamma, z-score in the brain. Crop, flip and rotation are one trilinear resampling here; the release
takes two, which blurs more. Rotation leaves z alone: a matrix product interpolates z, a gather of columns the rest.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict, FrozenConfigDict

from symnorm_jax import ranges
from symnorm_jax.geometry import AXIAL, LEFT_RIGHT
from symnorm_jax.systems.contract import example_keys, folded

CANDIDATES = 4  # geometries that are drawn for a view before it falls back to the whole box
FLAT = 1e-5  # of the mean: a deviation below it is rounding
TINY = 1e-7  # added to the range of an image before it divides, as in MONAI


class Geometry(NamedTuple):
    """Where in its volume a view lies."""

    start: jax.Array  # [3], the crop's first voxel
    size: jax.Array  # [3], its voxels along each axis
    side: jax.Array  # [3], -1.0 along an axis that is flipped, else 1.0
    angle: jax.Array  # [], radians


def checked(section: ConfigDict) -> FrozenConfigDict:
    """Freeze the section `views` of a config. Raises ConfigError for steps that cannot be taken."""
    ranges.check(section, "views.")
    return FrozenConfigDict(section)  # which can be a static argument


def view_keys(key: jax.Array, index: jax.Array, view: int) -> jax.Array:
    """Make keys `[B]` for view number `view` of the examples `index` `[B]`; each view of an example has its own."""
    return folded(example_keys(key, index), view)


@partial(jax.jit, static_argnames="settings")
def draw(image: jax.Array, brain: jax.Array, keys: jax.Array, settings: FrozenConfigDict):
    """Draw one view of each volume: image `[B, X, Y, Z, C]`, brain `[B, X, Y, Z, 1]`, keys `[B]`, to the same shapes.

    The image is float32, interpolated linearly, and standardised; the mask takes the nearest voxel. A view is a
    function of its own volume and key, and of settings that are `checked`.

    A view needs enough brain (`settings.brain`, a share of its voxels). The release draws until one has a voxel of it,
    in a loop on the host. Here `CANDIDATES` geometries are drawn, their brain is counted on the mask, which costs no
    resampling, and the first with enough is taken; where none has, the whole box. So the work is bounded.
    """

    def of_one(image: jax.Array, brain: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        # All chances of a view come from one call: each call of the generator costs compilation time.
        chances = jax.random.uniform(key, (9 * CANDIDATES + 4,))
        where = choose(chances[4:].reshape(CANDIDATES, 9), brain, settings)
        image, brain = resample(image.astype(jnp.float32), where), resample_nearest(brain, where)
        image = gamma(shift(image, chances[:2], *settings.shift), chances[2:4], *settings.gamma)
        return standardise(image, brain), brain

    return jax.vmap(of_one)(image, brain, keys)


def choose(chances: jax.Array, brain: jax.Array, settings: FrozenConfigDict) -> Geometry:
    """Choose the first geometry whose view has enough of brain `[X, Y, Z, 1]`, or else the whole box.

    `chances` `[CANDIDATES, 9]`, as in every step, are independent and uniform from 0 to below 1.
    """
    shape = brain.shape[:3]

    def propose(one: jax.Array) -> Geometry:
        box = crop(one[:6], shape, settings.crop)
        return Geometry(*box, flip(one[6], settings.flip), rotate(one[7:], *settings.rotate))

    drawn = jax.vmap(propose)(chances)
    share = jax.vmap(partial(brain_share, brain))(drawn)
    enough = jnp.append((share > 0) & (share >= settings.brain), True)
    whole = Geometry(jnp.zeros(3), jnp.array(shape, jnp.float32), jnp.ones(3), jnp.zeros(()))
    return jax.tree.map(lambda some, last: jnp.append(some, last[None], 0)[enough.argmax()], drawn, whole)


def crop(chances: jax.Array, shape: tuple[int, ...], least: tuple[float, ...]) -> tuple[jax.Array, jax.Array]:
    """Draw first voxel and size of a box, `[3]` each, from chances `[6]`: of `least` of each side or more, anywhere.

    Each axis has a size of its own, so that a crop, enlarged to the volume's box, is stretched as well. What a rotation
    brings in from beyond continues the border, as MONAI does in the release.
    """
    whole = jnp.array(shape, jnp.float32)
    smallest = jnp.array([max(1, round(share * side)) for share, side in zip(least, shape, strict=True)])
    size = smallest + jnp.floor(chances[:3] * (whole - smallest + 1))
    return jnp.floor(chances[3:] * (whole - size + 1)), size


def flip(chance: jax.Array, probability: float) -> jax.Array:
    """Draw a left-right flip, `[3]` signs. It trains *invariance to side*: on which side a finding lies is dropped."""
    return jnp.ones(3).at[LEFT_RIGHT].set(jnp.where(chance < probability, -1.0, 1.0))


def rotate(chances: jax.Array, probability: float, most: float) -> jax.Array:
    """Draw the angle `[]`, up to `most` radians, by which the cropped and enlarged view turns, from chances `[2]`."""
    return jnp.where(chances[0] < probability, (2 * chances[1] - 1) * most, 0.0)


def shift(image: jax.Array, chances: jax.Array, probability: float, most: float) -> jax.Array:
    """Add one number, up to `most` either way, to every voxel of image `[X, Y, Z, C]`; chances `[2]`.

    In the release, and so here, **without effect** but for rounding: gamma's range moves along, the z-score undoes it.
    """
    return image + jnp.where(chances[0] < probability, (2 * chances[1] - 1) * most, 0.0)


def gamma(image: jax.Array, chances: jax.Array, probability: float, low: float, high: float) -> jax.Array:
    """Bend the contrast of image `[X, Y, Z, C]`: `((x - min) / range) ** gamma * range + min`, in each channel.

    As MONAI's AdjustContrast: `gamma` is uniform from `low` to `high`, the range that of the whole view; chances `[2]`.
    """
    bottom = image.min((0, 1, 2), keepdims=True)
    spread = image.max((0, 1, 2), keepdims=True) - bottom
    power = low + (high - low) * chances[1]
    bent = ((image - bottom) / (spread + TINY)) ** power * spread + bottom
    return jnp.where(chances[0] < probability, bent, image)


def standardise(image: jax.Array, brain: jax.Array) -> jax.Array:
    """Standardise each channel of image `[X, Y, Z, C]` in brain `[X, Y, Z, 1]` to mean 0, deviation 1, and 0 outside.

    An image that is flat in the brain becomes 0. The mean is taken twice: of many voxels in float32 once is not enough.
    """

    def mean(x: jax.Array) -> jax.Array:
        return (x * brain).sum((0, 1, 2), keepdims=True) / jnp.maximum(brain.sum(), 1)

    level = mean(image)
    centred = (image - level) * brain
    centred = (centred - mean(centred)) * brain
    deviation = jnp.sqrt(mean(jnp.square(centred)))
    return jnp.where(deviation > FLAT * jnp.abs(level), centred / jnp.maximum(deviation, 1e-30), 0.0)


def places(where: Geometry, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Find the place in a volume of `shape` that each voxel of its view shows: x and y `[X, Y]`, z `[Z]`, in voxels."""
    x, y, z = (jnp.arange(side) - (side - 1) / 2 for side in shape)
    x, y, cos, sin = x[:, None], y[None], jnp.cos(where.angle), jnp.sin(where.angle)

    def source(axis: int, middle: jax.Array) -> jax.Array:
        start, size = where.start[axis], where.size[axis]
        place = (where.side[axis] * middle + shape[axis] / 2) * (size / shape[axis]) + start - 0.5
        return jnp.clip(place, start, start + size - 1)

    return source(0, x * cos + y * sin), source(1, y * cos - x * sin), source(AXIAL, z)


def resample(image: jax.Array, where: Geometry) -> jax.Array:
    """Interpolate the view of image `[X, Y, Z, C]` linearly along each axis, in the same shape."""
    x, y, z = places(where, image.shape[:3])
    hats = jnp.maximum(1 - jnp.abs(z[:, None] - jnp.arange(len(z))[None]), 0)
    image = jnp.matmul(jnp.moveaxis(image, -1, AXIAL), hats.T, precision="highest")  # no TF32: identity is to be exact
    low_x, low_y = jnp.floor(x), jnp.floor(y)

    def add(out: jax.Array, corner: jax.Array) -> tuple[jax.Array, None]:
        i, j = low_x + corner[0], low_y + corner[1]
        weight = (1 - jnp.abs(x - i)) * (1 - jnp.abs(y - j))
        return out + weight[..., None, None] * _columns(image, i, j), None

    corners = jnp.array([(0, 0), (0, 1), (1, 0), (1, 1)])
    out, _ = jax.lax.scan(add, jnp.zeros_like(image), corners)  # in turn: all at once would need more memory
    return jnp.moveaxis(out, AXIAL, -1)


def resample_nearest(brain: jax.Array, where: Geometry) -> jax.Array:
    """Take the view of brain `[X, Y, Z, 1]`, each voxel as its nearest is."""
    i, j, k = (_nearest(place) for place in places(where, brain.shape[:3]))
    return brain.at[i[..., None], j[..., None], k[None, None]].get(mode="promise_in_bounds")


def brain_share(brain: jax.Array, where: Geometry) -> jax.Array:
    """Average `resample_nearest(brain, where)`, `[]`, from sums along z in place of a volume."""
    i, j, k = (_nearest(place) for place in places(where, brain.shape[:3]))
    seen = jax.nn.one_hot(k, brain.shape[AXIAL]).mean(0)
    return _columns(jnp.einsum("xyzc,z->xyc", brain.astype(jnp.float32), seen, precision="highest"), i, j).mean()


def _nearest(place: jax.Array) -> jax.Array:
    return jnp.floor(place + 0.5).astype(jnp.int32)


def _columns(volume: jax.Array, i: jax.Array, j: jax.Array) -> jax.Array:
    """`volume[i, j]`; a neighbour past the last voxel, whose weight is 0, is the last."""
    return volume.at[i.astype(jnp.int32), j.astype(jnp.int32)].get(mode="clip")

"""What a synthetic head is made of: tissue maps bent, tilted, given proportions of their own and vessels.

The maps are mirror-symmetric ones of MNI152, from nilearn. Vessels are bright, one-sided, and in the healthy too.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from symnorm_jax.data.phantom.lesions import smooth_noise
from symnorm_jax.geometry import centred_affine

BRAIN_CENTRE = np.array([0.0, -18.0, 8.0])  # mm in MNI space, at the centre of the field of view
FIELD_OF_VIEW = np.array([184.0, 216.0, 184.0])  # mm

noise = functools.partial(smooth_noise, extent=FIELD_OF_VIEW)


class TissueMaps(NamedTuple):
    """MNI maps `[X, Y, Z]` float32 on a 1 mm grid."""

    grey: np.ndarray
    white: np.ndarray
    brain: np.ndarray
    origin: np.ndarray  # [3] mm of the first voxel


class Anatomy(NamedTuple):
    """A head in whatever contrast it is seen; `N` voxels lie in the brain."""

    brain: np.ndarray  # [X, Y, Z] bool
    fractions: np.ndarray  # [3, N] of grey matter, white matter and fluid
    levels: np.ndarray  # [4] factors of the four intensities
    texture: np.ndarray  # [X, Y, Z] factor
    flow: np.ndarray  # [N] share of vessels


@functools.lru_cache(maxsize=1)
def mni_maps() -> TissueMaps:
    """Load the maps, cropped to the brain."""
    from nilearn import datasets  # with scikit-learn, which takes seconds

    kinds = ("gm_template", "wm_template", "brain_mask")
    images = [getattr(datasets, f"load_mni152_{kind}")(resolution=1) for kind in kinds]
    maps = [image.get_fdata(dtype=np.float32) for image in images]
    (box,) = ndimage.find_objects((maps[2] > 0).astype(np.uint8))
    box = tuple(slice(max(side.start - 4, 0), side.stop + 4) for side in box)
    origin = images[0].affine[:3, 3] + [side.start for side in box]
    return TissueMaps(*(np.ascontiguousarray(each[box]) for each in maps), origin)


@functools.lru_cache(maxsize=2)
def maps_at(spacing: float) -> TissueMaps:
    """Blur the maps to what a voxel of `spacing` mm holds, so that coarse heads are not aliased."""
    sigma = spacing / np.sqrt(12)  # of a box of that width
    *maps, origin = mni_maps()
    return TissueMaps(*(ndimage.gaussian_filter(each, sigma, mode="nearest") for each in maps), origin)


@functools.lru_cache(maxsize=1)
def fluid_gradient() -> np.ndarray:
    """Compute the direction towards nearby fluid `[3, X, Y, Z]`, about 1 long beside a wide space, 0 far from any."""
    fluid = 1 - mni_maps().grey - mni_maps().white  # also outside the brain, so the cortex recedes from the skull
    blurred = [ndimage.gaussian_filter(fluid, sigma) for sigma in (2.0, 4.0)]  # mm, as for sulci and ventricles
    return 3.0 * np.stack(np.gradient(blurred[0] + 2 * blurred[1]))


def sample(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Interpolate a map linearly at `places` `[3, N]` in MNI mm."""
    index = places - mni_maps().origin[:, None]
    # "nearest" carries the brain stem on where the maps are cut off below; their other sides are empty.
    return ndimage.map_coordinates(image, index, np.float32, order=1, mode="nearest")


def streams(person: str, seed: int) -> list[np.random.Generator]:
    """Make generators of anatomy, tissue, vessels, illness and scanner: a disease changes only what it harms."""
    return np.random.default_rng([seed, int.from_bytes(person.encode())]).spawn(5)


@functools.lru_cache(maxsize=1)  # a person is often wanted in several contrasts, one after the other
def anatomy_of(person: str, atrophied: bool, seed: int, spacing: float) -> Anatomy:
    """Draw the anatomy of a person on voxels of `spacing` mm."""
    anatomy, tissue, vessels, illness, _ = streams(person, seed)
    spacings = np.full(3, spacing)
    shape = tuple(np.round(FIELD_OF_VIEW / spacing).astype(int))
    places = places_of(anatomy, shape, centred_affine(shape, tuple(spacings)))
    brain = sample(maps_at(spacing).brain, places.reshape(3, -1)).reshape(shape) > 0.5
    places = places[:, brain]
    drift = _atrophy_drift(illness, places, brain, spacings) if atrophied else 0.0
    fractions = _tissue_fractions(tissue, maps_at(spacing), places + drift, brain, spacings)
    levels = 1 + tissue.uniform(-0.04, 0.04, 4)
    texture = 1 + 0.025 * noise(tissue, shape, spacings, 8.0) + 0.02 * noise(tissue, shape, spacings, 4.0)
    return Anatomy(brain, fractions, levels, texture, vessel_share(vessels, places, spacing))


def places_of(rng: np.random.Generator, shape: tuple[int, ...], affine: np.ndarray) -> np.ndarray:
    """Draw where in MNI space every voxel of a person lies, `[3, X, Y, Z]` mm: the whole of a person's shape."""
    roll, yaw, pitch = rng.uniform(-5, 5), rng.uniform(-5, 5), rng.uniform(-3, 3)
    turn = Rotation.from_euler("yzx", [roll, yaw, pitch], degrees=True).as_matrix()
    linear = turn.T / rng.uniform(0.94, 1.06, 3)[:, None]
    shift = BRAIN_CENTRE + linear @ rng.uniform(-4, 4, 3)
    spacings, start = np.diag(affine)[:3], affine[:3, 3]
    axes = [first + step * np.arange(n) for first, step, n in zip(start, spacings, shape, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    places = np.stack([a * x + b * y + c * z + move for (a, b, c), move in zip(linear, shift, strict=True)])
    for scale, displacement in ((40.0, 2.5), (15.0, 1.0)):  # mm
        for place in places:
            place += displacement * noise(rng, shape, spacings, scale)
    return places


def _atrophy_drift(rng, places, brain, spacings) -> np.ndarray:
    """Draw how far towards fluid each place moves as the tissue shrinks, `[3, N]` mm; mild to moderate."""
    severity = rng.uniform(1.0, 3.0) * (1 + 0.3 * noise(rng, brain.shape, spacings, 50.0)[brain])
    return severity * np.stack([sample(component, places) for component in fluid_gradient()])


def _tissue_fractions(rng, maps: TissueMaps, places, brain, spacings) -> np.ndarray:
    """Draw shares of grey matter, white matter and fluid `[3, N]`, crisper than the maps, a mean of many."""
    grey, white = sample(maps.grey, places), sample(maps.white, places)
    fractions = np.stack([grey, white, np.clip(1 - grey - white, 0, 1)]) ** 1.4
    for fraction, offset in zip(fractions, rng.normal((0.0, 0.0, 0.4), (0.1, 0.1, 0.3)), strict=True):
        fraction *= np.exp(offset + 0.35 * noise(rng, brain.shape, spacings, 8.0)[brain])
    return fractions / fractions.sum(0)


def vessel_share(rng: np.random.Generator, places: np.ndarray, spacing: float) -> np.ndarray:
    """Draw vessels; return the share `[N]` that they fill of voxels of `spacing` mm at `places` `[3, N]`."""
    courses, radii = zip(*_vessels(rng), strict=True)
    distance, nearest = KDTree(np.concatenate(courses)).query(places.T, distance_upper_bound=8.0 + spacing)
    radius = np.append(np.repeat(radii, [len(course) for course in courses]), 0.0)[nearest]
    filled = np.clip((radius - distance) / spacing + 0.5, 0, 1)
    return filled * np.minimum(1, np.pi * radius**2 / spacing**2)


def _vessels(rng) -> list[tuple[np.ndarray, float]]:
    """Draw courses `[N, 3]` and radii in mm of the sinuses, cortical veins and deep arteries."""
    dominant = rng.choice([-1, 1], p=[0.3, 0.7])  # most people's larger transverse sinus is the right one
    bend = rng.normal(0, 1.5, 2)  # on the surface in degrees: from the mid-plane, from anterior over the vertex
    vessels = [
        (_on_surface(_curve(rng, (bend[0], 15), (bend[1], 190), 1.5), 2.0), rng.uniform(1.8, 2.6)),
        (_on_surface(_curve(rng, (bend[1], 190), (dominant * 55, 205), 3), 2.5), rng.uniform(1.6, 2.6)),
        (_on_surface(_curve(rng, (bend[1], 190), (-dominant * 50, 205), 3), 2.5), rng.uniform(0.6, 1.4)),
    ]
    for _ in range(rng.integers(5, 11)):
        side, far, near = rng.choice([-1, 1]), rng.uniform(40, 75), rng.uniform(40, 160)
        course = _curve(rng, (side * far, rng.uniform(40, 150)), (side * rng.uniform(2, 25), near), 6)
        vessels.append((_on_surface(course, rng.uniform(2, 9)), rng.uniform(0.6, 1.2)))
    for _ in range(rng.integers(4, 9)):
        side = np.array([rng.choice([-1, 1]), 1, 1])
        start, end = rng.normal((18, -2, -16), 4), rng.normal((42, -15, 8), 14)
        vessels.append((_curve(rng, side * start, side * end, 3), rng.uniform(0.6, 1.3)))
    return vessels


def _curve(rng, start, end, wobble: float) -> np.ndarray:
    """Draw a smooth course `[N, D]` from `start` to `end` that strays by about `wobble`."""
    along = np.linspace(0, 1, 200)[:, None]
    strays = [rng.normal(0, wobble / k, len(start)) * np.sin(np.pi * k * along) for k in (1, 2, 3, 4)]
    return (1 - along) * np.asarray(start) + along * np.asarray(end) + sum(strays)


def _on_surface(angles: np.ndarray, depth: float) -> np.ndarray:
    """Find the points `[N, 3]` in MNI mm, `depth` mm below the brain's surface in directions `[N, 2]` in degrees."""
    aside, over = np.deg2rad(angles).T
    rays = np.stack([np.sin(aside), np.cos(aside) * np.cos(over), np.cos(aside) * np.sin(over)])
    lengths = np.arange(130.0)
    points = BRAIN_CENTRE[:, None, None] + rays[:, :, None] * lengths
    inside = sample(mni_maps().brain, points.reshape(3, -1)).reshape(points.shape[1:]) > 0.5
    reach = ndimage.gaussian_filter1d((inside * lengths).max(1), 3.0) - depth
    return BRAIN_CENTRE + (rays * reach).T

"""Synthetic people: the embedded source, which needs no download.

A head is made of the mirror-symmetric MNI152 tissue maps that nilearn ships: bent by a random uneven warp,
scaled, tilted, given tissue proportions of its own, crossed by vessels, seen by an imperfect scanner.
Patients carry metastases, a glioma, or atrophy. A head depends on the seed and the person's name alone: it is the same
in a larger cohort, has the same anatomy and lesions in another contrast, and the same anatomy at
another voxel size.
"""

import functools
from typing import NamedTuple

import numpy as np
from nilearn import datasets
from scipy import ndimage
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from symnorm_jax.data.phantom.lesions import LABELS, glioma, metastases, smooth_noise
from symnorm_jax.data.volumes import Scan, Volume
from symnorm_jax.errors import ConfigError
from symnorm_jax.geometry import centred_affine

FORMAT = 1  # raise it when the same arguments come to give other voxels
INTENSITIES = {  # of grey matter, white matter, cerebrospinal fluid and vessels
    "t1": (150, 215, 60, 240),
    "flair": (165, 125, 35, 195),
    "t1_gd": (140, 185, 70, 300),
}
FIELD_OF_VIEW = np.array([184.0, 216.0, 184.0])  # mm
BRAIN_CENTRE = np.array([0.0, -18.0, 8.0])  # mm in MNI space, at the centre of the field of view
SPACINGS = (0.8, 8.0)  # mm
NOISE = (0.0, 5.0)  # times that of the scanners below
DISEASES = ("atrophy", "glioma", "metastases")

_noise = functools.partial(smooth_noise, extent=FIELD_OF_VIEW)


def records(
    root: str | None,
    *,
    healthy: int,
    patients: int,
    seed: int,
    contrast: str = "t1",
    spacing: float = 2.0,
    disease: str = "metastases",
    labels: str = "whole",
    noise: float = 1.0,
    visits: int = 1,
) -> list[Scan]:
    """Healthy people, then patients with metastases, one glioma each or, with `atrophy`, wide sulci and ventricles.

    `spacing` is the edge of a voxel in mm; `root` is not used. `labels` says how much of a lesion the mask holds:
    the whole, its core without the oedema, or what takes up gadolinium; patients with atrophy have no mask. `noise`
    multiplies the scanner's. At every one of `visits` the same head is seen by the scanner anew.
    """
    if contrast not in INTENSITIES:
        raise ConfigError(f"contrast {contrast!r} is unknown; allowed: {', '.join(INTENSITIES)}")
    for key, value, allowed in (("disease", disease, DISEASES), ("labels", labels, LABELS)):
        if value not in allowed:
            raise ConfigError(f"data.options.{key}={value!r}; one of {sorted(allowed)} is allowed.")
    _within("spacing", spacing, SPACINGS, " mm")
    _within("noise", noise, NOISE)
    if min(healthy, patients, seed) < 0 or visits < 1:
        raise ConfigError(
            f"healthy={healthy}, patients={patients} and seed={seed} must not be negative, visits={visits} not below 1"
        )
    people = [(f"phantom-h{k:04d}", None) for k in range(healthy)]
    people += [(f"phantom-p{k:04d}", disease) for k in range(patients)]
    look = Look(seed, contrast, float(spacing), labels, float(noise))
    sessions = [f"visit{k}" for k in range(visits)] if visits > 1 else [""]
    return [_scan(*person, look, visit, name) for person in people for visit, name in enumerate(sessions)]


class Look(NamedTuple):
    """What decides how a person is seen."""

    seed: int
    contrast: str = "t1"
    spacing: float = 2.0
    labels: str = "whole"
    noise: float = 1.0


def _within(key: str, value: float, bounds: tuple[float, float], unit: str = "") -> None:
    if not bounds[0] <= value <= bounds[1]:
        raise ConfigError(f"{key} {value}{unit} is outside the allowed {bounds[0]} to {bounds[1]}{unit}")


def _scan(person: str, disease: str | None, look: Look, visit: int, session: str) -> Scan:
    what = disease or "healthy"
    recipe = f"phantom format {FORMAT}: {person}, {what}, seed {look.seed}, {look.contrast}, {look.spacing!r} mm"
    recipe += f", {look.labels}" * (look.labels != "whole") + f", noise {look.noise!r}" * (look.noise != 1)
    recipe += f", visit {visit}" * (visit > 0)
    load = functools.partial(_person, person, disease, *look, visit)
    return Scan(person, session, disease is None, load, recipe=recipe)


def _person(
    person: str,
    disease: str | None,
    seed: int,
    contrast: str,
    spacing: float,
    labels: str = "whole",
    noise: float = 1.0,
    visit: int = 0,
) -> Volume:
    anatomy = _anatomy(person, disease == "atrophy", seed, spacing)
    brain, shape, spacings = anatomy.brain, anatomy.brain.shape, np.full(3, spacing)
    *_, illness, scanner = _streams(person, seed)
    means = np.array(INTENSITIES[contrast]) * anatomy.levels
    head = np.zeros(shape, np.float32)
    head[brain] = means[:3] @ anatomy.fractions
    head *= anatomy.texture
    head[brain] += anatomy.flow * (means[3] - head[brain])

    lesion = None if disease == "atrophy" else np.zeros(shape, bool)
    if disease in ("glioma", "metastases"):
        grey, white = np.zeros((2, *shape), np.float32)
        grey[brain], white[brain] = anatomy.fractions[:2]
        plant = glioma if disease == "glioma" else metastases
        head, planted = plant(head, brain, grey, white, spacings, contrast, illness)
        lesion = np.isin(planted, LABELS[labels])
    scanner = scanner.spawn(visit)[-1] if visit else scanner
    voxels = _acquire(scanner, head, brain, means[1], spacings, noise)
    return Volume(voxels, centred_affine(shape, tuple(spacings)), lesion, brain.copy())


def _streams(person: str, seed: int) -> list[np.random.Generator]:
    """Generators for anatomy, tissue, vessels, illness and scanner, so that a disease changes only what it harms."""
    return np.random.default_rng([seed, int.from_bytes(person.encode())]).spawn(5)


class Anatomy(NamedTuple):
    """What a head is made of, in whatever contrast it is seen; `N` voxels lie in the brain."""

    brain: np.ndarray  # [X, Y, Z] bool
    fractions: np.ndarray  # [3, N] of grey matter, white matter and fluid
    levels: np.ndarray  # [4] factors of the four intensities
    texture: np.ndarray  # [X, Y, Z] factor
    flow: np.ndarray  # [N] share of vessels


@functools.lru_cache(maxsize=1)  # a person is often wanted in several contrasts, one after the other
def _anatomy(person: str, atrophied: bool, seed: int, spacing: float) -> Anatomy:
    anatomy, tissue, vessels, illness, _ = _streams(person, seed)
    spacings = np.full(3, spacing)
    shape = tuple(np.round(FIELD_OF_VIEW / spacing).astype(int))
    places = _places(anatomy, shape, centred_affine(shape, tuple(spacings)))
    brain = _sample(_template(spacing).brain, places.reshape(3, -1)).reshape(shape) > 0.5
    places = places[:, brain]
    drift = _atrophy_drift(illness, places, brain, spacings) if atrophied else 0.0
    fractions = _tissue_fractions(tissue, _template(spacing), places + drift, brain, spacings)
    levels = 1 + tissue.uniform(-0.04, 0.04, 4)
    texture = 1 + 0.025 * _noise(tissue, shape, spacings, 8.0) + 0.02 * _noise(tissue, shape, spacings, 4.0)
    return Anatomy(brain, fractions, levels, texture, _vessel_share(vessels, places, spacing))


class Template(NamedTuple):
    """MNI maps `[X, Y, Z]` float32 on a 1 mm grid."""

    grey: np.ndarray
    white: np.ndarray
    brain: np.ndarray
    origin: np.ndarray  # [3] mm of the first voxel


@functools.lru_cache(maxsize=1)
def _atlas() -> Template:
    kinds = ("gm_template", "wm_template", "brain_mask")
    images = [getattr(datasets, f"load_mni152_{kind}")(resolution=1) for kind in kinds]
    maps = [image.get_fdata(dtype=np.float32) for image in images]
    (box,) = ndimage.find_objects((maps[2] > 0).astype(np.uint8))
    box = tuple(slice(max(side.start - 4, 0), side.stop + 4) for side in box)
    origin = images[0].affine[:3, 3] + [side.start for side in box]
    return Template(*(np.ascontiguousarray(each[box]) for each in maps), origin)


@functools.lru_cache(maxsize=2)
def _template(spacing: float) -> Template:
    """The atlas blurred to what a voxel of `spacing` mm holds, so that coarse heads are not aliased."""
    sigma = spacing / np.sqrt(12)  # of a box of that width
    *maps, origin = _atlas()
    return Template(*(ndimage.gaussian_filter(each, sigma, mode="nearest") for each in maps), origin)


@functools.lru_cache(maxsize=1)
def _fluid_gradient() -> np.ndarray:
    """Direction towards nearby fluid `[3, X, Y, Z]`, about 1 long beside a wide space and 0 far from any."""
    fluid = 1 - _atlas().grey - _atlas().white  # also outside the brain, so the cortex recedes from the skull
    blurred = [ndimage.gaussian_filter(fluid, sigma) for sigma in (2.0, 4.0)]  # mm, as for sulci and ventricles
    return 3.0 * np.stack(np.gradient(blurred[0] + 2 * blurred[1]))


def _sample(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Linear interpolation of an atlas map at `places` `[3, N]` in MNI mm."""
    index = places - _atlas().origin[:, None]
    # "nearest" carries the brain stem on where the atlas is cut off below; its other sides are empty.
    return ndimage.map_coordinates(image, index, np.float32, order=1, mode="nearest")


def _places(rng, shape, affine) -> np.ndarray:
    """Where in MNI space every voxel of a person lies, `[3, X, Y, Z]` mm: the whole of a person's shape."""
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
            place += displacement * _noise(rng, shape, spacings, scale)
    return places


def _atrophy_drift(rng, places, brain, spacings) -> np.ndarray:
    """How far towards fluid each place has moved as the tissue shrank, `[3, N]` mm; mild to moderate."""
    severity = rng.uniform(1.0, 3.0) * (1 + 0.3 * _noise(rng, brain.shape, spacings, 50.0)[brain])
    return severity * np.stack([_sample(component, places) for component in _fluid_gradient()])


def _tissue_fractions(rng, template, places, brain, spacings) -> np.ndarray:
    """Shares of grey matter, white matter and fluid `[3, N]`, crisper than the atlas, a mean of many."""
    grey, white = _sample(template.grey, places), _sample(template.white, places)
    fractions = np.stack([grey, white, np.clip(1 - grey - white, 0, 1)]) ** 1.4
    for fraction, offset in zip(fractions, rng.normal((0.0, 0.0, 0.4), (0.1, 0.1, 0.3)), strict=True):
        fraction *= np.exp(offset + 0.35 * _noise(rng, brain.shape, spacings, 8.0)[brain])
    return fractions / fractions.sum(0)


def _vessel_share(rng, places, spacing: float) -> np.ndarray:
    """Share `[N]` of every place that vessels fill: bright, one-sided, and in the healthy too."""
    courses, radii = zip(*_vessels(rng), strict=True)
    distance, nearest = KDTree(np.concatenate(courses)).query(places.T, distance_upper_bound=8.0 + spacing)
    radius = np.append(np.repeat(radii, [len(course) for course in courses]), 0.0)[nearest]
    filled = np.clip((radius - distance) / spacing + 0.5, 0, 1)
    return filled * np.minimum(1, np.pi * radius**2 / spacing**2)


def _vessels(rng) -> list[tuple[np.ndarray, float]]:
    """Courses `[N, 3]` in MNI mm and radii in mm of the sinuses, cortical veins and deep arteries.

    On the surface a course is drawn in degrees: (from the mid-plane, from anterior over the vertex).
    """
    dominant = rng.choice([-1, 1], p=[0.3, 0.7])  # most people's larger transverse sinus is the right one
    bend = rng.normal(0, 1.5, 2)
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
    """A smooth random course `[N, D]` from `start` to `end` that strays by about `wobble`."""
    along = np.linspace(0, 1, 200)[:, None]
    strays = [rng.normal(0, wobble / k, len(start)) * np.sin(np.pi * k * along) for k in (1, 2, 3, 4)]
    return (1 - along) * np.asarray(start) + along * np.asarray(end) + sum(strays)


def _on_surface(angles: np.ndarray, depth: float) -> np.ndarray:
    """Points `[N, 3]` in MNI mm, `depth` mm below the brain's surface, in directions `[N, 2]` in degrees."""
    aside, over = np.deg2rad(angles).T
    rays = np.stack([np.sin(aside), np.cos(aside) * np.cos(over), np.cos(aside) * np.sin(over)])
    lengths = np.arange(130.0)
    points = BRAIN_CENTRE[:, None, None] + rays[:, :, None] * lengths
    inside = _sample(_atlas().brain, points.reshape(3, -1)).reshape(points.shape[1:]) > 0.5
    reach = ndimage.gaussian_filter1d((inside * lengths).max(1), 3.0) - depth
    return BRAIN_CENTRE + (rays * reach).T


def _acquire(rng, head, brain, white_mean: float, spacings, noisier: float) -> np.ndarray:
    """The head as a scanner shows it: blurred across slices, unevenly lit, noisy (Rician), skull-stripped."""
    seen = ndimage.gaussian_filter1d(head, rng.uniform(0.4, 1.0) / spacings[2], axis=2)
    seen *= np.exp(0.08 * _noise(rng, head.shape, spacings, 70.0))
    noise = rng.uniform(0.025, 0.035) * noisier * white_mean * rng.standard_normal((2, *head.shape), dtype=np.float32)
    return np.where(brain, np.hypot(seen + noise[0], noise[1]), 0).astype(np.float32)

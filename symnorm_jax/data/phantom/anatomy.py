"""What a synthetic head is made of: the tissue maps bent, tilted, given proportions of their own and vessels."""

import functools
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from symnorm_jax.data.phantom.lesions import smooth_noise
from symnorm_jax.data.phantom.tissue import BRAIN_CENTRE, TissueMaps, fluid_gradient, maps_at, sample
from symnorm_jax.data.phantom.vessels import vessel_share
from symnorm_jax.geometry import centred_affine

FIELD_OF_VIEW = np.array([184.0, 216.0, 184.0])  # mm

noise = functools.partial(smooth_noise, extent=FIELD_OF_VIEW)


class Anatomy(NamedTuple):
    """A head in whatever contrast it is seen; `N` voxels lie in the brain."""

    brain: np.ndarray  # [X, Y, Z] bool
    fractions: np.ndarray  # [3, N] of grey matter, white matter and fluid
    levels: np.ndarray  # [4] factors of the four intensities
    texture: np.ndarray  # [X, Y, Z] factor
    flow: np.ndarray  # [N] share of vessels


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

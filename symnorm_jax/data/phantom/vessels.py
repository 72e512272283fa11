"""Vessels: bright, one-sided, and in the healthy too. Places are MNI mm."""

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from symnorm_jax.data.phantom.tissue import BRAIN_CENTRE, mni_maps, sample


def vessel_share(rng: np.random.Generator, places: np.ndarray, spacing: float) -> np.ndarray:
    """Draw vessels; returns the share `[N]` that they fill of voxels of `spacing` mm at `places` `[3, N]`."""
    courses, radii = zip(*_vessels(rng), strict=True)
    distance, nearest = KDTree(np.concatenate(courses)).query(places.T, distance_upper_bound=8.0 + spacing)
    radius = np.append(np.repeat(radii, [len(course) for course in courses]), 0.0)[nearest]
    filled = np.clip((radius - distance) / spacing + 0.5, 0, 1)
    return filled * np.minimum(1, np.pi * radius**2 / spacing**2)


def _vessels(rng) -> list[tuple[np.ndarray, float]]:
    """Draw courses `[N, 3]` and radii in mm of the sinuses, cortical veins and deep arteries.

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
    """Draw a smooth course `[N, D]` from `start` to `end` that strays by about `wobble`."""
    along = np.linspace(0, 1, 200)[:, None]
    strays = [rng.normal(0, wobble / k, len(start)) * np.sin(np.pi * k * along) for k in (1, 2, 3, 4)]
    return (1 - along) * np.asarray(start) + along * np.asarray(end) + sum(strays)


def _on_surface(angles: np.ndarray, depth: float) -> np.ndarray:
    """Find the points `[N, 3]` that lie `depth` mm below the brain's surface in directions `[N, 2]` in degrees."""
    aside, over = np.deg2rad(angles).T
    rays = np.stack([np.sin(aside), np.cos(aside) * np.cos(over), np.cos(aside) * np.sin(over)])
    lengths = np.arange(130.0)
    points = BRAIN_CENTRE[:, None, None] + rays[:, :, None] * lengths
    inside = sample(mni_maps().brain, points.reshape(3, -1)).reshape(points.shape[1:]) > 0.5
    reach = ndimage.gaussian_filter1d((inside * lengths).max(1), 3.0) - depth
    return BRAIN_CENTRE + (rays * reach).T

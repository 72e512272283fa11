"""What a ruler tells of a brain: its volume and its size, the trivial predictors of age and sex."""

import numpy as np

from symnorm_jax.data.store import SampleSource


def measured(source: SampleSource, spacing: float) -> np.ndarray:
    """Brain volume in ml and length, width and height of the brain in mm, of each volume of `source`, `[N, 4]`.

    The size of the brain stands for that of the head, of which a prepared volume keeps nothing.
    """
    return np.stack([_of_one(source[i]["brain"][..., 0] > 0, spacing) for i in range(len(source))])


def _of_one(brain: np.ndarray, spacing: float) -> np.ndarray:
    """Of a mask `[X, Y, Z]` with voxels of `spacing` mm; sides are told to a fraction of a voxel, by its area there."""
    sides = [np.sqrt(_variance(brain.sum(tuple({0, 1, 2} - {axis})))) for axis in range(3)]
    return np.array([brain.sum() * spacing**3 / 1000, *(np.sqrt(20) * side * spacing for side in sides)])


def _variance(profile: np.ndarray) -> float:
    """Of where along an axis the voxels lie, in voxels; that of a solid ellipsoid is its side squared over 20."""
    place, share = np.arange(len(profile)), profile / max(profile.sum(), 1)
    return float(share @ place**2 - (share @ place) ** 2)

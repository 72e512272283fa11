"""What a ruler tells of a brain: its volume and its size, the trivial predictors of age and sex."""

import numpy as np

from symnorm_jax.data.store import SampleSource


def measured(source: SampleSource, spacing: float) -> np.ndarray:
    """Measure the brain's volume in ml and its length, width and height in mm, of each volume of `source`, `[N, 4]`.

    The size of the brain stands for that of the head, of which a prepared volume keeps nothing. A side is that of a
    solid ellipsoid with the same variance along it, so it is known to a fraction of a voxel.
    """
    return np.stack([_of_one(source[i]["brain"][..., 0] > 0, spacing) for i in range(len(source))])


def _of_one(brain: np.ndarray, spacing: float) -> np.ndarray:
    profiles = [brain.sum(tuple({0, 1, 2} - {axis})) for axis in range(3)]
    sides = [np.sqrt(20) * np.sqrt(_variance(profile)) * spacing for profile in profiles]
    return np.array([brain.sum() * spacing**3 / 1000, *sides])


def _variance(profile: np.ndarray) -> float:
    """Compute the variance, in voxels, of where along an axis the voxels lie; an ellipsoid's is its side ** 2 / 20."""
    place, share = np.arange(len(profile)), profile / max(profile.sum(), 1)
    return float(share @ place**2 - (share @ place) ** 2)

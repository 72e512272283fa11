"""Find the mid-sagittal plane of a volume and say how good the fit is.

Symmetry-aware masking is only as good as its mirror. The plane is sought perpendicular to the left-right axis: the
head is centred between its halves, and a tilted head stays tilted.
"""

from typing import NamedTuple

import numpy as np
from scipy.signal import fftconvolve

from symnorm_jax.data.geometry import LEFT_RIGHT

BLOCK = 1 << 22  # voxels transformed at a time, which bounds the memory


class Midline(NamedTuple):
    """The plane and its quality."""

    voxel: float  # where the plane cuts the left-right axis, in voxels
    similarity: float  # correlation, up to 1, of the volume with its mirror image in this plane


def find(voxels: np.ndarray) -> Midline:
    """The plane in which a skull-stripped or background-free volume `[X, Y, Z]` is most like its mirror image.

    Convolving a volume with itself along the left-right axis gives, for each half voxel, the overlap with its mirror
    image there; the plane is where the sum over all lines is greatest.
    """
    lines = np.moveaxis(voxels, LEFT_RIGHT, 0).reshape(voxels.shape[LEFT_RIGHT], -1)
    parts = np.array_split(lines, lines.size // BLOCK + 1, axis=1)
    overlap = sum(fftconvolve(part, part, axes=0).sum(1) for part in (one.astype(np.float64) for one in parts))
    best = int(overlap.argmax())
    return Midline(best / 2, _correlation(lines, best))


def _correlation(lines: np.ndarray, twice_plane: int) -> float:
    first, last = max(0, twice_plane - len(lines) + 1), min(len(lines) - 1, twice_plane)
    part = lines[first : last + 1]
    if part.std() == 0:
        return 0.0
    return float(np.corrcoef(part.ravel(), part[::-1].ravel())[0, 1])

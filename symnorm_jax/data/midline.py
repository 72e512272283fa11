"""The mid-sagittal plane of a scan, the frame in which it is straight, and how good the fit is.

A scan is registered to its own mirror image ("midway registration"). The plane is half of that registration and has
three degrees of freedom, so the plane is what is sought (`registration.py`).
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import jax
import numpy as np
from scipy import fft

from symnorm_jax.data import registration
from symnorm_jax.data.registration import axis_profiles, centroid
from symnorm_jax.geometry import AXIAL, LEFT_RIGHT

BLOCK = 1 << 22  # voxels transformed at a time, which bounds the memory
UNKNOWN = 90.0  # degrees: the error of a plane that was not found
UNLIKE = 0.2  # a similarity that noise may reach
MIN_VOXELS, MIN_SLICES = 200, 8  # of brain, along the thinnest axis: less shows no plane


class Midline(NamedTuple):
    """The mid-sagittal plane and its quality. Lengths are mm on the scan's own grid: voxel index times spacing."""

    normal: np.ndarray  # [3] unit normal of the plane, pointing to the right
    offset: float  # mm: the plane is the set of points p with normal . p = offset
    similarity: float  # correlation, up to 1, of the brain with its mirror image in this plane
    error: float  # degrees: the tilt that may be left, a jackknife standard error; nan where none was estimated
    matrix: np.ndarray  # [4, 4] from straightened mm, where the plane is x = 0, to grid mm

    @property
    def roll(self) -> float:
        """Degrees about the back-front axis; positive where the top of the head leans to the person's right."""
        return float(np.degrees(np.arctan2(-self.normal[2], self.normal[0]))) + 0.0  # not -0

    @property
    def yaw(self) -> float:
        """Degrees about the foot-head axis; positive where the face is turned to the person's left."""
        return float(np.degrees(np.arctan2(self.normal[1], self.normal[0])))


def find(voxels: np.ndarray, spacing: Sequence[float], stack: bool = False) -> Midline:
    """Find the plane in which a scan `[X, Y, Z]`, 0 outside the brain, of `spacing` mm, is most like its mirror image.

    The straightened frame begins at the point of the plane nearest to the brain's centroid and is turned by the
    smallest rotation. In a `stack` the distance between slices is a guess: they are turned in their own plane by one
    angle and moved along it in proportion to their height, z stays slice index times spacing, and `error` is that of
    the yaw. Where no plane is to be seen the answer is `centre`, with similarity 0 and error UNKNOWN. The tilt left in
    phantoms is, in root mean square, half of `error` where they are straight and uneven in intensity alone, and 1.5
    times it where they are bent, as people are.
    """
    voxels, spacing = np.asarray(voxels, np.float32), np.asarray(spacing, float)
    cube, middle, unit = registration.cube_of(voxels, spacing, stack)
    points, levels = registration.sample_points(), np.array([registration.BLURS, registration.LIMITS], np.float32)
    constants = points, registration.jackknife_blocks(points), registration.STARTS, levels
    try:  # the CPU has the scan already
        device = jax.default_device(jax.devices("cpu")[0])
    except RuntimeError:  # JAX was told to do without it
        device = nullcontext()
    with device:
        fits = jax.device_get(registration.register_all(jax.tree.map(lambda x: x[None], cube), *constants, stack=stack))
    theta, linear, shift, error, similarity = (fit[0] for fit in fits)
    spans = [np.count_nonzero(profile) for profile in axis_profiles(voxels)]
    seen = np.count_nonzero(voxels) >= MIN_VOXELS and min(spans[: AXIAL if stack else 3]) >= MIN_SLICES
    if not (seen and np.isfinite([*theta, error, similarity]).all() and similarity > UNLIKE):
        return centre(voxels, spacing)._replace(similarity=0.0, error=UNKNOWN)
    normal, matrix = np.array([1, *theta[:2]], float) / np.linalg.norm([1, *theta[:2]]), np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, middle + unit * shift
    offset = float(normal @ matrix[:3, 3])
    if stack:
        matrix[:3, 3] -= middle[AXIAL] * linear[:, AXIAL]
    return Midline(normal, offset, float(similarity), min(float(np.degrees(error)), UNKNOWN), matrix)


def centre(voxels: np.ndarray, spacing: Sequence[float]) -> Midline:
    """Find the plane across the left-right axis in which a scan `[X, Y, Z]` is most like its mirror image."""
    # Convolved with itself along that axis a scan is, for each half voxel, its overlap with its mirror image there.
    lines = np.moveaxis(voxels, LEFT_RIGHT, 0).reshape(voxels.shape[LEFT_RIGHT], -1)
    length = 2 * len(lines) - 1
    size, parts = fft.next_fast_len(length, real=True), np.array_split(lines, lines.size // BLOCK + 1, axis=1)
    spectra = (fft.rfft(part.astype(np.float64), size, axis=0) for part in parts)
    overlap = sum(fft.irfft(spectrum**2, size, axis=0)[:length].sum(1) for spectrum in spectra)
    best = int(overlap.argmax())
    shared = lines[max(0, best - len(lines) + 1) : best + 1]
    similarity = float(np.corrcoef(shared.ravel(), shared[::-1].ravel())[0, 1]) if shared.std() else 0.0
    offset, matrix = best / 2 * float(spacing[LEFT_RIGHT]), np.eye(4)
    matrix[:3, 3] = centroid(axis_profiles(voxels), spacing)
    matrix[LEFT_RIGHT, 3] = offset
    return Midline(np.eye(3)[LEFT_RIGHT], offset, similarity, float("nan"), matrix)

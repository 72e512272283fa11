"""The axes of everything, and the mirror. No other file knows which axis is which.

Volumes are RAS+ arrays `[X, Y, Z]`: X runs left to right, Y posterior to anterior, Z inferior to superior. A slice is
`[X, Y]`. Batches are `[B, X, Y, C]` or `[B, X, Y, Z, C]`. Lengths are mm. Functions take NumPy and JAX arrays alike.
"""

import numpy as np

LEFT_RIGHT = 0  # the axis of an unbatched volume, slice or patch grid that the mid-sagittal plane cuts
AXIAL = 2  # the axis along which a volume is cut into axial slices
SAGITTAL = (1, AXIAL)  # the plane in which a turn leaves left and right alone


def mirror(example):
    """Mirror one volume, slice or patch grid left to right, `[X, ...] -> [X, ...]`."""
    return example[::-1]


def mirror_batch(batch):
    """Mirror every example left to right, `[B, X, ...] -> [B, X, ...]`."""
    return batch[:, ::-1]


def voxel_sizes(affine: np.ndarray) -> np.ndarray:
    """Measure the edges of a voxel in mm, `[4, 4] -> [3]`."""
    return np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(0))


def corners_apart(affine: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """Measure how far, in mm, the corners of a grid of `shape` `[3]` lie apart by two affines `[4, 4]`, at most."""
    corners = np.stack(np.meshgrid(*[(0, side - 1) for side in shape], (1,), indexing="ij"), -1).reshape(-1, 4)
    return float(np.linalg.norm(corners @ (np.asarray(affine) - other).T, axis=1).max())


def skew(affine: np.ndarray) -> float:
    """Measure the largest cosine between two axes of an affine `[4, 4]`: 0 at right angles."""
    along = np.asarray(affine)[:3, :3] / voxel_sizes(affine)
    return float(abs(along.T @ along - np.eye(3)).max())


def centred_affine(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> np.ndarray:
    """Make the voxel-to-mm affine `[4, 4]` of an RAS+ grid centred at 0 mm, for releases that store no affine."""
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -np.asarray(spacing) * (np.asarray(shape) - 1) / 2
    return affine


def plane(sample, share: float = 0.5):
    """Take a slice `[X, Y]` as it is, and of a volume `[X, Y, Z]` the axial plane at this share of its height."""
    return sample if sample.ndim == 2 else sample[..., round(share * (sample.shape[AXIAL] - 1))]


def picture(slice_):
    """Turn a slice `[X, Y]` or `[X, Y, C]` to image rows: anterior at the top, the person's left at the left."""
    return np.swapaxes(np.asarray(slice_), 0, 1)[::-1]


def from_picture(rows):
    """Turn image rows with anterior at the top back to a slice `[X, Y]` or `[X, Y, C]`; inverts `picture`."""
    return np.swapaxes(np.asarray(rows)[::-1], 0, 1)

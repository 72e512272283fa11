"""The grid of slices laid into a volume: straight along the mid-line, centred on the brain; there and back."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage

from symnorm_jax.data.midline import Midline
from symnorm_jax.geometry import AXIAL, LEFT_RIGHT


class Frame(NamedTuple):
    """A grid `[X, Y, N]` of N axial slices, whose left and right halves are mirror images about the mid-line."""

    to_voxel: np.ndarray  # [4, 4] from index in the grid to index in the RAS+ volume
    size: tuple[int, int, int]


def lay(brain: np.ndarray, voxel: np.ndarray, plane: Midline, config: ConfigDict, stack=False, box=None) -> Frame:
    """Lay a frame about a `brain` `[X, Y, Z]` bool with voxels of `voxel` `[3]` mm, by the `data` section `config`.

    In plane it is centred on the mid-line and on the brain from back to front. Slices span the brain, `slice_spacing`
    mm apart or, for 0 and in a `stack` of pictures, whose distance is a guess, as far apart as the voxels. A size of
    three sides is a box of isotropic voxels, centred on the brain from below to above too. Corners `box` `[2, 3]`, in
    straightened mm, may stand in for the brain's, the same in all heads.
    """
    low, high = _extent(brain, voxel, plane.matrix) if box is None else box
    step, size = np.full(3, float(config.spacing)), tuple(config.size)
    if len(size) == 2:
        step[AXIAL] = (0 if stack else config.slice_spacing) or voxel[AXIAL]
        size += (int(np.floor((high - low)[AXIAL] / step[AXIAL] + 1e-3)) + 1,)
    to_straight = np.diag([*step, 1.0])
    to_straight[:3, 3] = (low + high) / 2 - (np.array(size) - 1) / 2 * step
    to_straight[LEFT_RIGHT, 3] = -(size[LEFT_RIGHT] - 1) / 2 * step[LEFT_RIGHT]  # the mid-line is at 0
    if len(config.size) == 2:
        to_straight[AXIAL, 3] = low[AXIAL]
    return Frame(np.diag([*(1 / voxel), 1.0]) @ plane.matrix @ to_straight, size)


def resample(array: np.ndarray, frame: Frame, voxel: np.ndarray) -> np.ndarray:
    """Resample a volume `[X, Y, Z]` of voxels of `voxel` `[3]` mm to the frame's grid, float32, linearly, 0 outside."""
    pace = np.linalg.norm(frame.to_voxel[:3, :3] * voxel[:, None], axis=0)
    sigma, array = 0.42 * np.sqrt(np.maximum((pace / voxel) ** 2 - 1, 0)), array.astype(np.float32)
    if sigma.max() > 1e-3:  # the grid is coarser than the voxels: blurred, lest detail alias
        array = ndimage.gaussian_filter(array, sigma)
    return ndimage.affine_transform(array, frame.to_voxel, output_shape=frame.size, order=1)


def carry_back(values: np.ndarray, frame: Frame, shape: tuple[int, int, int], order: int = 1) -> np.ndarray:
    """Carry a map `[X, Y, N]` on the frame's grid, or for `order` 0 a mask, back to a volume of `shape`, 0 beyond."""
    values = np.asarray(values, np.float32)
    return ndimage.affine_transform(values, np.linalg.inv(frame.to_voxel), output_shape=shape, order=order)


def _extent(brain: np.ndarray, voxel: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Find the lowest and highest straightened coordinates, `[2, 3]` mm, of the brain's voxels."""
    lines = np.argwhere(brain.any(LEFT_RIGHT))  # the ends of each line from left to right span all the rest
    first = brain.argmax(LEFT_RIGHT)[tuple(lines.T)]
    last = len(brain) - 1 - brain[::-1].argmax(LEFT_RIGHT)[tuple(lines.T)]
    ends = np.concatenate([np.column_stack([end, lines]) for end in (first, last)]) * voxel
    straight = (ends - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T
    return np.stack([straight.min(0), straight.max(0)])

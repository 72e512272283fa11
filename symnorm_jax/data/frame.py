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


def lay(
    brain: np.ndarray,
    voxel: np.ndarray,
    plane: Midline,
    config: ConfigDict,
    stack: bool = False,
    box: np.ndarray | None = None,
) -> Frame:
    """The frame of a `brain` `[X, Y, Z]` bool with voxels of `voxel` `[3]` mm, by the `data` section `config`.

    In plane it is centred on the mid-line and on the brain from back to front; slices go from the lowest to the
    highest voxel of the brain, `slice_spacing` mm apart or, for 0 and in a `stack` of pictures, whose distance is a
    guess, as far apart as the voxels. A size of three sides is a box of isotropic voxels, centred on the brain from
    below to above too. Where a `box` `[2, 3]` of straightened mm is given, its corners stand in for the brain's: every
    head has the same frame.
    """
    low, high = _extent(brain, voxel, plane.matrix) if box is None else box
    if len(config.size) == 3:
        step, start = np.full(3, config.spacing), (low + high) / 2 - (np.array(config.size) - 1) / 2 * config.spacing
        return _frame(step, start, voxel, plane, tuple(config.size))
    step = np.array([config.spacing, config.spacing, 0 if stack else config.slice_spacing])
    step[AXIAL] = step[AXIAL] or voxel[AXIAL]
    count = int(np.floor((high - low)[AXIAL] / step[AXIAL] + 1e-3)) + 1
    start = (low + high) / 2 - (np.array([*config.size, 0]) - 1) / 2 * step
    start[AXIAL] = low[AXIAL]
    return _frame(step, start, voxel, plane, (*config.size, count))


def _frame(step: np.ndarray, start: np.ndarray, voxel: np.ndarray, plane: Midline, size: tuple[int, int, int]) -> Frame:
    """The grid of `size` with nodes `step` `[3]` mm apart, whose first from back and below is at `start` `[3]`."""
    to_straight = np.diag([*step, 1.0])
    to_straight[:3, 3] = start
    to_straight[LEFT_RIGHT, 3] = -(size[LEFT_RIGHT] - 1) / 2 * step[LEFT_RIGHT]  # the mid-line is at 0
    return Frame(np.diag([*(1 / voxel), 1.0]) @ plane.matrix @ to_straight, size)


def resample(array: np.ndarray, frame: Frame, voxel: np.ndarray) -> np.ndarray:
    """A volume `[X, Y, Z]` on the frame's grid, float32: linear, zero outside.

    It is blurred first where the grid is coarser than the voxels, of `voxel` `[3]` mm, lest detail alias.
    """
    pace = np.linalg.norm(frame.to_voxel[:3, :3] * voxel[:, None], axis=0)
    sigma = 0.42 * np.sqrt(np.maximum((pace / voxel) ** 2 - 1, 0))
    array = array.astype(np.float32)
    if sigma.max() > 1e-3:
        array = ndimage.gaussian_filter(array, sigma)
    return ndimage.affine_transform(array, frame.to_voxel, output_shape=frame.size, order=1)


def carry_back(values: np.ndarray, frame: Frame, shape: tuple[int, int, int], order: int = 1) -> np.ndarray:
    """Values on the frame's grid `[X, Y, N]` as a volume of `shape`, zero where the grid does not reach.

    `order` 1 interpolates maps, 0 keeps the values of masks.
    """
    values = np.asarray(values, np.float32)
    return ndimage.affine_transform(values, np.linalg.inv(frame.to_voxel), output_shape=shape, order=order)


def _extent(brain: np.ndarray, voxel: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The lowest and highest straightened coordinates, `[2, 3]` mm, of the brain's voxels."""
    lines = np.argwhere(brain.any(LEFT_RIGHT))  # the ends of each line from left to right span all the rest
    first = brain.argmax(LEFT_RIGHT)[tuple(lines.T)]
    last = len(brain) - 1 - brain[::-1].argmax(LEFT_RIGHT)[tuple(lines.T)]
    ends = np.concatenate([np.column_stack([end, lines]) for end in (first, last)]) * voxel
    straight = (ends - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T
    return np.stack([straight.min(0), straight.max(0)])

"""Draws heads of random grids, and stores them as real files are: any orientation, type of value, scaling and header.

What is drawn is the truth that a source must give back. The same generator gives the same files.
"""

from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from layouts import _ellipsoid
from PIL import Image
from scipy.spatial.transform import Rotation

from symnorm_jax.geometry import centred_affine, corners_apart, picture, voxel_sizes

MARKS = 3  # voxels that are brighter than all around them
MARK, LESION, DARK, BRIGHT = 250, 40, 60, 150  # of 255: a mark, what a lesion adds, and the limits of tissue
RESIDUE = 1e-6  # what scaling leaves around a mask
NAMES = ("Jürgen", "Zoë", "person", "Łucja", "p-7", "Ana Ría")


class Head(NamedTuple):
    """A head on an RAS+ grid, in whole numbers from 0 to 255, and where its lesion lies."""

    voxels: np.ndarray  # [X, Y, Z] float
    brain: np.ndarray  # [X, Y, Z] bool
    lesion: np.ndarray  # [X, Y, Z] bool
    affine: np.ndarray  # [4, 4]
    marks: np.ndarray  # [MARKS, 3] voxel indices

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.voxels.shape

    def to(self, spacing) -> "Head":
        """The same voxels without geometry of their own: `spacing` mm apart about 0."""
        return self._replace(affine=centred_affine(self.shape, spacing))


def draw_head(rng: np.random.Generator, stripped: bool = False, oblique: bool = True, ill: bool = True) -> Head:
    """A head of some 160 x 190 x 150 mm in voxels of 6 to 12 mm, its lesion, if `ill`, well to the left or right."""
    sizes = rng.uniform((6, 6, 7), (9, 9, 12))
    shape = tuple(np.round(rng.uniform((155, 185, 145), (175, 205, 165)) / sizes).astype(int).tolist())
    brain = _ellipsoid(shape, (0, 0, 0.1), (0.66, 0.78, 0.78))
    voxels = np.where(_ellipsoid(shape, (0, 0, 0), (0.82, 0.92, 0.97)), rng.integers(150, 180), 0)
    voxels[_ellipsoid(shape, (0, 0, 0.1), (0.74, 0.86, 0.86))] = 25
    voxels = np.where(brain, rng.integers(DARK, BRIGHT, shape), voxels)
    centre = (rng.choice([-1, 1]) * rng.uniform(0.32, 0.36), *rng.uniform(-0.25, 0.25, 2))
    lesion = brain & _ellipsoid(shape, centre, rng.uniform(0.2, 0.27, 3)) & ill
    voxels = voxels + LESION * lesion
    if stripped:
        voxels = np.where(brain, voxels, 0)
    deep = np.argwhere(_ellipsoid(shape, (0, 0, 0.1), (0.5, 0.6, 0.6)))
    marks = rng.permutation(deep)[:MARKS]
    voxels[tuple(marks.T)] = MARK
    turn = rng.uniform(-12, 12, 3) * (oblique and rng.random() < 0.5)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() * sizes
    affine[:3, 3] = rng.uniform(-20, 20, 3) - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Head(voxels.astype(float), brain, lesion, affine, marks)


def nifti(rng: np.random.Generator, path: Path, values: np.ndarray, affine: np.ndarray) -> Path:
    """Store whole numbers, RAS+, in any of the 48 orientations, of several types, placed by sform, qform or both."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = [(np.int16, 1, 0), (np.float32, 1, 0), (np.int16, 0.5, -5), (np.int32, 1, 0), (np.float64, 1, 0)]
    if values.min() >= 0:
        kinds += [(np.uint8, 1, 0), (np.uint8, 1, 0), (np.uint16, 1 / 3, 0)]
    dtype, slope, intercept = kinds[rng.integers(len(kinds))]
    if (values != np.round(values)).any():
        dtype, slope, intercept = np.float32, 1, 0
    raw = (values - intercept) / slope
    raw = raw.astype(dtype) if np.issubdtype(dtype, np.floating) else np.round(raw).astype(dtype)
    _save(path, raw, *_turned(rng, affine, raw.shape), rng.integers(4), slope, intercept)
    return path


def _turned(rng, affine, shape) -> tuple[np.ndarray, np.ndarray]:
    """A random order and direction of axes, and the affine that says so."""
    turn = np.stack([rng.permutation(3), rng.choice([-1, 1], 3)], 1)
    return turn, affine @ nib.orientations.inv_ornt_aff(turn, shape)


def _save(path: Path, raw, turn, affine, forms: int, slope: float, intercept: float) -> None:
    image = nib.Nifti1Image(nib.apply_orientation(raw, turn), affine)
    image.set_qform(affine, code=(0, 1, 1, 2)[forms])
    image.set_sform(affine, code=(1, 0, 1, 4)[forms])
    image.header.set_xyzt_units("mm" if forms else "unknown")
    if forms == 1 and corners_apart(image.affine, affine, raw.shape) > 0.03:  # half turns are inexact as quaternions
        image.set_sform(affine, code=1)
    nib.save(image, path)
    if slope != 1:  # nibabel would scale what it saves by itself
        patch(path, lambda header: header.set_slope_inter(slope, intercept))


def patch(path: Path, change) -> None:
    """Change the header of a NIfTI file in place, and nothing else."""
    with nib.openers.ImageOpener(str(path)) as stream:
        data = stream.read()
    header = nib.Nifti1Header(data[:348], check=False)
    change(header)
    with nib.openers.ImageOpener(str(path), "wb") as stream:
        stream.write(header.binaryblock + data[348:])


def mask_values(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """The values that a sound mask may have: 0 and another, at times with what scaling leaves."""
    values = mask * float(rng.choice([1, 255, 7, 1]))
    return values + RESIDUE * rng.random(mask.shape) if rng.random() < 0.2 else values


def pictures(
    folder: Path, values: np.ndarray, name: str, first: int = 1, step: int = 1, rgb: bool = False, quality: int = 95
) -> list[Path]:
    """Store slices `[X, Y, Z]` or `[X, Y, Z, 3]` as pictures called `name` with their numbers, lowest first."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for k in range(values.shape[2]):
        rows = np.ascontiguousarray(picture(values[:, :, k])).astype(np.uint8)
        rows = np.stack([rows] * 3, -1) if rgb and k % 3 == 0 else rows
        paths.append(folder / name.format(first + step * k))
        Image.fromarray(rows).save(paths[-1], quality=quality)
    return paths


def lesion_areas(lesion: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The area of each slice of a mask, in mm2, and the length of its outline, in mm."""
    x, y, _ = voxel_sizes(affine)
    padded = np.pad(lesion, 1).astype(int)
    edges = [abs(np.diff(padded, axis=axis)).sum((0, 1))[1:-1] for axis in (0, 1)]
    return lesion.sum((0, 1)) * x * y, edges[0] * y + edges[1] * x

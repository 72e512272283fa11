"""Plant real lesions in healthy heads: shapes drawn in other people and carried to MNI space, painted in.

A folder holds them as `*_lesion.nii.gz`, each used once at most. Without a brain mask, the brain is what lies so deep
in the head and so far from its top, and no farther to the front or back than above the face. All of this is for T1.
"""

import itertools
from pathlib import Path

import numpy as np
from absl import logging
from scipy import ndimage

from symnorm_jax.data.masks import TWO, marked
from symnorm_jax.data.phantom.lesions import paint
from symnorm_jax.data.volumes import Volume, read_nifti
from symnorm_jax.errors import ScanError
from symnorm_jax.geometry import AXIAL, voxel_sizes

LESION_ML = (1.5, 150.0)  # sizes to choose from, as drawn; a head holds about 3/4 as much as MNI space
MIN_INSIDE = 0.3  # the part of a planted lesion that must lie in the brain
CONTRASTS = (-0.45, -0.15)  # infarcted tissue is dark on T1
MNI_BRAIN = np.array([[-72.5, -107.5, -72.5], [72.5, 73.5, 82.5]])  # mm, around nilearn's MNI152 brain mask
SCALP_MM = 12.0
BRAIN_HEIGHT_MM = 135.0
ABOVE_FACE_MM = 75.0


def assign(people: list[str], folder: Path, planted: float, pairs: int, seed: int) -> dict[str, tuple[str, ...]]:
    """Choose the lesion files, `pairs` or one, of each person who receives any; as many are read as are needed.

    With more pairs the first lesion of everybody stays the same. Raises ScanError where there are too few.
    """
    if not folder.is_dir():
        needed = "must name one, from data.root, or be empty"
        raise ScanError(f"{folder}: not a folder; data.options.lesion_masks {needed}.")
    rng = np.random.default_rng(seed)
    chosen = [people[i] for i in rng.permutation(len(people))[: round(planted * len(people))]]
    files = sorted(folder.glob("*_lesion.nii.gz"))
    suitable = (str(files[i]) for i in rng.permutation(len(files)) if _is_suitable(files[i]))
    needed = len(chosen) * max(pairs, 1)
    lesions = list(itertools.islice(suitable, needed))
    if len(lesions) < needed:
        hold = f"{len(lesions)} of {len(files)} *_lesion.nii.gz files hold {LESION_ML[0]:g} to {LESION_ML[1]:g} ml"
        needs = f"planted={planted:g}, pairs={pairs} of {len(people)} people needs {needed}, none of them twice"
        raise ScanError(f"{folder}: {hold}; {needs}.")
    return {person: tuple(lesions[i :: len(chosen)]) for i, person in enumerate(chosen)}


def _is_suitable(path: Path) -> bool:
    try:
        mask, affine = _drawn(str(path))
    except ScanError as error:
        logging.warning("a lesion mask is left out: %s", error)
        return False
    millilitres = mask.sum() * voxel_sizes(affine).prod() / 1000
    return LESION_ML[0] <= millilitres <= LESION_ML[1]


def _drawn(path: str) -> tuple[np.ndarray, np.ndarray]:
    drawn, affine = read_nifti(path)
    return marked(drawn, TWO, "lesion", path), affine


def plant(volume: Volume, lesion: str, seed: tuple[int, ...]) -> Volume:
    """Paint the lesion of a file into a head, with its exact mask. Raises ScanError, see `warp_lesion`."""
    spacing = voxel_sizes(volume.affine)
    brain = _inner_head(volume.voxels, spacing) if volume.brain is None else volume.brain
    mask = warp_lesion(lesion, brain)
    voxels = paint(volume.voxels, mask, brain, spacing, np.random.default_rng(seed), CONTRASTS)
    return volume._replace(voxels=voxels, lesion=mask)


def warp_lesion(path: str, brain: np.ndarray) -> np.ndarray:
    """Carry a lesion from MNI space into the box of `brain` `[X, Y, Z]`; ScanError with less than MIN_INSIDE in it."""
    if not brain.any():
        raise ScanError(f"{path}: the head has 0 voxels of brain; a lesion needs one to lie in.")
    mask, affine = _drawn(path)
    to_drawn = np.linalg.inv(affine) @ to_mni(brain)
    warped = ndimage.affine_transform(mask.astype(np.float32), to_drawn, output_shape=brain.shape, order=1) > 0.5
    inside = (warped & brain).sum()
    if inside < max(1, MIN_INSIDE * warped.sum()):
        raise ScanError(f"{path}: {inside} of {warped.sum()} voxels lie in the brain; {MIN_INSIDE:.0%} must.")
    return warped & brain


def to_mni(brain: np.ndarray) -> np.ndarray:
    """Compute the affine `[4, 4]` from the voxels of an RAS+ head to mm in MNI space, along the head's own axes."""
    extents = [np.flatnonzero(brain.any(other))[[0, -1]] for other in ((1, 2), (0, 2), (0, 1))]
    low, high = np.transpose(extents) + [[-0.5], [0.5]]
    scale = (MNI_BRAIN[1] - MNI_BRAIN[0]) / (high - low)
    affine = np.diag([*scale, 1.0])
    affine[:3, 3] = MNI_BRAIN[0] - scale * low
    return affine


def _inner_head(voxels: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Find roughly the brain of a head `[X, Y, Z]` on a 3 mm grid: good for its box, coarse at its base."""
    step = max(1, round(3.0 / spacing.min()))
    coarse, size = voxels[::step, ::step, ::step], spacing * step
    regions, _ = ndimage.label(coarse > coarse.mean())
    head = regions == 1 + np.bincount(regions.ravel(), minlength=2)[1:].argmax()
    head = np.stack([ndimage.binary_fill_holes(slice_) for slice_ in np.moveaxis(head, AXIAL, 0)], axis=AXIAL)
    inner = ndimage.distance_transform_edt(head, sampling=size) > SCALP_MM
    if not inner.any():
        return np.zeros(voxels.shape, bool)
    top = np.flatnonzero(inner.any((0, 1)))[-1] + 1
    inner[:, :, : max(0, top - round(BRAIN_HEIGHT_MM / size[AXIAL]))] = False
    face = max(0, top - round(ABOVE_FACE_MM / size[AXIAL]))
    inner &= inner[:, :, face:].any((0, 2))[:, None]
    return inner[np.ix_(*(np.arange(length) // step for length in voxels.shape))]

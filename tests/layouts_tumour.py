"""Writes miniature BrainMetShare and BraTS releases; lesions lie on the person's left, so that sides can be checked."""

from pathlib import Path

import numpy as np
from layouts import head
from PIL import Image

from symnorm_jax.data.volumes import write_nifti
from symnorm_jax.geometry import picture

SHAPE = (20, 24, 12)
METS_CHANNELS = ("bravo", "t1_pre", "t1_gd", "flair")  # in the order of the picture folders 0 to 3
BRATS_CHANNELS = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}


def sided_head(seed: int, level: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A stripped head `[X, Y, Z]` of 0 to 250, `level` brighter than others, its brain, and a label map 0 to 3."""
    voxels, brain = head(SHAPE, seed)
    labels = np.zeros(SHAPE, np.uint8)
    labels[4:9, 9:16, 3:9] = 2
    labels[5:8, 10:14, 4:8] = 3
    labels[6, 11:13, 5:7] = 1
    labels *= brain
    voxels = np.where(brain, 100 * voxels + 20 * level + 30 * (labels > 0), 0)
    return voxels.round(), brain, labels


def write_mets_volumes(
    root: Path, names: tuple[str, ...], end: str = ".nii.gz", part: str = "train", lacking: tuple[str, ...] = ()
) -> Path:
    """`root/part/<name>/{bravo,t1_pre,t1_gd,flair,seg}<end>`, of the first name without the pieces `lacking`."""
    for seed, name in enumerate(names):
        pieces = {channel: sided_head(seed, level)[0].astype(np.int16) for level, channel in enumerate(METS_CHANNELS)}
        pieces["seg"] = (sided_head(seed)[2] > 0).astype(np.uint8)
        for piece in pieces.keys() - (set(lacking) if seed == 0 else set()):
            _write(root / part / name / f"{piece}{end}", pieces[piece], 1.0, "LAS")
    return root


def write_mets_pictures(root: Path, names: tuple[str, ...], part: str = "", first: int = 1, seg: bool = True) -> Path:
    """`root/part/<name>/{0,1,2,3,seg}/<slice>.png`, numbered from `first`, every third of them RGB."""
    for seed, name in enumerate(names):
        for level in range(len(METS_CHANNELS)):
            voxels = sided_head(seed, level)[0].astype(np.uint8)
            _write_pictures(root / part / name / str(level), voxels, first)
        if seg:
            mask = 255 * (sided_head(seed)[2] > 0).astype(np.uint8)
            _write_pictures(root / part / name / "seg", mask, first)
    return root


def write_brats(
    folder: Path, names: tuple[str, ...], seg: bool = True, old: bool = False, end: str = ".nii.gz"
) -> Path:
    """`folder/<name>/<name>-{t1n,t1c,t2w,t2f,seg}<end>`, or named as in 2021 if `old`, stored L-P-S.

    Some of the brain is negative; the background is 0.
    """
    for seed, name in enumerate(names):
        for level, (new_name, old_name) in enumerate(BRATS_CHANNELS.items()):
            voxels, brain, labels = sided_head(seed, level)
            voxels = np.where(brain, voxels - 75.5, 0).astype(np.float32)
            piece = f"_{old_name}" if old else f"-{new_name}"
            _write(folder / name / f"{name}{piece}{end}", voxels, 1.0, "LPS")
        if seg:
            labels = np.where(labels == 3, 4, labels).astype(np.uint8) if old else labels
            _write(folder / name / f"{name}{'_' if old else '-'}seg{end}", labels, 1.0, "LPS")
    return folder


def _write(path: Path, voxels: np.ndarray, spacing: float, axes: str) -> None:
    write_nifti(path, voxels, np.diag([spacing] * 3 + [1.0]), axes)


def _write_pictures(folder: Path, voxels: np.ndarray, first: int) -> None:
    folder.mkdir(parents=True)
    for k in range(voxels.shape[2]):
        rows = picture(voxels[:, :, k])
        rows = np.stack([rows] * 3, -1) if k % 3 == 2 else rows
        Image.fromarray(np.ascontiguousarray(rows)).save(folder / f"{first + k}.png")

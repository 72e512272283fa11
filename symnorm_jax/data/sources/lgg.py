"""TCGA-LGG in the layout of Kaggle's "LGG MRI Segmentation": one folder a patient, one picture a slice.

In `TCGA_<centre>_<person>_<date>/`, the RGB picture `<folder name>_<slice>.tif` holds T1 before contrast,
FLAIR and T1 after contrast, and `..._mask.tif` outlines the FLAIR abnormality. Everyone has a glioma.

Anterior is at the top of a picture and slice 1 is the lowest, but the release stores no geometry. Which side
is the person's left is unknown; the picture's left is taken for it. Voxel sizes follow from two assumed
lengths: they keep a head's proportions roughly right, but no volume in ml should be quoted from them.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np
from absl import logging

from symnorm_jax.data.sources.listing import existing, nothing_found, one_of
from symnorm_jax.data.sources.pictures import check_count, read_picture, read_stack
from symnorm_jax.data.volumes import Scan, Volume
from symnorm_jax.errors import ScanError
from symnorm_jax.geometry import centred_affine

FORMAT = 1  # raise it when the same files would give other voxels
CHANNELS = ("t1_pre", "flair", "t1_post")  # as stored in red, green and blue
WIDTH_MM = 240.0  # assumed: the field of view that a picture's width covers
HEIGHT_MM = 150.0  # assumed: what all slices cover together, be they 20 or 88: skull base to vertex
_NAME = "TCGA_<centre>_<person>_<date>"
LAYOUT = f"{_NAME}/{_NAME}_<slice>.tif with a {_NAME}_<slice>_mask.tif beside each"

_FOLDER = re.compile(r"(TCGA_([A-Z0-9]+)_[A-Z0-9]+)_(\d+)")


def records(root: str, *, channel: str = "flair") -> list[Scan]:
    """One Scan a patient, but none for those in whom FLAIR is stored in place of a missing `channel`."""
    one_of("channel", channel, CHANNELS)
    scans = [_scan(folder, channel) for folder in _patient_folders(root)]
    if channel == "flair":
        return scans
    kept = [scan for scan in scans if not _repeats_flair(scan.files, channel)]
    if len(kept) < len(scans):
        missing = len(scans) - len(kept)
        logging.warning("%s: left out %d of %d patients without %s.", root, missing, len(scans), channel)
    return kept


def load(folder: str, images: tuple[str, ...], channel: str) -> Volume:
    """The slices, lowest first, as voxels `[X, Y, Z]` of 0 to 255, and the lesion; there is no brain mask."""
    check_count(folder, f"{Path(folder).name}_<slice>.tif", len(images))
    voxels = read_stack(images, ("RGB",), CHANNELS.index(channel)).astype(np.float32)
    if voxels.min() == voxels.max():
        raise ScanError(f"{folder}: {channel} is {voxels.flat[0]:g} everywhere; it must have contrast.")
    lesion = read_stack([_mask_of(path) for path in images], ("L",)) > 0
    if lesion.shape != voxels.shape:
        raise ScanError(f"{folder}: the masks have shape {lesion.shape}, their slices {voxels.shape}.")
    pixel, step = WIDTH_MM / voxels.shape[0], HEIGHT_MM / len(images)
    return Volume(voxels, centred_affine(voxels.shape, (pixel, pixel, step)), lesion, stack=True)


def _patient_folders(root: str) -> list[Path]:
    folders = sorted(path for path in existing(root, LAYOUT).iterdir() if path.is_dir())
    folders = [path for path in folders if _FOLDER.fullmatch(path.name)]
    if not folders:
        raise nothing_found(root, "patient folders", LAYOUT)
    return folders


def _scan(folder: Path, channel: str) -> Scan:
    patient, centre, date = _FOLDER.fullmatch(folder.name).groups()
    found = (re.fullmatch(rf"{folder.name}_(\d+)\.tif", path.name) for path in folder.iterdir())
    numbers = sorted((match[1] for match in found if match), key=int)
    images = tuple(str(folder / f"{folder.name}_{number}.tif") for number in numbers)
    masks = tuple(mask for mask in map(_mask_of, images) if Path(mask).exists())  # `load` refuses gaps
    return Scan(
        patient=patient,
        session=date,
        healthy=False,
        load=partial(load, str(folder), images, channel),
        files=images,
        extras=masks,
        recipe=f"lgg format {FORMAT}, {channel}",
        groups={"site": centre},
    )


def _repeats_flair(images: tuple[str, ...], channel: str) -> bool:
    """Whether `channel` equals FLAIR in three middle slices; a few, so that listing a release stays quick."""
    index, flair = CHANNELS.index(channel), CHANNELS.index("flair")
    middle = images[len(images) // 4 :: max(1, len(images) // 4)][:3]
    try:
        slices = [read_picture(path, ("RGB",)) for path in middle]
    except ScanError:  # says nothing of the channel, and loading this patient will name the fault
        return False
    return bool(slices) and all(np.array_equal(rgb[..., index], rgb[..., flair]) for rgb in slices)


def _mask_of(image: str) -> str:
    return f"{image.removesuffix('.tif')}_mask.tif"

"""TCGA-LGG in the layout of Kaggle's "LGG MRI Segmentation": one folder a patient, one picture a slice.

An RGB picture holds T1 before contrast, FLAIR and T1 after contrast; its mask outlines the FLAIR abnormality. Everyone
has a glioma. Anterior is at the top of a picture and slice 1 is the lowest, but the release stores no geometry. Which
side is the person's left is unknown; the picture's left is taken for it. Voxel sizes follow from two assumed lengths:
they keep a head's proportions roughly right, but no volume in ml should be quoted from them.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from symnorm_jax.data.masks import STRICT, Reading
from symnorm_jax.data.sources.contrasts import several
from symnorm_jax.data.sources.listing import existing, kept, scan_of, some
from symnorm_jax.data.sources.pictures import read_masks, read_picture, read_slices
from symnorm_jax.data.volumes import Scan, Volume
from symnorm_jax.errors import ScanError, check_options
from symnorm_jax.geometry import centred_affine

FORMAT = "lgg format 1"  # raise it when the same files would give other voxels
CHANNELS = ("t1_pre", "flair", "t1_post")  # as stored in red, green and blue
WIDTH_MM = 240.0  # assumed: the field of view that a picture's width covers
HEIGHT_MM = 150.0  # assumed: what all slices cover together, be they 20 or 88: skull base to vertex
_NAME = "TCGA_<centre>_<person>_<date>"
LAYOUT = f"{_NAME}/{_NAME}_<slice>.tif with a {_NAME}_<slice>_mask.tif beside each"

_FOLDER = re.compile(r"(TCGA_([A-Z0-9]+)_[A-Z0-9]+)_(\d+)")


@several
def records(root: str, *, channel: str = "flair") -> list[Scan]:
    """List one Scan a patient, but none for those in whom FLAIR is stored in place of a missing `channel`."""
    check_options({"channel": CHANNELS}, channel=channel)
    folders = sorted(path for path in existing(root, LAYOUT).iterdir() if path.is_dir())
    scans = [_scan(folder, channel) for folder in folders if _FOLDER.fullmatch(folder.name)]
    some(root, scans, "patient folders", LAYOUT)
    return kept(root, scans, lambda scan: not _repeats_flair(scan.files, channel), f"patients without {channel}")


def load(folder: str, images: tuple[str, ...], channel: str, reading: Reading = STRICT) -> Volume:
    """Read the slices, lowest first, and the lesion; there is no brain mask. Raises ScanError, see `read_slices`."""
    names = f"{Path(folder).name}_<slice>.tif"
    volume = read_slices(folder, names, images, (1, 1, 1), ("RGB",), CHANNELS.index(channel))
    lesion = read_masks([_mask_of(path) for path in images], volume, "lesion", reading, ("L",))
    pixel, step = WIDTH_MM / volume.voxels.shape[0], HEIGHT_MM / len(images)
    return volume._replace(affine=centred_affine(lesion.shape, (pixel, pixel, step)), lesion=lesion, stack=True)


def _scan(folder: Path, channel: str) -> Scan:
    patient, centre, date = _FOLDER.fullmatch(folder.name).groups()
    found = (re.fullmatch(rf"{folder.name}_(\d+)\.tif", path.name) for path in folder.iterdir())
    numbers = sorted((match[1] for match in found if match), key=int)
    images = tuple(str(folder / f"{folder.name}_{number}.tif") for number in numbers)
    about = {"patient": patient, "session": date, "standing": "abnormal", "groups": {"site": centre}}
    load_channel = partial(load, str(folder), images, channel)
    return scan_of(load_channel, images, map(_mask_of, images), recipe=f"{FORMAT}, {channel}", drawn=True, **about)


def _repeats_flair(images: tuple[str, ...], channel: str) -> bool:
    """Tell whether `channel` equals FLAIR in three middle slices; a few, so that listing a release stays quick."""
    if channel == "flair":
        return False
    index, flair = CHANNELS.index(channel), CHANNELS.index("flair")
    middle = images[len(images) // 4 :: max(1, len(images) // 4)][:3]
    try:
        slices = [read_picture(path, ("RGB",)) for path in middle]
    except ScanError:  # says nothing of the channel, and loading this patient will name the fault
        return False
    return bool(slices) and all(np.array_equal(rgb[..., index], rgb[..., flair]) for rgb in slices)


def _mask_of(image: str) -> str:
    return f"{image.removesuffix('.tif')}_mask.tif"

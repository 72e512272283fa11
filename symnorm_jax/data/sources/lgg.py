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
from PIL import Image

from symnorm_jax.data.geometry import centred_affine, from_picture
from symnorm_jax.data.volumes import MAX_VOXELS, Scan, Volume
from symnorm_jax.errors import ConfigError, ScanError

FORMAT = 1  # raise it when the same files would give other voxels
CHANNELS = ("t1_pre", "flair", "t1_post")  # as stored in red, green and blue
WIDTH_MM = 240.0  # assumed: the field of view that a picture's width covers
HEIGHT_MM = 150.0  # assumed: what all slices cover together, be they 20 or 88: skull base to vertex
MAX_SIDE = 2048
MAX_SLICES = 512

_FOLDER = re.compile(r"(TCGA_([A-Z0-9]+)_[A-Z0-9]+)_(\d+)")


def records(root: str, *, channel: str = "flair") -> list[Scan]:
    """One Scan a patient, but none for those in whom FLAIR is stored in place of a missing `channel`."""
    if channel not in CHANNELS:
        raise ConfigError(f"data.options.channel={channel!r}; one of {list(CHANNELS)} is allowed.")
    scans = [_scan(folder, channel) for folder in _patient_folders(Path(root))]
    if channel == "flair":
        return scans
    kept = [scan for scan in scans if not _repeats_flair(scan.files, channel)]
    if len(kept) < len(scans):
        missing = len(scans) - len(kept)
        logging.warning("%s: left out %d of %d patients without %s.", root, missing, len(scans), channel)
    return kept


def load(folder: str, images: tuple[str, ...], channel: str) -> Volume:
    """The slices, lowest first, as voxels `[X, Y, Z]` of 0 to 255, and the lesion; there is no brain mask."""
    folder, index = Path(folder), CHANNELS.index(channel)
    if not 1 <= len(images) <= MAX_SLICES:
        held = f"{len(images)} slices {folder.name}_<slice>.tif"
        raise ScanError(f"{folder}: {held}; 1 to {MAX_SLICES} are allowed.")
    rows, columns = shape = _read(images[0], "RGB").shape[:2]
    if rows * columns * len(images) > MAX_VOXELS:
        raise ScanError(f"{folder}: {len(images)} slices of {shape} pixels; {MAX_VOXELS} in all are allowed.")
    voxels = _stack([_read(path, "RGB", shape)[..., index] for path in images]).astype(np.float32)
    if voxels.min() == voxels.max():
        raise ScanError(f"{folder}: {channel} is {voxels.flat[0]:g} everywhere; it must have contrast.")
    pixel, step = WIDTH_MM / columns, HEIGHT_MM / len(images)
    lesion = _stack([_read(path, "L", shape) > 0 for path in map(_mask_of, images)])
    return Volume(voxels, centred_affine(voxels.shape, (pixel, pixel, step)), lesion)


def _patient_folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise ScanError(f"{root}: not a folder; the one that holds the release's TCGA_* folders is needed.")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and _FOLDER.fullmatch(path.name))
    if not folders:
        name = "TCGA_<centre>_<person>_<date>"
        layout = f"{name}/{name}_<slice>.tif with a {name}_<slice>_mask.tif beside each"
        raise ScanError(f"{root}: 0 patient folders; the layout must be {layout}.")
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
        slices = [_read(path, "RGB") for path in middle]
    except ScanError:  # says nothing of the channel, and loading this patient will name the fault
        return False
    return bool(slices) and all(np.array_equal(rgb[..., index], rgb[..., flair]) for rgb in slices)


def _mask_of(image: str) -> str:
    return f"{image.removesuffix('.tif')}_mask.tif"


def _read(path: str, mode: str, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Rows of one picture; size and mode are checked against its header, before Pillow decodes anything."""
    try:
        with Image.open(path) as image:
            _check_header(path, image, mode, shape)
            return np.asarray(image)
    except ScanError:
        raise
    except FileNotFoundError:
        raise ScanError(f"{path}: no such file; every slice must have its mask.") from None
    except Exception as error:  # Pillow raises a dozen types for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ScanError(f"{path}: cannot be read as a TIFF picture ({reason}).") from None


def _check_header(path, image, mode, shape) -> None:
    columns, rows = image.size
    if max(image.size) > MAX_SIDE:
        raise ScanError(f"{path}: {columns} x {rows} pixels; at most {MAX_SIDE} x {MAX_SIDE} are allowed.")
    if image.mode != mode:
        raise ScanError(f"{path}: the picture's mode is {image.mode}; {mode} is allowed.")
    if shape and (rows, columns) != shape:
        allowed = f"{shape[1]} x {shape[0]}, as in the first slice"
        raise ScanError(f"{path}: {columns} x {rows} pixels; all slices and masks must have {allowed}.")


def _stack(pictures: list[np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(np.stack([from_picture(rows) for rows in pictures], axis=-1))

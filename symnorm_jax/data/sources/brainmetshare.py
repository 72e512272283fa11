"""BrainMetShare (Stanford): four co-registered sequences of people with brain metastases. Nobody is healthy.

A case is a folder, `Mets_001`, in one of these forms, below whatever folders the copy has:

    brainmetshare-3/{train,test}/Mets_001/{bravo,t1_pre,t1_gd,flair,seg}.nii.gz      also as .nii
    stanford_release_brainmask/mets_stanford_releaseMask_train/Mets_001/{0,1,2,3,seg}/<slice>.png
    mets_stanford_release_train/Mets_001/{0,1,2,3,seg}/<slice>.png                   without the brain mask applied

where 0 to 3 are bravo, t1_pre, t1_gd and flair. The cases of `train` have masks; a mask that is absent there is an
error of that scan, and elsewhere leaves the scan unlabelled. Some cases lack a sequence. A person of whom there are
several copies counts once: the copy with a mask goes first, then the form in the order above (.nii.gz, .nii, pictures
with the brain mask, pictures without), then the path.

Pictures store no geometry: anterior is taken to be at the top, the lowest number for the lowest slice, the picture's
left for the person's left, and the voxel size for that of the resampled release. There are no brain mask files:
data.brain='nonzero' finds the brain of a skull-stripped scan, 'head' or 'extract' that of the others.
"""

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from symnorm_jax.data.sources.listing import (
    case_folders,
    existing,
    nothing_found,
    numeric,
    one_each,
    one_of,
    with_channel,
)
from symnorm_jax.data.sources.pictures import check_count, read_stack
from symnorm_jax.data.volumes import Scan, Volume, read_volume
from symnorm_jax.errors import ScanError
from symnorm_jax.geometry import centred_affine

FORMAT = 1  # raise it when the same files would give other voxels
CHANNELS = {"bravo": "0", "t1_pre": "1", "t1_gd": "2", "flair": "3"}  # and the folders of their pictures
SPACING_MM = (0.94, 0.94, 1.0)  # of pictures
MASK_VALUES = (0, 1, 255)
LAYOUT = "{train,test}/Mets_001/{bravo,t1_pre,t1_gd,flair,seg}.nii.gz or Mets_001/{0,1,2,3,seg}/<slice>.png"

_VOLUMES = {f"{name}{end}" for name in (*CHANNELS, "seg") for end in (".nii.gz", ".nii")}
_PICTURE = re.compile(r"\d+\.png")


class _Case(NamedTuple):
    folder: Path
    form: int  # place among the forms above
    image: Path | None  # a NIfTI file, or a folder of pictures
    seg: Path | None


def records(root: str, *, channel: str = "t1_gd") -> list[Scan]:
    """One Scan a person, but none for those without `channel`: bravo, t1_pre, t1_gd or flair."""
    one_of("channel", channel, CHANNELS)
    found = [_case(folder, channel) for folder in case_folders(existing(root, LAYOUT), _is_case)]
    if not found:
        raise nothing_found(root, "cases", LAYOUT)
    people = one_each(root, found, lambda case: case.folder.name, _rank)
    return [_scan(case, channel) for case in with_channel(root, people, lambda case: case.image, channel)]


def load_pictures(folder: str, images: tuple[str, ...], masks: tuple[str, ...] | None) -> Volume:
    """The slices, lowest first, as voxels `[X, Y, Z]` of 0 to 255, and the lesion where there are `masks`."""
    check_count(folder, "<slice>.png", len(images))
    voxels = read_stack(images).astype(np.float32)
    if voxels.min() == voxels.max():
        raise ScanError(f"{folder}: the slices are {voxels.flat[0]:g} everywhere; they must have contrast.")
    lesion = None if masks is None else _lesion(folder, images, masks, voxels.shape)
    return Volume(voxels, centred_affine(voxels.shape, SPACING_MM), lesion)


def _lesion(folder: str, images, masks, shape) -> np.ndarray:
    slices, drawn = ({Path(path).name for path in paths} for paths in (images, masks))
    if slices != drawn:
        odd, seg = min(slices ^ drawn, key=numeric), Path(folder).with_name("seg")
        lacking = seg if odd in slices else folder
        raise ScanError(f"{lacking}: {odd} is not there; {Path(folder).name} and seg must hold the same slices.")
    values = read_stack(masks)
    if values.shape != shape:
        raise ScanError(f"{Path(masks[0]).parent}: the masks have shape {values.shape}, their slices {shape}.")
    other = np.setdiff1d(values, MASK_VALUES)
    if other.size:
        raise ScanError(f"{Path(masks[0]).parent}: a mask holds the value {other[0]}; 0 and 255 or 1 are allowed.")
    return values > 0


def _is_case(path: Path, folders: list[str], files: list[str]) -> bool:
    if not _VOLUMES.isdisjoint(files):
        return True
    return any(any((path / name).glob("*.png")) for name in CHANNELS.values() if name in folders)


def _case(folder: Path, channel: str) -> _Case:
    forms = [(f"{channel}{end}", f"seg{end}") for end in (".nii.gz", ".nii")] + [(CHANNELS[channel], "seg")]
    for form, (image, seg) in enumerate(forms):
        if (folder / image).exists():
            bare = form == 2 and not re.search("releaseMask|brainmask", str(folder), re.IGNORECASE)
            seg = folder / seg
            return _Case(folder, form + bare, folder / image, seg if seg.exists() or _is_train(folder) else None)
    return _Case(folder, len(forms) + 1, None, None)


def _is_train(folder: Path) -> bool:
    return folder.parent.name.lower().endswith("train")


def _rank(case: _Case) -> tuple:
    return case.image is None, case.seg is None, case.form, str(case.folder)


def _scan(case: _Case, channel: str) -> Scan:
    pictures = case.image.is_dir()
    files = _slices(case.image) if pictures else (str(case.image),)
    masks = _slices(case.seg) if pictures and case.seg else (str(case.seg),) if case.seg else None
    if pictures:
        load = partial(load_pictures, str(case.image), files, masks)
    else:
        load = partial(read_volume, str(case.image), masks[0] if masks else None)
    return Scan(
        patient=case.folder.name,
        session="",
        healthy=False,
        load=load,
        files=files,
        extras=tuple(mask for mask in masks or () if Path(mask).exists()),  # `load` names the one that is not there
        recipe=f"brainmetshare format {FORMAT}, {channel}",
        labelled=masks is not None,
    )


def _slices(folder: Path) -> tuple[str, ...]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return tuple(str(folder / name) for name in sorted(names, key=numeric) if _PICTURE.fullmatch(name))

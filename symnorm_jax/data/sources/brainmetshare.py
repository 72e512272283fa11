"""BrainMetShare (Stanford): four co-registered sequences of people with brain metastases. Nobody is healthy.

A case is a folder in one of these forms, at any depth:

    brainmetshare-3/{train,test}/Mets_001/{bravo,t1_pre,t1_gd,flair,seg}.nii.gz      also as .nii
    stanford_release_brainmask/mets_stanford_releaseMask_train/Mets_001/{0,1,2,3,seg}/<slice>.png
    mets_stanford_release_train/Mets_001/{0,1,2,3,seg}/<slice>.png                   without the brain mask applied

A case of `train` without its mask is refused; elsewhere it is unlabelled. Of a person's copies one is taken: with a
mask, then by the order of the forms, then by path. There are no brain masks: data.brain='nonzero' fits a scan without
skull, else 'head' or 'extract'. The lowest picture is the lowest slice, of the voxels of the resampled release.
"""

import re
from functools import partial
from pathlib import Path

from symnorm_jax.data.masks import STRICT
from symnorm_jax.data.sources.contrasts import several
from symnorm_jax.data.sources.listing import case_folders, existing, kept, nifti_scan, numeric, one_each, scan_of, some
from symnorm_jax.data.sources.pictures import read_masks, read_slices
from symnorm_jax.data.volumes import Scan, Volume
from symnorm_jax.errors import ScanError, check_options

FORMAT = "brainmetshare format 1"  # raise it when the same files would give other voxels
CHANNELS = {"bravo": "0", "t1_pre": "1", "t1_gd": "2", "flair": "3"}  # and the folders of their pictures
SPACING_MM = (0.94, 0.94, 1.0)  # of pictures
LAYOUT = "{train,test}/Mets_001/{bravo,t1_pre,t1_gd,flair,seg}.nii.gz or Mets_001/{0,1,2,3,seg}/<slice>.png"

_VOLUMES = {f"{name}{end}" for name in (*CHANNELS, "seg") for end in (".nii.gz", ".nii")}


@several
def records(root: str, *, channel: str = "t1_gd") -> list[Scan]:
    """List one Scan a person, but none for those without `channel`: bravo, t1_pre, t1_gd or flair."""
    check_options({"channel": CHANNELS}, channel=channel)
    folders = case_folders(existing(root, LAYOUT), _is_case)
    cases = [_case(folder, channel) for folder in some(root, folders, "cases", LAYOUT)]
    patient, rank = lambda case: case[1].patient, lambda case: case[0]
    cases = one_each(root, cases, patient, rank, "cases, each another copy of one")
    return [scan for _, scan in kept(root, cases, lambda case: not case[0][0], f"cases without {channel}")]


def load_pictures(folder: str, images: tuple[str, ...], masks: tuple[str, ...] | None, reading=STRICT) -> Volume:
    """Read the slices, lowest first, and the lesion where there are `masks`. Raises ScanError, see `read_slices`."""
    volume = read_slices(folder, "<slice>.png", images, SPACING_MM)
    if masks is None:
        return volume
    slices, drawn = ({Path(path).name for path in paths} for paths in (images, masks))
    if slices != drawn:
        odd = min(slices ^ drawn, key=numeric)
        lacking = Path(folder).with_name("seg") if odd in slices else folder
        raise ScanError(f"{lacking}: {odd} is not there; {Path(folder).name} and seg must hold the same slices.")
    return volume._replace(lesion=read_masks(masks, volume, "lesion", reading))


def _is_case(path: Path, folders: list[str], files: list[str]) -> bool:
    pictures = (any((path / name).glob("*.png")) for name in CHANNELS.values() if name in folders)
    return not _VOLUMES.isdisjoint(files) or any(pictures)


def _case(folder: Path, channel: str) -> tuple[tuple, Scan]:
    """Build the Scan of a case, without files where the channel is missing, behind its rank among copies."""
    forms = [(f"{channel}{end}", f"seg{end}") for end in (".nii.gz", ".nii")] + [(CHANNELS[channel], "seg")]
    paths = [(form, folder / image, folder / seg) for form, (image, seg) in enumerate(forms)]
    form, image, seg = next((one for one in paths if one[1].exists()), (len(forms), None, None))
    if seg and not seg.exists() and not folder.parent.name.lower().endswith("train"):
        seg = None
    bare = form == 2 and not re.search("releaseMask|brainmask", str(folder), re.IGNORECASE)
    about = {"patient": folder.name, "standing": "abnormal" if seg else "unlabelled", "recipe": f"{FORMAT}, {channel}"}
    if image and image.is_dir():
        images, masks = _slices(image), _slices(seg) if seg else None
        scan = scan_of(partial(load_pictures, str(image), images, masks), images, masks or (), drawn=bool(seg), **about)
    else:
        scan = nifti_scan(image, seg, **about)
    return (image is None, seg is None, form + bare, str(folder)), scan


def _slices(folder: Path) -> tuple[str, ...]:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return tuple(str(folder / name) for name in sorted(names, key=numeric) if re.fullmatch(r"\d+\.png", name))

"""Any folder of scans, or one scan, of which nothing is known: to be embedded, never to be trained on.

Every `.nii.gz`, `.nii` and `.mgz` file below the folder is a scan, hidden ones apart. Masks and label maps are passed
over by their names, or refused by their voxels. `sub-01_ses-02_T1w.nii.gz` is the patient `sub-01` at `ses-02`, as
BIDS has it; any other file is a patient of its own, named by its path. There are no brain masks.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from symnorm_jax.data.masks import STRICT, Reading
from symnorm_jax.data.sources.listing import MASK, files_below, numeric, refuse, scan_of
from symnorm_jax.data.volumes import Scan, Volume, read_volume

FORMAT = "folder format 1"  # raise it when the same files would give other voxels
ENDINGS = (".nii.gz", ".nii", ".mgz")
# Share of voxels above the background that equal the next along X: heads without noise reach 0.31, 149 regions 0.76.
FLAT = 0.5
BIDS = re.compile(r"(sub-[A-Za-z0-9]+)_(?:(ses-[A-Za-z0-9]+)_)?.*")


def records(root: str | Path, brain: str | None = None) -> list[Scan]:
    """List one unlabelled Scan a file of `find`, in the order of their names; `brain` is the mask file of all."""
    scans = []
    for path in find(root)[0]:
        name = path.relative_to(root if path != Path(root) else path.parent)
        entities = BIDS.fullmatch(name.name)
        patient, session = entities.groups("") if entities else (_stem(name.as_posix()), "")
        about = {"patient": patient, "session": session, "standing": "unlabelled", "recipe": FORMAT}
        scans.append(scan_of(partial(load, str(path), brain), [path], filter(None, [brain]), **about))
    return scans


def find(root: str | Path) -> tuple[list[Path], list[Path]]:
    """Find the scans of a folder, or `root` itself where it is a file; and what is a mask or label map by its name."""
    root = Path(root)
    if root.is_file():
        return [root], []
    files = [path for path in files_below(root) if _is_image(path, path.relative_to(root))]
    files.sort(key=numeric)
    masks = {path for path in files if _is_mask(path.relative_to(root))}
    return [path for path in files if path not in masks], sorted(masks)


def load(path: str, brain: str | None = None, reading: Reading = STRICT) -> Volume:
    """Read a scan and its mask. Raises ScanError for a label map: whole numbers, most equal to their neighbours."""
    volume = read_volume(path, brain=brain, reading=reading)
    above = volume.voxels > volume.voxels.min()
    pairs, same = above[1:] & above[:-1], volume.voxels[1:] == volume.voxels[:-1]
    share = float(same[pairs].mean()) if pairs.any() else 0.0
    whole = share > FLAT and np.array_equal(volume.voxels, np.round(volume.voxels))
    refuse(path, whole, f"{share:.0%} of the voxels equal their neighbours, as in a mask; an image is needed")
    return volume


def _is_image(path: Path, name: Path) -> bool:
    """Tell whether a file is to be read: a dead link is, so that it is reported; a device, which has no end, is not."""
    if not name.name.lower().endswith(ENDINGS) or any(part.startswith(".") for part in name.parts):
        return False
    return path.is_file() or (path.is_symlink() and not path.exists())


def _is_mask(name: Path) -> bool:
    words = re.split("[^a-z0-9]+", _stem(name.name).lower())
    return any(MASK.fullmatch(word) for word in (*words, *map(str.lower, name.parent.parts)))


def _stem(name: str) -> str:
    return next((name[: -len(ending)] for ending in ENDINGS if name.lower().endswith(ending)), name)

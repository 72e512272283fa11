"""One scan as a folder of pictures, one slice each, of somebody of whom nothing is known: to be scored.

Slices come in the natural order of their names, the lowest first. Pictures store no geometry: voxel sizes are told,
and directions are assumed, see `pictures.py`, which the flag of the scan says. Masks are passed over by their names.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from symnorm_jax.data.headers import MAX_EXTENT_MM
from symnorm_jax.data.masks import STRICT, Reading
from symnorm_jax.data.sources.listing import MASK, left_out, numeric, refuse, scan_of
from symnorm_jax.data.sources.pictures import PICTURES, Spacing, read_slices
from symnorm_jax.data.volumes import Scan, Volume, with_masks

FORMAT = "picture series format 1"  # raise it when the same files would give other voxels
COLOURS = ("red", "green", "blue")  # of which one may hold the contrast
ASSUMED = "pictures tell no directions: the first is taken for the lowest, anterior to be at the top, "
ASSUMED += "the picture's left for the person's left"


def holds(folder: Path) -> bool:
    """Tell whether a folder holds pictures."""
    return any(path.suffix.lower() in PICTURES for path in folder.iterdir())


def series(folder: Path, spacing: Spacing, colour: str | None = None, brain: str | None = None) -> Scan:
    """List the scan of a folder; `brain` is a mask file on the grid that outputs have.

    Of coloured pictures one `colour` is read. Raises ScanError where there is no picture.
    """
    paths = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=numeric)
    files = [path for path in paths if path.is_file() and path.suffix.lower() in PICTURES and not _is_mask(path)]
    refuse(folder, not files, f"holds no picture of a slice, {', '.join(PICTURES)}, as --spacing asks for")
    others = [path.name for path in paths if path not in files]
    left_out(folder, len(others), f"masks and what is no picture, by their names, as {others[0]}" if others else "")
    read = partial(load, str(folder), tuple(map(str, files)), spacing, colour, brain)
    about = {"patient": folder.absolute().name, "recipe": f"{FORMAT}, {spacing}, {colour}"}
    return scan_of(read, files, filter(None, [brain]), standing="unlabelled", **about)


def load(
    folder: str, files: tuple[str, ...], spacing: Spacing, colour: str | None, brain, reading: Reading = STRICT
) -> Volume:
    """Read the slices, and the brain mask. Raises ScanError, see `read_slices`, and for edges that are too long."""
    channel = COLOURS.index(colour) if colour else None
    volume = read_slices(folder, f"*{Path(files[0]).suffix}", files, spacing, channel=channel)
    extents = np.multiply(volume.voxels.shape, spacing)
    told = f"its edges are {extents.round().tolist()} mm long; at most {MAX_EXTENT_MM:g} mm are allowed"
    refuse(folder, max(extents) > MAX_EXTENT_MM, told)
    return with_masks(volume._replace(notes=(ASSUMED,)), folder, None, brain, reading)


def _is_mask(path: Path) -> bool:
    return any(MASK.fullmatch(word) for word in re.split("[^a-z0-9]+", path.stem.lower()))

"""ADNI as 2-D pictures, one axial slice each, in the layout of `ADNI_AD_NC_2D` and its kin.

`AD_NC/{train,test}/{AD,NC}/<person>_<slice>.jpeg`, 256 x 240 pixels; some copies have a third folder `validation`. Also
`{AD,CI,CN}/...` without a division, and `{train,...}/{AD,CN,MCI}/002_S_0413/002_S_0413_slice_000.png`. The name of the
folder says what the person is (CI, cognitively impaired, counts as MCI), the name of the file whose slice it is.
Releases without people in their names, such as Kaggle's four folders from NonDemented to ModerateDemented, are refused.
In ADNI_AD_NC_2D the person is a number that may be that of a scan: two visits of one person would then be two people.

The division is ignored unless asked for: a person's slices are put together from all folders. The pictures' left is
taken for the person's left, pixels for 1 mm and neighbouring slices for 1 mm apart; the release says nothing of these.
JPEG leaves ripples in the black around a head: what is connected to the border of a picture and no brighter than
BACKGROUND becomes 0, so that `data.brain="nonzero"` finds the outline. `participants.tsv` beside or in AD_NC, where it
is there, gives groups: participant_id and any other columns.
"""

import re
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from symnorm_jax.data.manifest import COLUMNS
from symnorm_jax.data.sources.diagnosis import kind_of, left_out, standing
from symnorm_jax.data.sources.listing import nothing_found, numeric, read_rows
from symnorm_jax.data.sources.pictures import check_count, read_stack
from symnorm_jax.data.volumes import Scan, Volume
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.geometry import AXIAL, centred_affine

FORMAT = 1  # raise it when the same files would give other voxels
PIXEL_MM = 1.0  # assumed
SLICE_MM = 1.0  # assumed
BACKGROUND = 20  # of 255: between the ripples around the brains of OASIS and the darkest of their rims
FOLDERS = {"train": "train", "validation": "train", "valid": "train", "val": "train", "test": "test"}
LAYOUT = "AD_NC/{train,test}/{AD,NC}/<person>_<slice>.jpeg"

_NAMELESS = re.compile(r"(very_?)?(mild|moderate|non)_?demented", re.IGNORECASE)
_NUMBER = r"_(?:slice_)?(\d+)\.(?:jpe?g|png)"
_SUBJECT = re.compile(r".*?(\d{3}_S_\d{4,5}|OAS1_\d{4}|sub-[A-Za-z0-9]+)(?:_(.+?))??" + _NUMBER, re.IGNORECASE)
_PERSON = re.compile(r"([A-Za-z-]*\d[A-Za-z0-9-]*)()" + _NUMBER, re.IGNORECASE)


class Picture(NamedTuple):
    split: str
    kind: str
    person: str
    session: str
    number: int
    path: Path


def holds(root: Path) -> bool:
    """Whether `root` or its AD_NC has folders of diagnoses. Raises ScanError where they are known to name nobody."""
    return bool(_classes(root))


def records(root: Path, mci: str, use_folders: bool) -> list[Scan]:
    """One Scan a person, see `adni.records`. Raises ScanError where a person has two diagnoses."""
    found = [one for split, folder in _classes(root) for one in _pictures(split, folder)]
    if not found:
        raise nothing_found(root, "pictures that name a person and a slice", LAYOUT)
    if use_folders and not all(one.split for one in found):
        raise ConfigError(f"data.options.use_folders=True; {root} has no folders of train and test.")
    kinds, stacks = {}, defaultdict(dict)
    for one in found:
        if kinds.setdefault(one.person, one.kind) != one.kind:
            other = kinds[one.person]
            raise ScanError(f"{one.path}: {one.person} is {one.kind}, in another folder {other}; one is allowed.")
        stacks[one.person, one.session, one.split if use_folders else ""].setdefault(one.number, one.path)
    left_out(root, len(found) - sum(map(len, stacks.values())), "pictures of a slice that is there already")
    groups = _participants(root)
    order = sorted(stacks, key=lambda key: (numeric(key[0]), *key))
    scans = [_scan(key, stacks[key], kinds[key[0]], mci, groups.get(key[0], {})) for key in order]
    left_out(root, scans.count(None), f"scans of people with MCI (mci={mci!r})")
    return [scan for scan in scans if scan]


def load(folder: str, images: tuple[str, ...]) -> Volume:
    """The slices, lowest first, as voxels `[X, Y, Z]` of 0 to 255, black around the head; there are no masks."""
    check_count(folder, "<person>_<slice>", len(images))
    voxels = read_stack(images)
    if voxels.min() == voxels.max():
        raise ScanError(f"{images[0]}: every pixel of every slice is {voxels.flat[0]}; an image must have contrast.")
    voxels = np.where(_around(voxels <= BACKGROUND), 0, voxels).astype(np.float32)
    return Volume(voxels, centred_affine(voxels.shape, (PIXEL_MM, PIXEL_MM, SLICE_MM)), stack=True)


def _around(dark: np.ndarray) -> np.ndarray:
    """Those pixels of `dark` `[X, Y, Z]` that are connected, within their slice, to its border."""
    outside = np.empty_like(dark)
    for z in range(dark.shape[AXIAL]):
        regions, _ = ndimage.label(np.pad(dark[:, :, z], 1, constant_values=True))
        outside[:, :, z] = (regions == regions[0, 0])[1:-1, 1:-1]
    return outside


def _base(root: Path) -> Path:
    return root / "AD_NC" if (root / "AD_NC").is_dir() else root


def _classes(root: Path) -> list[tuple[str, Path]]:
    """The folders of diagnoses, each with the split that its parent names, or nothing."""
    base = _base(root)
    parents = [(FOLDERS.get(path.name.lower(), ""), path) for path in [base, *_folders(base)]]
    parents = [(split, path) for split, path in parents if split or path == base]
    folders = [(split, path) for split, parent in parents for path in _folders(parent)]
    for _, path in folders:
        if _NAMELESS.fullmatch(path.name):
            raise ScanError(
                f"{path}: this release names no people, so a person's slices cannot be kept in one split, and any "
                f"result would be empty; a release with names is needed, such as {LAYOUT}."
            )
    return [(split, path) for split, path in folders if kind_of(path.name)]


def _folders(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if one.is_dir())


def _pictures(split: str, folder: Path) -> list[Picture]:
    """The pictures in a folder of a diagnosis, or in folders of people in it."""
    paths = [path for pattern in ("*.*", "*/*.*") for path in sorted(folder.glob(pattern))]
    paths = [path for path in paths if path.suffix.lower() in (".jpeg", ".jpg", ".png")]
    named = [(path, _SUBJECT.fullmatch(path.name) or _PERSON.fullmatch(path.name)) for path in paths]
    left_out(folder, sum(name is None for _, name in named), "pictures whose names hold no person and slice")
    kind = kind_of(folder.name)
    return [Picture(split, kind, name[1], name[2] or "", int(name[3]), path) for path, name in named if name]


def _participants(root: Path) -> dict[str, dict[str, str]]:
    """The groups of each person, where there is a table of them."""
    base = _base(root).absolute()
    tables = [folder / "participants.tsv" for folder in (base.parent, base)]
    table = next((path for path in tables if path.is_file()), None)
    rows = read_rows(table, ("participant_id",), "\t") if table else []
    taken = sorted(set(COLUMNS) & set(rows[0])) if rows else []
    if taken:
        raise ScanError(f"{table}: the columns {', '.join(taken)} must have other names; the manifest has its own.")
    return {
        row["participant_id"]: {key: cell for key, cell in row.items() if cell and key != "participant_id"}
        for row in rows
    }


def _scan(key: tuple[str, str, str], stack: dict[int, Path], kind: str, mci: str, groups: dict) -> Scan | None:
    stands = standing(kind, {kind}, mci)
    if stands is None:
        return None
    images = tuple(str(stack[number]) for number in sorted(stack))
    return Scan(
        patient=key[0],
        session=key[1],
        healthy=stands[0],
        load=partial(load, str(Path(images[0]).parent), images),
        files=images,
        recipe=f"adni slices format {FORMAT}",
        groups=groups,
        labelled=stands[1],
        split=key[2],
    )

"""ADNI as 2-D pictures, one axial slice each, in the layout of `ADNI_AD_NC_2D` and its kin.

`AD_NC/{train,test}/{AD,NC}/<person>_<slice>.jpeg`, 256 x 240 pixels, at times with a third folder `validation`. Also
`{AD,CI,CN}/...` without a division, and `{train,...}/{AD,CN,MCI}/002_S_0413/002_S_0413_slice_000.png`. The folder says
what the person is (CI, cognitively impaired, counts as MCI), the file whose slice it is; Kaggle's four folders name no
people and are refused. In ADNI_AD_NC_2D the person is a number that may be that of a scan: two visits of one person
would then be two people. `participants.tsv` beside or in AD_NC gives groups. The pictures' left is taken for the
person's left. JPEG leaves ripples around a head: what is connected to a picture's border and no brighter than
BACKGROUND becomes 0, so that `data.brain="nonzero"` finds the outline.
"""

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import ndimage

from symnorm_jax.data.manifest import COLUMNS
from symnorm_jax.data.masks import STRICT, Reading
from symnorm_jax.data.sources.diagnosis import Visit, kind_of
from symnorm_jax.data.sources.listing import kept, left_out, numeric, refuse, some
from symnorm_jax.data.sources.pictures import read_slices
from symnorm_jax.data.sources.tables import participants
from symnorm_jax.data.volumes import Volume
from symnorm_jax.errors import ConfigError
from symnorm_jax.geometry import AXIAL

SPACING_MM = (1.0, 1.0, 1.0)  # assumed, of pixels and slices
BACKGROUND = 20  # of 255: between the ripples around the brains of OASIS and the darkest of their rims
FOLDERS = {"train": "train", "validation": "train", "valid": "train", "val": "train", "test": "test"}
LAYOUT = "AD_NC/{train,test}/{AD,NC}/<person>_<slice>.jpeg"

_NAMELESS = re.compile(r"(very_?)?(mild|moderate|non)_?demented", re.IGNORECASE)
_NUMBER = r"_(?:slice_)?(\d+)\.(?:jpe?g|png)"
_SUBJECT = re.compile(r".*?(\d{3}_S_\d{4,5}|OAS1_\d{4}|sub-[A-Za-z0-9]+)(?:_(.+?))??" + _NUMBER, re.IGNORECASE)
_PERSON = re.compile(r"([A-Za-z-]*\d[A-Za-z0-9-]*)()" + _NUMBER, re.IGNORECASE)


def holds(root: Path) -> bool:
    """Tell whether `root` or its AD_NC has folders of diagnoses. Raises ScanError where those name nobody."""
    return bool(_classes(root))


def visits(root: Path, divided: bool) -> tuple[list[Visit], dict[str, set[str]]]:
    """List the stacks of slices, one a person, session and, if `divided`, split; and the kind of each person."""
    words, stacks, count = {}, defaultdict(dict), 0
    for split, folder in _classes(root):
        for path, (person, session, number) in _pictures(folder):
            word = words.setdefault(person, folder.name)
            two = f"{person} is {folder.name}, in another folder {word}; one is allowed"
            refuse(path, kind_of(word) != kind_of(folder.name), two)
            if divided and not split:
                raise ConfigError(f"data.options.use_folders=True; {root} has no folders of train and test.")
            stacks[person, session, split * divided].setdefault(int(number), str(path))
            count += 1
    some(root, stacks, "pictures that name a person and a slice", LAYOUT)
    twice = count - sum(map(len, stacks.values()))
    left_out(root, twice, f"of {count} pictures, each of a slice that is there already")
    groups, listed = _groups(root), []
    for person, session, split in sorted(stacks, key=lambda key: (numeric(key[0]), *key)):
        files = tuple(path for _, path in sorted(stacks[person, session, split].items()))
        listed.append(Visit(person, session, words[person], files, groups.get(person, {}), split))
    return listed, {person: {kind_of(word)} for person, word in words.items()}


def load(images: tuple[str, ...], reading: Reading = STRICT) -> Volume:
    """Read the slices, lowest first, as voxels `[X, Y, Z]` of 0 to 255, black around the head; there are no masks."""
    volume = read_slices(Path(images[0]).parent, "<person>_<slice>", images, SPACING_MM)
    voxels = np.where(_around(volume.voxels <= BACKGROUND), 0, volume.voxels).astype(np.float32)
    return volume._replace(voxels=voxels, stack=True)


def _around(dark: np.ndarray) -> np.ndarray:
    """Find those pixels of `dark` `[X, Y, Z]` that are connected, within their slice, to its border."""
    outside = np.empty_like(dark)
    for z in range(dark.shape[AXIAL]):
        regions, _ = ndimage.label(np.pad(dark[:, :, z], 1, constant_values=True))
        outside[:, :, z] = (regions == regions[0, 0])[1:-1, 1:-1]
    return outside


def _classes(root: Path) -> list[tuple[str, Path]]:
    """Find the folders of diagnoses, each with the split that its parent names, or nothing."""
    base = _base(root)
    parents = [("", base), *((FOLDERS.get(path.name.lower()), path) for path in _folders(base))]
    folders = [(split, path) for split, parent in parents if split is not None for path in _folders(parent)]
    for _, path in folders:
        why = "so a person's slices cannot be kept in one split, and any result would be empty"
        fault = f"this release names no people, {why}; a release with names is needed, such as {LAYOUT}"
        refuse(path, _NAMELESS.fullmatch(path.name), fault)
    return [(split, path) for split, path in folders if kind_of(path.name)]


def _base(root: Path) -> Path:
    return root / "AD_NC" if (root / "AD_NC").is_dir() else root


def _folders(path: Path) -> list[Path]:
    return sorted(one for one in path.iterdir() if one.is_dir())


def _pictures(folder: Path) -> list[tuple[Path, tuple[str, str, str]]]:
    """List the pictures in a folder of a diagnosis, or in folders of people in it: each person, session and number."""
    found = (path for pattern in ("*.*", "*/*.*") for path in sorted(folder.glob(pattern)))
    paths = [path for path in found if path.suffix.lower() in (".jpeg", ".jpg", ".png")]
    names = {path: _SUBJECT.fullmatch(path.name) or _PERSON.fullmatch(path.name) for path in paths}
    paths = kept(folder, paths, names.get, "pictures whose names hold no person and slice")
    return [(path, names[path].groups("")) for path in paths]


def _groups(root: Path) -> dict[str, dict[str, str]]:
    """Read the groups of each person, where there is a table of them. Raises ScanError for columns of the manifest."""
    base = _base(root).absolute()
    tables = [folder / "participants.tsv" for folder in (base.parent, base)]
    table = next((path for path in tables if path.is_file()), tables[0])
    found = participants(table)
    taken = sorted({key for row in found.values() for key in row} & set(COLUMNS))
    refuse(table, taken, f"the columns {', '.join(taken)} must have other names; the manifest has its own")
    return found

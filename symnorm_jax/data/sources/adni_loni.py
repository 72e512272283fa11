"""ADNI as LONI serves it: NIfTI files, whole heads, and the table of the collection.

Older downloads name the last folder by the series (`S122974`), newer ones by the image (`I1234567`). The table, a CSV
file in `root`, in a folder of it or beside it, has Image Data ID, by which it is joined, Subject, Group and at times
Sex, Age and Visit. Group is what the person was on entry to the study, or at the visit; healthy is who is CN at every
listed one. Of a day's images (the scan, its repeat, either corrected) one is taken, and none that is no T1 by its name.
"""

import re
from pathlib import Path
from typing import NamedTuple

from symnorm_jax.data.sources.diagnosis import Visit, by_visit, kinds_of
from symnorm_jax.data.sources.listing import kept, left_out, one_each, refuse, some
from symnorm_jax.data.sources.tables import cells, read_tables, tables_near

PREFER = ("corrected", "original")
LAYOUT = "ADNI/<PTID>/<description>/<day>/<series or image>/ADNI_<PTID>_MR_..._I<image>.nii with the collection's CSV"

_PERSON = re.compile(r"\d{3}_S_\d{4,5}")
_FILE = re.compile(r".*?(?:_I(\d+))?\.nii(?:\.gz)?")
_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})(?:_.*)?")
_T1 = re.compile(r"MP[-_ ]?RAGE|MPR|SPGR|T1", re.IGNORECASE)
_NO_HEAD = re.compile(r"scout|localizer|hippocamp|mask|flair|T2", re.IGNORECASE)
_CORRECTIONS = ("gradwarp", "b1", "n3", "scaled")


class Image(NamedTuple):
    patient: str
    description: str
    day: str
    number: str  # without the leading I; empty where no name holds it
    path: Path


def holds(root: Path) -> bool:
    """Tell whether folders of people lie in `root`, or in an ADNI folder of it."""
    return any(_PERSON.fullmatch(path.name) for base in _bases(root) for path in base.iterdir())


def visits(root: Path, prefer: str, description: str) -> tuple[list[Visit], dict[str, set[str]]]:
    """List one image a person and day, and the kinds of each person at all visits of the table."""
    every = [image for base in _bases(root) for image in _images(base)]
    other = "images that are no T1, or of another description"
    images = kept(root, every, lambda image: _is_head(image.description, description), other)
    some(root, images, "T1 images" + f" whose description holds {description!r}" * bool(description), LAYOUT)
    tables = read_tables(tables_near(root), ("imagedataid", "subject", "group"))
    rows = by_visit(tables, lambda row: row["imagedataid"].removeprefix("I"), {"subject": str, "group": str})
    columns = "Image Data ID, Subject and Group"
    refuse(root, not rows, f"no CSV file with lines and the columns {columns}, here or beside; one is needed")
    left_out(root, len(rows.keys() - {image.number for image in every}), "lines of the table, without their images")
    images = kept(root, images, lambda image: image.number in rows, "images that the table does not list")
    for patient, *_, number, path in images:
        other = rows[number]["subject"]
        refuse(path, other != patient, f"image I{number} is of {patient}, in the table of {other}")
    images = one_each(root, images, lambda image: image.number, lambda image: 0, "images, each there twice")
    day, rank = lambda image: (image.patient, image.day), lambda image: _rank(image, prefer)
    images = one_each(root, images, day, rank, f"images, each another of a day; {prefer=}")
    found = []
    for image in images:
        row = rows[image.number]
        groups = {"site": image.patient[:3], "diagnosis": row["group"]} | cells(row, "age", "sex", "visit")
        found.append(Visit(image.patient, image.day, row["group"], (str(image.path),), groups))
    return found, kinds_of(rows.values(), "subject", "group")


def _bases(root: Path) -> list[Path]:
    return [path for path in (root, root / "ADNI", *sorted(root.glob("*/ADNI"))) if path.is_dir()]


def _images(base: Path) -> list[Image]:
    found = []
    for path in sorted(base.glob("*_S_*/*/*/*/*.nii*")):
        name, day = _FILE.fullmatch(path.name), _DAY.fullmatch(path.parents[1].name)
        patient, description = path.parents[3].name, path.parents[2].name
        if name and day and _PERSON.fullmatch(patient):
            of_file, folder = name[1] or "", path.parent.name
            of_folder = folder.removeprefix("I") if re.fullmatch(r"I\d+", folder) else ""
            other = of_file and of_folder and of_file != of_folder
            refuse(path, other, f"the image is I{of_file}, its folder I{of_folder}; they must be the same")
            found.append(Image(patient, description, day[1], of_file or of_folder, path))
    return found


def _is_head(description: str, wanted: str) -> bool:
    if wanted:
        return wanted.lower() in description.lower()
    return bool(_T1.search(description)) and not _NO_HEAD.search(description)


def _rank(image: Image, prefer: str) -> tuple:
    """Sort first what has most or fewest corrections, then what is no repeat, then the lowest number."""
    text = image.description.lower()
    corrections = sum(word in text for word in _CORRECTIONS) * (-1 if prefer == "corrected" else 1)
    return corrections, bool(re.search("repeat|mpr-r", text)), int(image.number)

"""ADNI as LONI serves it: `ADNI/<PTID>/<description>/<day and time>/<series or image>/ADNI_<PTID>_MR_..._I<image>.nii`.

Older downloads name the last folder by the series (`S122974`), newer ones by the image (`I1234567`). The table of the
collection, a CSV file in `root`, in a folder of it or beside it, has the columns Image Data ID, Subject and Group, and
at most one Sex, Age and Visit: it is joined by the image's number. LONI writes into Group what the person was on entry
to the study, or at the visit, as the collection was made; a person is healthy only where every listed visit is CN.

A day often has several images: the scan, its repeat, and either of them corrected for gradients, B1 and intensity.
One is taken. Images are whole heads; whatever does not look like T1 by its description is left out.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from symnorm_jax.data.sources.diagnosis import kind_of, left_out, read_tables, standing
from symnorm_jax.data.sources.listing import nothing_found
from symnorm_jax.data.volumes import Scan, read_volume
from symnorm_jax.errors import ScanError

FORMAT = 1  # raise it when the same files would give other voxels
PREFER = ("corrected", "original")
NEEDED = ("imagedataid", "subject", "group")
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
    number: str  # of the image, without the leading I; empty where no name holds it
    path: Path


def holds(root: Path) -> bool:
    """Whether folders of people lie in `root`, or in an ADNI folder of it."""
    return any(_PERSON.fullmatch(path.name) for base in _bases(root) for path in base.iterdir())


def records(root: Path, mci: str, prefer: str, description: str) -> list[Scan]:
    """One Scan a person and day, see `adni.records`. Raises ScanError where the files and the table contradict."""
    every = [image for base in _bases(root) for image in _images(base)]
    images = [image for image in every if _is_head(image.description, description)]
    if not images:
        what = f"T1 images whose description holds {description!r}" if description else "T1 images"
        raise nothing_found(root, what, LAYOUT)
    left_out(root, len(every) - len(images), "images that are no T1, or of another description")
    rows = _collection(root)
    left_out(root, len(rows.keys() - {image.number for image in every}), "lines of the table, without their images")
    images = _listed(root, images, rows)
    chosen = _one_a_day(images, prefer)
    left_out(root, len(images) - len(chosen), f"further images of a day; prefer={prefer!r}")
    of_person = defaultdict(set)
    for row in rows.values():
        of_person[row["subject"]] |= {kind_of(row["group"]) or row["group"]} - {""}
    scans = [_scan(image, rows[image.number], of_person[image.patient], mci) for image in chosen]
    left_out(root, scans.count(None), f"scans of people listed neither as CN throughout nor as AD (mci={mci!r})")
    return [scan for scan in scans if scan]


def _bases(root: Path) -> list[Path]:
    return [path for path in (root, root / "ADNI", *sorted(root.glob("*/ADNI"))) if path.is_dir()]


def _images(base: Path) -> list[Image]:
    found = []
    for path in sorted(base.glob("*_S_*/*/*/*/*.nii*")):
        folder = path.parent
        name, day = _FILE.fullmatch(path.name), _DAY.fullmatch(folder.parent.name)
        patient, description = folder.parents[2].name, folder.parents[1].name
        if name and day and _PERSON.fullmatch(patient):
            found.append(Image(patient, description, day[1], _number(path, name[1]), path))
    return found


def _number(path: Path, of_file: str | None) -> str:
    of_folder = re.fullmatch(r"I(\d+)", path.parent.name)
    if of_file and of_folder and of_file != of_folder[1]:
        raise ScanError(f"{path}: the image is I{of_file}, its folder {of_folder[0]}; they must be the same.")
    return of_file or (of_folder[1] if of_folder else "")


def _is_head(description: str, wanted: str) -> bool:
    if wanted:
        return wanted.lower() in description.lower()
    return bool(_T1.search(description)) and not _NO_HEAD.search(description)


def _collection(root: Path) -> dict[str, dict[str, str]]:
    """The line of each image, by its number. Raises ScanError where two lines of one image contradict."""
    rows, tables = {}, [*root.glob("*.csv"), *root.glob("*/*.csv"), *root.absolute().parent.glob("*.csv")]
    for path, row in read_tables(tables, NEEDED):
        number = row["imagedataid"].removeprefix("I")
        if not number:
            continue
        for key in ("subject", "group"):
            if rows.get(number, row)[key] != row[key]:
                raise ScanError(
                    f"{path}: the {key} of image {row['imagedataid']} is {row[key]!r}, elsewhere "
                    f"{rows[number][key]!r}; one is allowed."
                )
        rows[number] = row
    if not rows:
        needed = "Image Data ID, Subject and Group"
        raise ScanError(f"{root}: no CSV file with lines and the columns {needed}, here or beside; one is needed.")
    return rows


def _listed(root: Path, images: Iterable[Image], rows: dict) -> list[Image]:
    """The images that the table lists, each number once."""
    of_number, left = {}, Counter()
    for image in images:
        first = of_number.get(image.number, image)
        listed = rows[image.number]["subject"] if image.number in rows else image.patient
        for patient in (first.patient, listed):
            if patient != image.patient:
                raise ScanError(f"{image.path}: image I{image.number} is of {image.patient}, elsewhere of {patient}.")
        if image.number not in rows:
            left["images that the table does not list"] += 1
        elif image.number in of_number:
            left["images that are there twice"] += 1
        else:
            of_number[image.number] = image
    for what, count in left.items():
        left_out(root, count, what)
    return list(of_number.values())


def _one_a_day(images: list[Image], prefer: str) -> list[Image]:
    """Of each person and day that with most or fewest corrections, rather no repeat, with the lowest number."""

    def rank(image):
        text = image.description.lower()
        corrections = sum(word in text for word in _CORRECTIONS)
        return (
            corrections * (-1 if prefer == "corrected" else 1),
            bool(re.search("repeat|mpr-r", text)),
            int(image.number),
        )

    chosen = {}
    for image in sorted(images, key=rank):
        chosen.setdefault((image.patient, image.day), image)
    return [chosen[key] for key in sorted(chosen)]


def _scan(image: Image, row: dict[str, str], of_person: set[str], mci: str) -> Scan | None:
    kind = kind_of(row["group"])
    stands = standing(kind, of_person, mci) if kind else None
    if stands is None:
        return None
    groups = {"site": image.patient[:3], "diagnosis": row["group"]}
    groups |= {key: row[key] for key in ("age", "sex", "visit") if row.get(key)}
    return Scan(
        patient=image.patient,
        session=image.day,
        healthy=stands[0],
        load=partial(read_volume, str(image.path)),
        files=(str(image.path),),
        recipe=f"adni loni format {FORMAT}",
        groups=groups,
        labelled=stands[1],
    )

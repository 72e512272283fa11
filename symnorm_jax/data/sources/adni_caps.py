"""ADNI as Clinica's t1-linear leaves it (CAPS): heads moved to MNI space by an affine map, 1 mm, with their skulls.

`subjects/sub-ADNI022S0004/ses-M000/t1_linear/sub-ADNI022S0004_ses-M000_..._T1w.nii.gz`; older versions write `ses-M00`
and `_T1w_space-`. Of a session's images the cropped one is taken. The `.pt` twins are pickles and are never read.

Tables (`*.tsv` in `root` and up to two folders down) with participant_id, session_id and diagnosis say who is what;
sessions are compared as numbers, `ses-M00` being `ses-M000`. A session without a diagnosis is left out.
"""

import re
from collections import defaultdict
from functools import partial
from pathlib import Path

from symnorm_jax.data.sources.diagnosis import kind_of, left_out, read_tables, standing
from symnorm_jax.data.sources.listing import nothing_found
from symnorm_jax.data.volumes import Scan, read_volume
from symnorm_jax.errors import ScanError

FORMAT = 1  # raise it when the same files would give other voxels
NEEDED = ("participantid", "sessionid", "diagnosis")
LAYOUT = "subjects/sub-<person>/ses-<session>/t1_linear/sub-<person>_ses-<session>_..._T1w.nii.gz with *.tsv"

_FILE = re.compile(r"(sub-[^_]+)_(ses-[^_]+)_.*space-MNI152NLin2009cSym(_desc-Crop)?_res-1x1x1_T1w\.nii(?:\.gz)?")


def holds(root: Path) -> bool:
    """Whether `root` is a CAPS folder, or its folder of subjects."""
    return any(_subjects(root).glob("sub-*/ses-*"))


def records(root: Path, mci: str) -> list[Scan]:
    """One Scan a session, see `adni.records`. Raises ScanError where tables contradict one another."""
    images = _images(_subjects(root))
    if not images:
        raise nothing_found(root, "images of t1_linear", LAYOUT)
    rows = _diagnoses(root)
    of_person = defaultdict(set)
    for (person, _), row in rows.items():
        of_person[person].add(kind_of(row["diagnosis"]))
    scans = []
    for (person, session), path in sorted(images.items()):
        row = rows.get((person, _month(session)))
        stands = standing(kind_of(row["diagnosis"]), of_person[person], mci) if row else None
        if stands:
            scans.append(_scan(person, session, path, row, stands))
    left_out(root, len(images) - len(scans), f"sessions listed neither as CN throughout nor as AD (mci={mci!r})")
    return scans


def _subjects(root: Path) -> Path:
    return root if root.name == "subjects" else root / "subjects"


def _images(subjects: Path) -> dict[tuple[str, str], Path]:
    """The image of each person and session: a cropped one rather than a whole one, and the first by name."""
    found = [(path, _FILE.fullmatch(path.name)) for path in subjects.glob("sub-*/ses-*/t1_linear/*_T1w.nii*")]
    found = [(path, name) for path, name in found if name and name[1] == path.parents[2].name]
    images = {}
    for path, name in sorted(found, key=lambda one: (not one[1][3], str(one[0]))):
        images.setdefault((name[1], name[2]), path)
    left_out(subjects, len(found) - len(images), "further images of a session")
    return images


def _diagnoses(root: Path) -> dict[tuple[str, str], dict[str, str]]:
    """The line of each person and session that has a diagnosis."""
    rows = {}
    for path, row in read_tables(_tables(_subjects(root).parent), NEEDED, "\t"):
        key, kind = (row["participantid"], _month(row["sessionid"])), kind_of(row["diagnosis"])
        if kind is None:
            continue
        other = rows.setdefault(key, row)["diagnosis"]
        if kind_of(other) != kind:
            names = f"{row['participantid']} {row['sessionid']}"
            raise ScanError(f"{path}: {names} is {row['diagnosis']!r}, elsewhere {other!r}; one is allowed.")
    if not rows:
        needed = "participant_id, session_id and diagnosis"
        raise ScanError(f"{root}: no table *.tsv with the columns {needed} and a diagnosis; one is needed.")
    return rows


def _tables(base: Path) -> list[Path]:
    """The tables up to two folders down, without a look into the thousands of folders of people."""
    folders = [base, *(path for path in base.iterdir() if path.is_dir() and path.name != "subjects")]
    return [path for folder in folders for pattern in ("*.tsv", "*/*.tsv") for path in folder.glob(pattern)]


def _month(session: str) -> str:
    return re.sub(r"\d+", lambda digits: str(int(digits[0])), session)


def _scan(person: str, session: str, path: Path, row: dict[str, str], stands: tuple[bool, bool]) -> Scan:
    groups = {"diagnosis": row["diagnosis"]}
    groups |= {key: row[key] for key in ("age", "sex") if row.get(key)}
    return Scan(
        patient=person,
        session=session,
        healthy=stands[0],
        load=partial(read_volume, str(path)),
        files=(str(path),),
        recipe=f"adni caps format {FORMAT}",
        groups=groups,
        labelled=stands[1],
    )

"""ADNI as Clinica's t1-linear leaves it (CAPS): heads moved to MNI space by an affine map, 1 mm, with their skulls.

Older versions write `ses-M00` for `ses-M000`, and `_T1w_space-`: sessions are compared as numbers. Of a session's
images the cropped one is taken. The `.pt` twins are pickles and are never read. Tables (`*.tsv` in `root` and up to two
folders down) with participant_id, session_id and diagnosis say who is what.
"""

import re
from pathlib import Path

from symnorm_jax.data.sources.diagnosis import Visit, by_visit, kind_of, kinds_of
from symnorm_jax.data.sources.listing import left_out, one_each, refuse, some
from symnorm_jax.data.sources.tables import cells, read_tables

LAYOUT = "subjects/sub-<person>/ses-<session>/t1_linear/sub-<person>_ses-<session>_..._T1w.nii.gz with *.tsv"

_FILE = re.compile(r"(sub-[^_]+)_(ses-[^_]+)_.*space-MNI152NLin2009cSym(_desc-Crop)?_res-1x1x1_T1w\.nii(?:\.gz)?")


def holds(root: Path) -> bool:
    """Tell whether `root` is a CAPS folder, or its folder of subjects."""
    return any(_subjects(root).glob("sub-*/ses-*"))


def visits(root: Path) -> tuple[list[Visit], dict[str, set[str]]]:
    """List all sessions with an image, and the kinds of each person at all sessions of the tables."""
    images = some(root, _images(_subjects(root)), "images of t1_linear", LAYOUT)
    base = _subjects(root).parent  # the subjects' own thousands of folders are not looked into
    folders = [base, *(path for path in base.iterdir() if path.is_dir() and path.name != "subjects")]
    paths = [path for folder in folders for pattern in ("*.tsv", "*/*.tsv") for path in folder.glob(pattern)]
    tables = read_tables(paths, ("participantid", "sessionid", "diagnosis"), "\t")
    known = [(path, row) for path, row in tables if kind_of(row["diagnosis"])]
    rows = by_visit(known, lambda row: _name(row["participantid"], row["sessionid"]), {"diagnosis": kind_of})
    columns = "participant_id, session_id and diagnosis"
    refuse(root, not rows, f"no table *.tsv with the columns {columns} and a diagnosis; one is needed")
    found = []
    for path in images:
        person, session, _ = _FILE.fullmatch(path.name).groups()
        groups = cells(rows.get(_name(person, session), {}), "diagnosis", "age", "sex")
        found.append(Visit(person, session, groups.get("diagnosis", ""), (str(path),), groups))
    return found, kinds_of(rows.values(), "participantid", "diagnosis")


def _subjects(root: Path) -> Path:
    return root if root.name == "subjects" else root / "subjects"


def _images(subjects: Path) -> list[Path]:
    """Find the image of each person and session: a cropped one rather than a whole one, and the first by name."""
    found = {path: _FILE.fullmatch(path.name) for path in subjects.glob("sub-*/ses-*/t1_linear/*_T1w.nii*")}
    images = [path for path, name in found.items() if name and name[1] == path.parents[2].name]
    bare = sorted(
        {str(path) for path in subjects.glob("sub-*/ses-*/t1_linear")} - {str(path.parent) for path in images}
    )
    left_out(subjects, len(bare), f"folders without an image, as {bare[0]}" if bare else "")
    key, rank = lambda path: found[path].groups()[:2], lambda path: (not found[path][3], str(path))
    return one_each(subjects, images, key, rank, "images, each another one of a session")


def _name(person: str, session: str) -> str:
    """Name a visit so that its number has no leading zeros."""
    return f"{person} " + re.sub(r"\d+", lambda digits: str(int(digits[0])), session)

"""OASIS-1, 416 people from 18 to 96, in the folders of its discs or all in one.

Of a session the average of its scans in Talairach's space is taken, 176 x 208 x 176 voxels of 1 mm, without skull:
`data.brain="nonzero"` fits. Of neurite-oasis (`OASIS_OAS1_0001_MR1/aligned_norm.nii.gz`) the aligned image is taken.
`oasis_cross-sectional.csv` (ID, CDR and at times M/F, Age and MMSE) lies in `root`, in a disc or beside `root`. A CDR
of 0 is healthy, a higher one is not; the highest of a person holds for all sessions: MR2 was made within 90 days.
Analyze files store no directions: nibabel takes the first voxel for the rightmost, hindmost and lowest one, on which
symmetry does not depend; but no side should be quoted from the T88 images.
"""

import re
from pathlib import Path

from symnorm_jax.data.masks import STRICT, Reading
from symnorm_jax.data.sources.listing import existing, kept, nifti_scan, refuse, some
from symnorm_jax.data.sources.tables import one_row_each, read_tables, tables_near
from symnorm_jax.data.volumes import Scan, Volume, read_volume
from symnorm_jax.errors import check_options

FORMAT = "oasis format 1"  # raise it when the same files would give other voxels
CDR = ("0", "0.5", "1", "2", "3")
UNKNOWN = ("N/A", "NA", "NAN")
GROUPS = {"age": "age", "mf": "sex", "cdr": "cdr", "mmse": "mmse"}  # columns of the table and what they are called here
LAYOUT = "OAS1_<person>_MR<n>/PROCESSED/MPRAGE/T88_111/OAS1_..._t88_masked_gfc.hdr and .img, with the CSV file"

_SESSION = re.compile(r"(?:OASIS_)?(OAS1_\d{4})_(MR\d)")


def records(root: str, *, unassessed: str = "drop") -> list[Scan]:
    """List one Scan a session; ScanError without a table. `unassessed` people, as the young, are dropped or healthy."""
    check_options({"unassessed": ("drop", "healthy")}, unassessed=unassessed)
    path = existing(root, LAYOUT)
    sessions = some(root, _sessions(path), "sessions", LAYOUT)
    tables = read_tables(tables_near(path), ("id", "cdr"))
    rows = one_row_each(path, [_assessed(table, row) for table, row in tables if row["id"]], "id", ("cdr",))
    refuse(root, not rows, "no CSV file with the columns ID and CDR, here or beside; one is needed")
    highest = _highest(rows)
    names = kept(path, sorted(sessions), sessions.get, "sessions without an image, or one of its two files")
    names = kept(path, names, rows.get, "sessions that the table does not list")
    if unassessed == "drop":
        what = "sessions of people who were not assessed (unassessed='drop')"
        names = kept(path, names, lambda name: _person(name) in highest, what)
    return [_scan(name, sessions[name], rows[name], highest.get(_person(name), 0.0)) for name in names]


def load(image: str, lesion: None, brain: None, reading: Reading = STRICT) -> Volume:
    """Read an image; what has no directions is flagged, for none of the release's Analyze files has any."""
    return read_volume(image, reading=reading._replace(header="flag"))


def _person(name: str) -> str:
    return name.rpartition("_")[0]


def _sessions(root: Path) -> dict[str, tuple[Path, ...]]:
    """Find the files of each session, image first: none where the image is not whole, the first of several copies."""
    sessions = {}
    for path in sorted(path for pattern in ("*OAS1_*", "*/*OAS1_*", "*/*/OAS1_*") for path in root.glob(pattern)):
        name = _SESSION.fullmatch(path.name)
        if name and path.is_dir():
            key = f"{name[1]}_{name[2]}"
            sessions[key] = sessions.get(key) or _image(path)
    return sessions


def _image(session: Path) -> tuple[Path, ...]:
    for image in sorted(session.glob("PROCESSED/MPRAGE/T88_111/*_t88_masked_gfc.img")):
        if image.with_suffix(".hdr").is_file():
            return image, image.with_suffix(".hdr")
    return tuple(session.glob("aligned_norm.nii.gz"))


def _highest(rows: dict[str, dict[str, str]]) -> dict[str, float]:
    highest = {}
    for name, row in rows.items():
        if "cdr" in row:
            highest[_person(name)] = max(highest.get(_person(name), 0.0), float(row["cdr"]))
    return highest


def _assessed(table: Path, row: dict[str, str]) -> dict[str, str]:
    """Return a row whose CDR is written in one way, or is nothing. Raises ScanError for another."""
    cdr = "" if row["cdr"].upper() in UNKNOWN else row["cdr"].removesuffix(".0")
    refuse(table, cdr not in ("", *CDR), f"the CDR of {row['id']} is {cdr!r}; 0, 0.5, 1, 2, 3 or nothing is allowed")
    return row | {"cdr": cdr}


def _scan(name: str, files: tuple[Path, ...], row: dict[str, str], cdr: float) -> Scan:
    patient, _, session = name.rpartition("_")
    groups = {group: row[column] for column, group in GROUPS.items() if row.get(column)}
    about = {"patient": patient, "session": session, "standing": "abnormal" if cdr else "healthy", "groups": groups}
    return nifti_scan(files[0], read=load, recipe=FORMAT, **about)._replace(extras=tuple(map(str, files[1:])))

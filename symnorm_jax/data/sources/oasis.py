"""OASIS-1, 416 people from 18 to 96: `OAS1_0001_MR1/PROCESSED/MPRAGE/T88_111/OAS1_..._t88_masked_gfc.{hdr,img}`.

The sessions lie in `root` or in the folders of its discs (`disc1`, ...). The image taken is the average of the
session's scans in Talairach's space, 176 x 208 x 176 voxels of 1 mm, without skull: `data.brain="nonzero"` fits. Of
neurite-oasis (`OASIS_OAS1_0001_MR1/aligned_norm.nii.gz`, 160 x 192 x 224, stored L-I-A) the aligned image is taken.

`oasis_cross-sectional.csv` (ID, CDR and, where they are there, M/F, Age and MMSE) lies in `root`, in a disc or beside
`root`. A CDR of 0 is healthy, a higher one is not; the highest of a person holds for all sessions, as a second one
(MR2) was made within 90 days. Young people were not assessed: the option `unassessed` drops them or calls them healthy.

Analyze files store no directions. nibabel takes the first voxel for the rightmost, hindmost and lowest one. That the
T88 images were stored so is an assumption: symmetry does not depend on it, but no side should be quoted from them.
"""

import re
from collections import Counter
from functools import partial
from pathlib import Path

from symnorm_jax.data.sources.diagnosis import left_out, read_tables
from symnorm_jax.data.sources.listing import existing, nothing_found, one_of
from symnorm_jax.data.volumes import Scan, read_volume
from symnorm_jax.errors import ScanError

FORMAT = 1  # raise it when the same files would give other voxels
UNASSESSED = ("drop", "healthy")
NEEDED = ("id", "cdr")
GROUPS = {"age": "age", "mf": "sex", "cdr": "cdr", "mmse": "mmse"}  # columns of the table and what they are called here
LAYOUT = "OAS1_<person>_MR<n>/PROCESSED/MPRAGE/T88_111/OAS1_..._t88_masked_gfc.hdr and .img, with the CSV file"

_SESSION = re.compile(r"(?:OASIS_)?(OAS1_\d{4})_(MR\d)")


def records(root: str, *, unassessed: str = "drop") -> list[Scan]:
    """One Scan a session. Raises ScanError where there is no table, or it holds a CDR that is no number."""
    one_of("unassessed", unassessed, UNASSESSED)
    path, left = existing(root, LAYOUT), Counter()
    sessions = _sessions(path)
    if not sessions:
        raise nothing_found(root, "sessions", LAYOUT)
    rows, scans = _table(path), []
    highest = _highest(rows)
    for name, files in sorted(sessions.items()):
        patient = name.rpartition("_")[0]
        if not files:
            left["without an image, or one of its two files"] += 1
        elif name not in rows:
            left["that the table does not list"] += 1
        elif patient not in highest and unassessed == "drop":
            left["of people who were not assessed (unassessed='drop')"] += 1
        else:
            scans.append(_scan(name, files, rows[name], highest.get(patient, 0.0)))
    for why, count in left.items():
        left_out(path, count, f"of {len(sessions)} sessions {why}")
    return scans


def _sessions(root: Path) -> dict[str, tuple[Path, ...]]:
    """The files of each session, image first: none where the image is not whole; the first where it is there twice."""
    folders = sorted(path for pattern in ("*OAS1_*", "*/*OAS1_*", "*/*/OAS1_*") for path in root.glob(pattern))
    sessions = {}
    for path in folders:
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


def _table(root: Path) -> dict[str, dict[str, str]]:
    """The line of each session, by its name."""
    paths = [*root.glob("*.csv"), *root.glob("*/*.csv"), *root.absolute().parent.glob("*.csv")]
    rows = {row["id"]: row | {"table": str(path)} for path, row in read_tables(paths, NEEDED) if row["id"]}
    if not rows:
        raise ScanError(f"{root}: no CSV file with the columns ID and CDR, here or beside; one is needed.")
    return rows


def _highest(rows: dict[str, dict[str, str]]) -> dict[str, float]:
    """The highest CDR of each person who was assessed."""
    highest = {}
    for name, row in rows.items():
        if row["cdr"].upper() in ("", "N/A", "NA", "NAN"):
            continue
        if row["cdr"] not in ("0", "0.0", "0.5", "1", "1.0", "2", "2.0", "3", "3.0"):
            raise ScanError(
                f"{row['table']}: the CDR of {name} is {row['cdr']!r}; 0, 0.5, 1, 2, 3 or nothing is allowed."
            )
        patient = name.rpartition("_")[0]
        highest[patient] = max(highest.get(patient, 0.0), float(row["cdr"]))
    return highest


def _scan(name: str, files: tuple[Path, ...], row: dict[str, str], cdr: float) -> Scan:
    patient, _, session = name.rpartition("_")
    image, *header = map(str, files)
    return Scan(
        patient=patient,
        session=session,
        healthy=cdr == 0,
        load=partial(read_volume, image),
        files=(image,),
        extras=tuple(header),
        recipe=f"oasis format {FORMAT}",
        groups={group: row[column] for column, group in GROUPS.items() if row.get(column)},
    )

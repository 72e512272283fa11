"""Anyone's own scans, listed in a CSV file; `root` is the path of that file.

Columns: `path` of a NIfTI image, `patient`, `label` (healthy or abnormal) and, where there are any, `session`,
`brain_path` and `lesion_path` of masks on the same grid. Every other column is a group: age, sex, site and the like.
Paths are taken from the folder of the file. Without a `lesion_path` every slice of an abnormal person is abnormal.
"""

import csv
from functools import partial
from pathlib import Path

from symnorm_jax.data.manifest import COLUMNS
from symnorm_jax.data.volumes import Scan, read_volume
from symnorm_jax.errors import ScanError

NEEDED = ("path", "patient", "label")
KNOWN = (*NEEDED, "session", "brain_path", "lesion_path")
LABELS = ("healthy", "abnormal")
RESERVED = tuple(sorted(set(COLUMNS) - set(KNOWN)))
FORMAT = 1  # raise it when the same files would give other voxels


def records(root: str) -> list[Scan]:
    """One Scan a line. Raises ScanError that names the file, the line and what was allowed."""
    path = Path(root)
    if not path.is_file():
        raise ScanError(f"{path}: no such file; a CSV file with the columns {', '.join(NEEDED)} is needed.")
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        columns = table.fieldnames or []
        if not set(NEEDED) <= set(columns) or set(RESERVED) & set(columns):
            raise ScanError(f"{path}: columns {columns}; {', '.join(NEEDED)} are needed, {', '.join(RESERVED)} taken.")
        return [_scan(path, number, line) for number, line in enumerate(table, start=2)]


def _scan(table: Path, number: int, line: dict[str, str]) -> Scan:
    line = {column: (value or "").strip() for column, value in line.items() if column}
    if line["label"] not in LABELS or not line["path"] or not line["patient"]:
        given = {column: line[column] for column in NEEDED}
        raise ScanError(f"{table}, line {number}: {given}; a path, a patient and a label of {LABELS} are needed.")
    image, lesion, brain = (
        str(table.parent / line[column]) if line.get(column) else None
        for column in ("path", "lesion_path", "brain_path")
    )
    return Scan(
        patient=line["patient"],
        session=line.get("session", ""),
        healthy=line["label"] == "healthy",
        load=partial(read_volume, image, lesion, brain),
        files=(image,),
        extras=tuple(mask for mask in (lesion, brain) if mask),
        recipe=f"table format {FORMAT}, lesion {bool(lesion)}, brain {bool(brain)}",
        groups={column: value for column, value in line.items() if column not in KNOWN},
    )

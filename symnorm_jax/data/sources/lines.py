"""The lines of a table that lists scans: each is checked, and its files are found, before any is read."""

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from symnorm_jax.data.manifest import COLUMNS
from symnorm_jax.data.sources.listing import STANDINGS, mask_like, one_form, refuse
from symnorm_jax.data.sources.pictures import PICTURES
from symnorm_jax.data.sources.tables import column_key, read_rows
from symnorm_jax.errors import ScanError

PATHS = ("lesion_path", "brain_path", "tissue_path")
FILES = (*PICTURES, ".nii", ".nii.gz", ".mgz", ".img", ".hdr", ".dcm", ".nrrd", ".mha")


class Line(NamedTuple):
    """One scan of a table, its cells checked and its paths found."""

    where: str  # the table and the line, as errors name them
    cells: dict[str, str]
    image: Path
    masks: tuple[Path | None, Path | None]  # of lesion and brain
    person: dict  # patient, session, standing and groups
    tissue: Path | None = None  # a map of labels


def read_lines(
    table: Path, column: str, optional: Sequence[str] = (), labels: bool = True, contrasts: Sequence[str] = ()
) -> list[Line]:
    """Read a table whose images stand in `column`; unknown columns are groups. Raises ScanError that names the line.

    With columns of several `contrasts`, of which a row may lack some, a row without the one in `column` is left out.
    """
    images = tuple(dict.fromkeys((column, *contrasts)))
    rows = read_rows(table, (*images, "patient", "label") if labels else (*images, "patient"))
    known, lines = {*images, "patient", "label", "session", *PATHS, *optional}, []
    _refuse_likenesses(table, rows, known)
    for number, row in zip(_line_numbers(table, set(COLUMNS) - known), rows, strict=True):
        if not labels and row.get("label", "").lower() not in STANDINGS:
            row["label"] = "unlabelled"
        groups = {name: cell for name, cell in row.items() if name not in known}
        _refuse_paths(table, f"{table}, line {number}", groups, {*images, *PATHS})
        if row[column] or not any(row[name] for name in images):
            lines.append(_line(table, f"{table}, line {number}", column, row, groups))
    _refuse_repeats(lines, column)
    return lines


def _refuse_likenesses(table: Path, rows: list[dict[str, str]], known: set[str]) -> None:
    """Raise ScanError for a column that is like a known one but for its case, blanks or underscores."""
    like = {column_key(name): name for name in sorted(known)}
    for name in rows[0] if rows else ():
        meant = like.get(column_key(name), name)
        refuse(table, name not in known and meant != name, f"the column {name!r} must be called {meant!r}")


def _refuse_paths(table: Path, where: str, groups: dict[str, str], filed: set[str]) -> None:
    """Raise ScanError for a cell of an unknown column that names a file: a mask that would not be used."""
    for name, cell in groups.items():
        by_name = cell.lower().endswith(FILES) or mask_like(Path(f"{name}.nii")) and _there(table.parent / cell)
        is_file = cell and (by_name or _there(table.parent / cell, Path.is_file, _holds_pictures))
        told = f"{name}={cell!r} is a file or a folder of pictures, and the column is unknown"
        refuse(where, is_file, f"{told}; files go in {', '.join(sorted(filed))}")


def _line_numbers(table: Path, reserved: set[str]) -> list[int]:
    """Find where each row ends in the file. Raises ScanError where rows and header do not fit each other."""
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader, numbers = csv.DictReader(stream), []
        columns = [column.strip() for column in reader.fieldnames]
        taken = f"these names are taken: {', '.join(sorted(reserved))}"
        refuse(table, reserved & set(columns), f"columns {columns}; {taken}")
        for row in reader:
            cells = len(columns) + len(row.get(None, ()))
            fault = f"{cells} cells; the header has {len(columns)}"
            refuse(f"{table}, line {reader.line_num}", cells > len(columns), fault)
            numbers.append(reader.line_num)
    return numbers


def _line(table: Path, where: str, column: str, row: dict[str, str], groups: dict[str, str]) -> Line:
    label = row["label"].lower()
    if label not in STANDINGS or not row[column] or not row["patient"]:
        given = {name: row[name] for name in (column, "patient", "label")}
        raise ScanError(f"{where}: {given}; a {column}, a patient and a label of {STANDINGS} are needed.")
    folder, names = table.parent, (column, *PATHS)
    image, *masks, tissue = (_existing(where, name, folder, row[name]) if row.get(name) else None for name in names)
    patient, session = (one_form(row.get(name, "")) for name in ("patient", "session"))
    person = {"patient": patient, "session": session, "standing": label, "groups": groups}
    return Line(where, row, image, tuple(masks), person, tissue)


def _existing(where: str, column: str, folder: Path, name: str) -> Path:
    refuse(where, not _there(folder / name), f"{column}={name!r}; there is no such file or folder")
    return folder / name


def _there(path: Path, *kinds: Callable[[Path], bool]) -> bool:
    try:
        return any(kind(path) for kind in kinds or (Path.is_file, Path.is_dir))  # a device has no end
    except (OSError, ValueError):  # a name too long, or one that holds a null byte
        return False


def _holds_pictures(path: Path) -> bool:
    return path.is_dir() and any(file.suffix.lower() in PICTURES for file in path.iterdir())


def _refuse_repeats(lines: list[Line], column: str) -> None:
    seen = {}
    for line in lines:
        visit = (line.person["patient"], line.person["session"])
        for key, what in ((visit, f"patient and session {visit}"), (os.path.realpath(line.image), column)):
            first = seen.setdefault(key, line)
            if first is not line:
                number = first.where.rpartition(" ")[2]
                raise ScanError(f"{line.where}: the {what} stands already in line {number}; once is allowed.")

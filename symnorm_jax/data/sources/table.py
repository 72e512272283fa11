"""Anyone's own scans, listed in a CSV file such as `manifest.csv`; `root` is the path of that file.

Needed are `path`, `patient` and `label` (healthy, abnormal or unlabelled); `session` tells visits apart, `lesion_path`
and `brain_path` name masks on the same grid; every other column is a group such as age or site. Without a `lesion_path`
every slice of an abnormal person is abnormal. Relative paths start at the folder of the file. A line that cannot be
used stops the run, for the file is one's own and soon mended.

An image is a NIfTI file or a folder of pictures, one a slice, the lowest first by the numbers in their names, anterior
at the top and the person's left at the left. Its masks are folders of PNG or TIFF files with the names of the slices;
`spacing_mm`, such as "0.94,0.94,5", is the distance of pixels left to right, of pixels back to front, and of slices.
"""

import csv
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from symnorm_jax.data.headers import SIZES_MM
from symnorm_jax.data.manifest import COLUMNS
from symnorm_jax.data.masks import STRICT, Reading
from symnorm_jax.data.sources.listing import (
    STANDINGS,
    left_out,
    mask_like,
    nifti_scan,
    numeric,
    one_form,
    refuse,
    scan_of,
)
from symnorm_jax.data.sources.pictures import Spacing, read_masks, read_slices
from symnorm_jax.data.sources.tables import column_key, read_rows
from symnorm_jax.data.volumes import Scan, Volume
from symnorm_jax.errors import ScanError

PATHS = ("lesion_path", "brain_path")
FILED = {"path", "folder", *PATHS}  # columns of files and folders
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
LOSSLESS = (".png", ".tif", ".tiff")  # JPEG leaves values just above 0 around a mask
FILES = (*PICTURES, ".nii", ".nii.gz", ".mgz", ".img", ".hdr", ".dcm", ".nrrd", ".mha")
FORMAT = "table format 1"  # raise it when the same files would give other voxels


class Line(NamedTuple):
    """One scan of a table, its cells checked and its paths found."""

    where: str  # the table and the line, as errors name them
    cells: dict[str, str]
    image: Path
    masks: tuple[Path | None, Path | None]  # of lesion and brain
    person: dict  # patient, session, standing and groups


def records(root: str, *, labels: bool = True) -> list[Scan]:
    """List one Scan a line; without `labels` these may be missing or say anything. Raises ScanError with the line."""
    return [_scan(line) for line in read_lines(Path(root), "path", ("spacing_mm",), labels)]


def load_pictures(images, lesion, brain, spacing: Spacing, reading: Reading = STRICT) -> Volume:
    """Read a stack of pictures, lowest first, with pictures of its masks if there are any; `spacing` in mm."""
    volume = read_slices(Path(images[0]).parent, "as pictures", images, spacing)
    for kind, paths in (("lesion", lesion), ("brain", brain)):
        if paths:
            volume = volume._replace(**{kind: read_masks(paths, volume, kind, reading, ("1", "L", "RGB"))})
    return volume


def read_lines(table: Path, column: str, optional: Sequence[str] = (), labels: bool = True) -> list[Line]:
    """Read a table whose images stand in `column`; unknown columns are groups. Raises ScanError that names the line."""
    rows = read_rows(table, (column, "patient", "label") if labels else (column, "patient"))
    known, lines = {column, "patient", "label", "session", *PATHS, *optional}, []
    _refuse_likenesses(table, rows, known)
    for number, row in zip(_line_numbers(table, set(COLUMNS) - known), rows, strict=True):
        if not labels and row.get("label", "").lower() not in STANDINGS:
            row["label"] = "unlabelled"
        groups = {name: cell for name, cell in row.items() if name not in known}
        _refuse_paths(table, f"{table}, line {number}", groups, known)
        lines.append(_line(table, f"{table}, line {number}", column, row, groups))
    _refuse_repeats(lines, column)
    return lines


def _refuse_likenesses(table: Path, rows: list[dict[str, str]], known: set[str]) -> None:
    """Raise ScanError for a column that is like a known one but for its case, blanks or underscores."""
    like = {column_key(name): name for name in sorted(known)}
    for name in rows[0] if rows else ():
        meant = like.get(column_key(name), name)
        refuse(table, name not in known and meant != name, f"the column {name!r} must be called {meant!r}")


def _refuse_paths(table: Path, where: str, groups: dict[str, str], known: set[str]) -> None:
    """Raise ScanError for a cell of an unknown column that names a file: a mask that would not be used."""
    for name, cell in groups.items():
        by_name = cell.lower().endswith(FILES) or mask_like(Path(f"{name}.nii")) and _there(table.parent / cell)
        is_file = cell and (by_name or _there(table.parent / cell, Path.is_file, _holds_pictures))
        columns = ", ".join(sorted(known & FILED))
        refuse(
            where,
            is_file,
            f"{name}={cell!r} is a file or a folder of pictures, and the column is unknown; files go in {columns}",
        )


def _line_numbers(table: Path, reserved: set[str]) -> list[int]:
    """Find where each row ends in the file. Raises ScanError where rows and header do not fit each other."""
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader, numbers = csv.DictReader(stream), []
        columns = [column.strip() for column in reader.fieldnames]
        taken = f"each may come once, and these names are taken: {', '.join(sorted(reserved))}"
        fault = len(set(columns)) < len(columns) or reserved & set(columns)
        refuse(table, fault, f"columns {columns}; {taken}")
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
    image, *masks = (_existing(where, name, folder, row[name]) if row.get(name) else None for name in names)
    patient, session = (one_form(row.get(name, "")) for name in ("patient", "session"))
    person = {"patient": patient, "session": session, "standing": label, "groups": groups}
    return Line(where, row, image, tuple(masks), person)


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


def _scan(line: Line) -> Scan:
    if not line.image.is_dir():
        spacing = line.cells.get("spacing_mm")
        refuse(line.where, spacing, f"spacing_mm={spacing!r}; only a folder of pictures has one")
        return nifti_scan(line.image, *line.masks, recipe=FORMAT, **line.person)
    images = _pictures(line.image, PICTURES)
    refuse(line.where, not images, f"the folder {line.image} holds 0 pictures; {', '.join(PICTURES)} are read")
    lesion, brain = (_masks(line.where, images, folder) if folder else () for folder in line.masks)
    spacing = _spacing(line)
    recipe = f"{FORMAT}, pictures {spacing}, lesion {bool(lesion)}, brain {bool(brain)}"
    read = partial(load_pictures, images, lesion, brain, spacing)
    return scan_of(read, images, lesion + brain, recipe=recipe, drawn=bool(lesion), **line.person)


def _pictures(folder: Path, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    seen = [path for path in folder.iterdir() if not path.name.startswith(".")]
    found = sorted((path for path in seen if path.suffix.lower() in suffixes), key=lambda path: numeric(path.name))
    others = sorted(path.name for path in seen if path not in found)
    left_out(folder, len(others), f"files and folders that are no pictures, as {others[0]}" if others else "")
    return tuple(map(str, found))


def _masks(where: str, images: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    fault = f"the mask {folder} is a file; a folder of pictures needs a folder of masks"
    refuse(where, not folder.is_dir(), fault)
    masks = {Path(path).stem: path for path in _pictures(folder, LOSSLESS)}
    for image in images:
        fault = f"{folder} holds no {' or '.join(LOSSLESS)} mask of the slice {Path(image).name}"
        refuse(where, Path(image).stem not in masks, fault)
    return tuple(masks[Path(image).stem] for image in images)


def _spacing(line: Line) -> Spacing:
    text, (low, high) = line.cells.get("spacing_mm", ""), SIZES_MM
    try:
        spacing = tuple(float(number) for number in text.split(","))
    except ValueError:
        spacing = ()
    if len(spacing) != 3 or not all(low <= length <= high for length in spacing):
        lengths = f"three lengths from {low:g} to {high:g} mm"
        raise ScanError(f"{line.where}: spacing_mm={text!r}; a folder of pictures needs {lengths}.")
    return spacing

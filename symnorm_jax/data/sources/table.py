"""Anyone's own scans, listed in a CSV file such as `manifest.csv`; `root` is the path of that file.

Columns: `path`, `patient` and `label` (healthy, abnormal or unlabelled) are needed; `session` tells the visits of one
person apart, `lesion_path` and `brain_path` name masks on the same grid. Every other column is a group: age, sex, site
and the like. Relative paths start at the folder of the file. An image is a NIfTI file, or a folder of pictures (PNG,
JPEG or TIFF), one a slice, the lowest first when numbers in their names are read as numbers; anterior is at the top and
the person's left at the left. Its masks are folders of PNG or TIFF files with the names of the slices, and
`spacing_mm`, such as "0.94,0.94,5", gives the distance of pixels left to right, of pixels back to front, and of slices.

Without a `lesion_path` every slice of an abnormal person is abnormal. A label left empty is refused: who is unlabelled
is said in so many words. A line that cannot be used stops the run, for the file is one's own and soon mended.
"""

import csv
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from symnorm_jax.data.manifest import COLUMNS
from symnorm_jax.data.sources.listing import numeric, read_rows
from symnorm_jax.data.sources.pictures import check_count, read_stack
from symnorm_jax.data.volumes import Scan, Volume, read_volume
from symnorm_jax.errors import ScanError
from symnorm_jax.geometry import centred_affine

LABELS = ("healthy", "abnormal", "unlabelled")
OPTIONAL = ("session", "lesion_path", "brain_path")
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
LOSSLESS = (".png", ".tif", ".tiff")  # JPEG leaves values just above 0 around a mask
SPACING_MM = (0.05, 50.0)
FORMAT = 1  # raise it when the same files would give other voxels


class Line(NamedTuple):
    """One scan of a table, its cells checked and its paths found."""

    where: str  # the table and the line, as errors name them
    cells: dict[str, str]
    image: Path
    lesion: Path | None
    brain: Path | None
    person: dict  # patient, session, healthy, labelled and groups, as Scan takes them


def records(root: str, *, labels: bool = True) -> list[Scan]:
    """One Scan a line. Raises ScanError that names the file, the line and what was allowed.

    Without `labels`, which only training and judging need, the column may be missing or say anything.
    """
    return [_scan(line) for line in read_lines(Path(root), "path", ("spacing_mm",), labels)]


def load_pictures(
    images: tuple[str, ...], lesion: tuple[str, ...], brain: tuple[str, ...], spacing: tuple[float, float, float]
) -> Volume:
    """A stack of pictures, lowest first, with pictures of its masks if there are any; `spacing` in mm."""
    folder = Path(images[0]).parent
    check_count(folder, "as pictures", len(images))
    voxels = read_stack(images).astype(np.float32)
    if voxels.min() == voxels.max():
        raise ScanError(f"{folder}: every pixel has the value {voxels.flat[0]:g}; an image must have contrast.")
    masks = [read_stack(paths, ("1", "L", "RGB")) > 0 if paths else None for paths in (lesion, brain)]
    for paths, mask in zip((lesion, brain), masks, strict=True):
        if mask is not None and mask.shape != voxels.shape:
            raise ScanError(f"{Path(paths[0]).parent}: the masks have shape {mask.shape}, {folder} {voxels.shape}.")
    return Volume(voxels, centred_affine(voxels.shape, spacing), *masks)


def read_lines(table: Path, column: str, optional: Sequence[str] = (), labels: bool = True) -> list[Line]:
    """The lines of a table of scans whose images stand in `column`; columns that nobody knows become groups.

    Raises ScanError that names the line where a cell is not allowed, a path leads nowhere, or a scan is listed twice.
    """
    needed = (column, "patient", "label") if labels else (column, "patient")
    rows = read_rows(table, needed)
    if not labels:
        rows = [row | {"label": _known(row.get("label", ""))} for row in rows]
    known = {column, "patient", "label", *OPTIONAL, *optional}
    numbers = _line_numbers(table, set(COLUMNS) - known)
    lines = [
        _line(table, number, column, row, {name: cell for name, cell in row.items() if name not in known})
        for number, row in zip(numbers, rows, strict=True)
    ]
    _refuse_repeats(lines, column)
    return lines


def _line_numbers(table: Path, reserved: set[str]) -> list[int]:
    """Where each row ends in the file. Raises ScanError where rows and header do not fit each other."""
    with table.open(newline="", encoding="utf-8-sig") as stream:
        reader, numbers = csv.DictReader(stream), []
        columns = [column.strip() for column in reader.fieldnames]
        if len(set(columns)) < len(columns) or reserved & set(columns):
            taken = ", ".join(sorted(reserved))
            raise ScanError(f"{table}: columns {columns}; each may come once, and these names are taken: {taken}.")
        for row in reader:
            if None in row:
                cells = len(columns) + len(row[None])
                raise ScanError(f"{table}, line {reader.line_num}: {cells} cells; the header has {len(columns)}.")
            numbers.append(reader.line_num)
    return numbers


def _line(table: Path, number: int, column: str, row: dict[str, str], groups: dict[str, str]) -> Line:
    where, label = f"{table}, line {number}", row["label"].lower()
    if label not in LABELS or not row[column] or not row["patient"]:
        given = {name: row[name] for name in (column, "patient", "label")}
        raise ScanError(f"{where}: {given}; a {column}, a patient and a label of {LABELS} are needed.")
    image, lesion, brain = (
        _existing(where, name, table.parent, row[name]) if row.get(name) else None
        for name in (column, "lesion_path", "brain_path")
    )
    person = {"patient": row["patient"], "session": row.get("session", ""), "groups": groups}
    person |= {"healthy": label == "healthy", "labelled": label != "unlabelled"}
    return Line(where, row, image, lesion, brain, person)


def _known(label: str) -> str:
    return label if label.lower() in LABELS else "unlabelled"


def _existing(where: str, column: str, folder: Path, name: str) -> Path:
    path = folder / name
    try:
        there = path.is_file() or path.is_dir()  # a device has no end
    except (OSError, ValueError):  # a name too long, or one that holds a null byte
        there = False
    if not there:
        raise ScanError(f"{where}: {column}={name!r}; there is no such file or folder.")
    return path


def _refuse_repeats(lines: list[Line], column: str) -> None:
    seen = {}
    for line in lines:
        visit = (line.person["patient"], line.person["session"])
        for key, what in ((visit, f"patient and session {visit}"), (os.path.realpath(line.image), column)):
            if key in seen:
                raise ScanError(
                    f"{line.where}: the {what} stands already in line {_number(seen[key])}; once is allowed."
                )
            seen[key] = line


def _number(line: Line) -> str:
    return line.where.rpartition(" ")[2]


def _scan(line: Line) -> Scan:
    recipe = f"table format {FORMAT}, lesion {bool(line.lesion)}, brain {bool(line.brain)}"
    if line.image.is_dir():
        return _scan_of_pictures(line, recipe)
    if line.cells.get("spacing_mm"):
        raise ScanError(f"{line.where}: spacing_mm={line.cells['spacing_mm']!r}; only a folder of pictures has one.")
    image, lesion, brain = (str(path) if path else None for path in (line.image, line.lesion, line.brain))
    return Scan(
        **line.person,
        load=partial(read_volume, image, lesion, brain),
        files=(image,),
        extras=tuple(mask for mask in (lesion, brain) if mask),
        recipe=recipe,
    )


def _scan_of_pictures(line: Line, recipe: str) -> Scan:
    images = _pictures(line.image, PICTURES)
    if not images:
        raise ScanError(f"{line.where}: the folder {line.image} holds 0 pictures; {', '.join(PICTURES)} are read.")
    lesion, brain = (_masks(line.where, images, folder) if folder else () for folder in (line.lesion, line.brain))
    spacing = _spacing(line)
    return Scan(
        **line.person,
        load=partial(load_pictures, images, lesion, brain, spacing),
        files=images,
        extras=lesion + brain,
        recipe=f"{recipe}, pictures {spacing}",
    )


def _pictures(folder: Path, suffixes: tuple[str, ...]) -> tuple[str, ...]:
    found = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    return tuple(str(path) for path in sorted(found, key=lambda path: numeric(path.name)))


def _masks(where: str, images: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """The mask of each picture, found by its name."""
    if not folder.is_dir():
        raise ScanError(f"{where}: the mask {folder} is a file; a folder of pictures needs a folder of masks.")
    masks = {Path(path).stem: path for path in _pictures(folder, LOSSLESS)}
    for image in images:
        if Path(image).stem not in masks:
            raise ScanError(f"{where}: {folder} holds no {' or '.join(LOSSLESS)} mask of the slice {Path(image).name}.")
    return tuple(masks[Path(image).stem] for image in images)


def _spacing(line: Line) -> tuple[float, float, float]:
    text = line.cells.get("spacing_mm", "")
    low, high = SPACING_MM
    try:
        spacing = tuple(float(number) for number in text.split(","))
    except ValueError:
        spacing = ()
    if len(spacing) != 3 or not all(low <= length <= high for length in spacing):
        raise ScanError(
            f"{line.where}: spacing_mm={text!r}; a folder of pictures needs three lengths from {low:g} to {high:g} mm."
        )
    return spacing

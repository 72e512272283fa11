"""List a release: its folders, its scans, what of them is left out, and the tables that lie beside the images."""

import csv
import os
import re
from collections.abc import Callable, Hashable, Iterable, Sized
from functools import partial
from pathlib import Path
from typing import Any

from absl import logging

from symnorm_jax.data.volumes import Scan, Volume, read_volume
from symnorm_jax.errors import ScanError

STANDINGS = ("healthy", "abnormal", "unlabelled")  # what is known of a person
DEPTH = 6  # folders below the root in which cases are looked for
MAX_TABLE_BYTES = 1 << 28
MAX_HEADER = 1 << 16  # letters
MAX_CELL = 2000  # letters; a path may have as many, and a message may repeat it


def scan_of(load: Callable[[], Volume], files: Iterable, extras: Iterable = (), *, standing: str, **about) -> Scan:
    """Build a Scan of one of STANDINGS, with `about` as it stands; masks of `extras` that are missing `load` names."""
    masks = tuple(str(mask) for mask in extras if Path(mask).is_file())
    about = {"session": ""} | about | {"healthy": standing == "healthy", "labelled": standing != "unlabelled"}
    return Scan(load=load, files=tuple(map(str, files)), extras=masks, **about)


def nifti_scan(image, lesion=None, brain=None, *, recipe: str, read: Callable = read_volume, **about) -> Scan:
    """Build the Scan of one image, or none, and masks, as `read` takes them; `recipe` says what else decides voxels."""
    paths = [str(path) if path else None for path in (image, lesion, brain)]
    recipe += f", lesion {bool(lesion)}, brain {bool(brain)}"
    return scan_of(partial(read, *paths), filter(None, paths[:1]), filter(None, paths[1:]), recipe=recipe, **about)


def refuse(where: str | Path, fault: object, sentence: str) -> None:
    """Raise ScanError with the `sentence` where there is a `fault`."""
    if fault:
        raise ScanError(f"{where}: {sentence}.")


def existing(root: str | Path, layout: str) -> Path:
    """Return `root` as a path. Raises ScanError, with the layout that was expected, where it is no folder."""
    path = Path(root)
    refuse(path, not path.is_dir(), f"not a folder; one that holds {layout} is needed")
    return path


def some(root: str | Path, found: Sized, what: str, layout: str) -> Sized:
    """Return what was `found`. Raises ScanError, with the layout that was expected, where it is nothing."""
    refuse(root, not found, f"0 {what}; the layout must be {layout}")
    return found


def numeric(name: str | Path) -> list:
    """Return a sort key under which `slice_9` comes before `slice_10`."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", str(name)))]


def case_folders(root: Path, is_case: Callable[[Path, list[str], list[str]], bool]) -> list[Path]:
    """Find, sorted, the folders from `root` down for which `is_case(path, folders, files)`; there is none in a case."""
    top, found = os.path.abspath(root), []
    for path, folders, files in os.walk(top, followlinks=True):
        if is_case(Path(path), folders, files):
            found.append(Path(path))
            folders.clear()
        elif path != top and os.path.relpath(path, top).count(os.sep) >= DEPTH - 1:
            folders.clear()
    return sorted(found)


def one_each(root: str | Path, found: list, key: Callable[[Any], Hashable], rank: Callable, what: str) -> list:
    """Keep of those that share a `key` the one of lowest `rank`, sorted by key; warn how many are left out."""
    first = {}
    for one in sorted(found, key=rank):
        first.setdefault(key(one), one)
    left_out(root, len(found) - len(first), f"of {len(found)} {what}")
    return [first[name] for name in sorted(first)]


def kept(root: str | Path, found: list, keep: Callable[[Any], Any], what: str) -> list:
    """Keep what `found` has for which `keep` is true; warn how many are left out."""
    those = [one for one in found if keep(one)]
    left_out(root, len(found) - len(those), f"of {len(found)} {what}")
    return those


def left_out(root: str | Path, count: int, what: str) -> None:
    """Warn that `count` of something were left out, if any were."""
    if count:
        logging.warning("%s: left out %d %s.", root, count, what)


def read_rows(path: str | Path, needed: tuple[str, ...], delimiter: str = ",") -> list[dict[str, str]]:
    """Read the rows of a table with a header, cells stripped. Raises ScanError where columns `needed` are missing."""
    path = Path(path)
    try:
        size = path.stat().st_size
        refuse(path, size > MAX_TABLE_BYTES, f"{size} bytes; at most {MAX_TABLE_BYTES} are allowed")
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream, delimiter=delimiter)
            columns = [column.strip() for column in table.fieldnames or ()]
            refuse(path, not set(needed) <= set(columns), f"columns {columns}; {', '.join(needed)} are needed")
            return [{key.strip(): _clean(path, cell or "") for key, cell in row.items() if key} for row in table]
    except FileNotFoundError:
        raise ScanError(f"{path}: no such file; a table with the columns {', '.join(needed)} is needed.") from None
    except (OSError, UnicodeError, csv.Error) as error:
        raise ScanError(f"{path}: cannot be read as a table ({error}).") from None


def read_tables(paths: Iterable[Path], needed: tuple[str, ...], delimiter: str = ",") -> list[tuple[Path, dict]]:
    """Read the rows, each with its table's path, of those tables whose header, by `column_key`, holds all `needed`."""
    tables, found = [path for path in sorted(set(paths)) if set(needed) <= set(_header(path, delimiter))], []
    for path in tables:
        rows = [{column_key(column): cell for column, cell in row.items()} for row in read_rows(path, (), delimiter)]
        more = rows and not set(needed) <= set(rows[0])
        refuse(path, more, "the header does not end with its line; check its quotation marks")
        found += [(path, row) for row in rows]
    return found


def tables_near(root: Path) -> list[Path]:
    """Find the CSV files in `root`, in a folder of it or beside it."""
    return [*root.glob("*.csv"), *root.glob("*/*.csv"), *root.absolute().parent.glob("*.csv")]


def participants(path: Path, needed: tuple[str, ...] = ()) -> dict[str, dict]:
    """Read what a `participants.tsv` knows of each participant; nothing where there is no file."""
    rows = read_rows(path, ("participant_id", *needed), "\t") if path.is_file() else []
    return {row.pop("participant_id"): cells(row, *row) for row in rows}


def cells(row: dict[str, str], *columns: str) -> dict[str, str]:
    """Return those cells of `columns` that are filled."""
    return {column: row[column] for column in columns if row.get(column)}


def column_key(column: str) -> str:
    """Return a column's lower-case letters and digits: `Image Data ID` and R's `Image_Data_ID` are `imagedataid`."""
    return "".join(letter for letter in column.lower() if letter.isalnum())


def _header(path: Path, delimiter: str) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return list(map(column_key, next(csv.reader([stream.readline(MAX_HEADER)], delimiter=delimiter))))
    except (OSError, UnicodeError, csv.Error, StopIteration):  # some other file, and none of ours
        return []


def _clean(path: Path, cell: str) -> str:
    """Put a cell on one line. Raises ScanError where it is too long."""
    refuse(path, len(cell) > MAX_CELL, f"a cell of {len(cell)} letters; at most {MAX_CELL} are allowed")
    return " ".join(line.strip() for line in re.split(r"[\r\n]+", cell.strip()))

"""Read the tables that lie beside the images."""

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from symnorm_jax.errors import ScanError

MAX_TABLE_BYTES = 1 << 28
MAX_HEADER = 1 << 16  # letters
MAX_CELL = 2000  # letters; a path may have as many, and a message may repeat it


def read_rows(path: str | Path, needed: tuple[str, ...], delimiter: str = ",") -> list[dict[str, str]]:
    """Read the rows of a table with a header, cells stripped. Raises ScanError where columns `needed` are missing."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise ScanError(f"{path}: {path.stat().st_size} bytes; at most {MAX_TABLE_BYTES} are allowed.")
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream, delimiter=delimiter)
            columns = [column.strip() for column in table.fieldnames or ()]
            if not set(needed) <= set(columns):
                raise ScanError(f"{path}: columns {columns}; {', '.join(needed)} are needed.")
            return [{key.strip(): _clean(path, cell or "") for key, cell in row.items() if key} for row in table]
    except FileNotFoundError:
        raise ScanError(f"{path}: no such file; a table with the columns {', '.join(needed)} is needed.") from None
    except (OSError, UnicodeError, csv.Error) as error:
        raise ScanError(f"{path}: cannot be read as a table ({error}).") from None


def read_tables(paths: Iterable[Path], needed: tuple[str, ...], delimiter: str = ",") -> list[tuple[Path, dict]]:
    """Read the rows of those tables whose header has the columns `needed`, each row with its table's path.

    Columns are known by their `column_key`. Raises ScanError where such a header goes on in a second line.
    """
    tables, found = [path for path in sorted(set(paths)) if set(needed) <= set(_header(path, delimiter))], []
    for path in tables:
        rows = [{column_key(column): cell for column, cell in row.items()} for row in read_rows(path, (), delimiter)]
        if rows and not set(needed) <= set(rows[0]):
            raise ScanError(f"{path}: the header does not end with its line; check its quotation marks.")
        found += [(path, row) for row in rows]
    return found


def tables_near(root: Path) -> list[Path]:
    """Find the CSV files in `root`, in a folder of it or beside it."""
    return [*root.glob("*.csv"), *root.glob("*/*.csv"), *root.absolute().parent.glob("*.csv")]


def participants(path: Path, needed: tuple[str, ...] = (), missing: tuple[str, ...] = ("",)) -> dict[str, dict]:
    """Read what a `participants.tsv` knows of each participant; nothing where there is no file."""
    rows = read_rows(path, ("participant_id", *needed), "\t") if path.is_file() else []
    return {row.pop("participant_id"): {key: cell for key, cell in row.items() if cell not in missing} for row in rows}


def cells(row: dict[str, str], *columns: str) -> dict[str, str]:
    """Return those cells of `columns` that are filled."""
    return {column: row[column] for column in columns if row.get(column)}


def column_key(column: str) -> str:
    """Return a column's lower-case letters and digits: `Image Data ID` and R's `Image_Data_ID` are `imagedataid`."""
    return "".join(letter for letter in column.lower() if letter.isalnum())


def _header(path: Path, delimiter: str) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            columns = next(csv.reader([stream.readline(MAX_HEADER)], delimiter=delimiter))
            return [column_key(column) for column in columns]
    except (OSError, UnicodeError, csv.Error, StopIteration):  # some other file, and none of ours
        return []


def _clean(path: Path, cell: str) -> str:
    """Put a cell on one line. Raises ScanError where it is too long."""
    if len(cell) > MAX_CELL:
        raise ScanError(f"{path}: a cell of {len(cell)} letters; at most {MAX_CELL} are allowed.")
    return " ".join(line.strip() for line in re.split(r"[\r\n]+", cell.strip()))

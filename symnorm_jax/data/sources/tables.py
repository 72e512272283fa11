"""Read the tables that lie beside images. A table that contradicts itself is refused: no row is the better one."""

import csv
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from symnorm_jax.data.sources.listing import one_form, refuse
from symnorm_jax.errors import ScanError

MAX_TABLE_BYTES = 1 << 28
MAX_HEADER = 1 << 16  # letters
MAX_CELL = 2000  # letters; a path may have as many, and a message may repeat it


def read_rows(path: str | Path, needed: tuple[str, ...], delimiter: str = ",") -> list[dict[str, str]]:
    """Read the rows of a table with a header, cells stripped. Raises ScanError where columns `needed` are missing."""
    path = Path(path)
    try:
        size = path.stat().st_size
        refuse(path, size > MAX_TABLE_BYTES, f"{size} bytes; at most {MAX_TABLE_BYTES} are allowed")
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream, delimiter=delimiter)
            columns = [column.strip() for column in table.fieldnames or ()]
            twice = [column for column, count in Counter(columns).items() if count > 1 and column]
            refuse(path, twice, f"columns {columns}; each name may come once, {', '.join(twice)} comes more often")
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


def participants(path: Path, needed: tuple[str, ...] = (), same: tuple[str, ...] = (), name=str) -> dict[str, dict]:
    """Read what a `participants.tsv` knows of each participant, called by `name`, a function of the cell.

    There is nothing where there is no file. Raises ScanError, see `one_row_each`.
    """
    rows = read_rows(path, ("participant_id", *needed), "\t") if path.is_file() else []
    known = [
        {name: cell for name, cell in row.items() if cell.lower() != "n/a" or name == "participant_id"} for row in rows
    ]
    known = [row | {"participant_id": name(one_form(row["participant_id"]))} for row in known]
    return one_row_each(path, known, "participant_id", same)


def columns_of(path: Path, delimiter: str = ",") -> list[str]:
    """List the columns of a table that `read_rows` reads."""
    return [column for row in read_rows(path, (), delimiter)[:1] for column in row]


def one_row_each(path: Path, rows: Iterable[dict], key: str, same: tuple[str, ...] = ()) -> dict[str, dict]:
    """Join rows of one `key`; a cell in which they differ is dropped. ScanError where it is of a column of `same`."""
    found, doubtful = {}, set()
    for row in rows:
        name = row[key]
        known = found.setdefault(name, {})
        for column, cell in cells(row, *row.keys() - {key}).items():
            if known.setdefault(column, cell) != cell:
                two = f"{name} has the {column} {known[column]!r} in one row and {cell!r} in another; one is allowed"
                refuse(path, column in same, two)
                doubtful.add((name, column))
    for name, column in doubtful:
        del found[name][column]
    return found


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

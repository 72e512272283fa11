"""What the words of ADNI's tables and folders say of a person, and the tables beside the images that hold them.

MCI, be it early or late, stable or progressive, and a subjective complaint (SMC) are neither healthy nor dementia:
the option `mci` decides. A normal visit (CN) of someone who is MCI or AD at another one is not healthy either: it is
left out with `mci="drop"`, and else scored and not judged.
"""

import csv
from collections.abc import Iterable
from pathlib import Path

from absl import logging

from symnorm_jax.data.sources.listing import read_rows
from symnorm_jax.errors import ScanError

CHOICES = ("abnormal", "drop", "keep")  # what becomes of MCI; kept, it is scored and not judged
WORDS = {
    "CN": ("CN", "NC", "NL", "NORMAL", "CONTROL"),
    "MCI": ("MCI", "EMCI", "LMCI", "SMCI", "PMCI", "SMC", "CI"),
    "AD": ("AD", "DEMENTIA"),
}
MAX_HEADER = 1 << 16

_KIND = {word: kind for kind, words in WORDS.items() for word in words}


def kind_of(word: str) -> str | None:
    """`CN`, `MCI` or `AD`; None for a word that says none of them, such as `Patient`."""
    return _KIND.get(word.strip().upper())


def standing(kind: str, of_person: set[str], mci: str) -> tuple[bool, bool] | None:
    """Whether a scan is healthy and whether it is labelled; None where it is to be left out.

    `kind` is that of the scan, `of_person` holds those of all listed visits of the person.
    """
    if kind == "AD":
        return False, True
    if kind == "CN" and of_person == {"CN"}:
        return True, True
    if mci == "drop":
        return None
    return False, kind == "MCI" and mci == "abnormal"


def read_tables(paths: Iterable[Path], needed: tuple[str, ...], delimiter: str = ",") -> list[tuple[Path, dict]]:
    """The rows of those tables whose header has the columns `needed`, each with the table's path.

    Columns are known by their lower-case letters and digits: `Image Data ID` and R's `Image_Data_ID` are `imagedataid`.
    Raises ScanError where such a header goes on in a second line.
    """
    tables, found = [path for path in sorted(set(paths)) if set(needed) <= set(_header(path, delimiter))], []
    for path in tables:
        rows = [{plain(column): cell for column, cell in row.items()} for row in read_rows(path, (), delimiter)]
        if rows and not set(needed) <= set(rows[0]):
            raise ScanError(f"{path}: the header does not end with its line; check its quotation marks.")
        found += [(path, row) for row in rows]
    return found


def left_out(root: Path, count: int, what: str) -> None:
    """Warn that `count` of something were left out, if any were."""
    if count:
        logging.warning("%s: left out %d %s.", root, count, what)


def plain(column: str) -> str:
    """The lower-case letters and digits of a column's name."""
    return "".join(letter for letter in column.lower() if letter.isalnum())


def _header(path: Path, delimiter: str) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return [plain(column) for column in next(csv.reader([stream.readline(MAX_HEADER)], delimiter=delimiter))]
    except (OSError, UnicodeError, csv.Error, StopIteration):  # some other file, and none of ours
        return []

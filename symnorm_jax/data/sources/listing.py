"""What every source does to list a release: folders, cases kept in a folder each, and tables beside the images."""

import csv
import os
import re
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from absl import logging

from symnorm_jax.errors import ConfigError, ScanError

MAX_TABLE_BYTES = 1 << 28
DEPTH = 6  # folders below the root in which cases are looked for
MAX_CELL = 2000  # letters; a path may have as many, and a message may repeat it


def existing(root: str | Path, layout: str) -> Path:
    """`root` as a path. Raises ScanError, with the layout that was expected, where it is no folder."""
    path = Path(root)
    if not path.is_dir():
        raise ScanError(f"{path}: not a folder; one that holds {layout} is needed.")
    return path


def nothing_found(root: str | Path, what: str, layout: str) -> ScanError:
    """The error for a folder that holds none of `what`."""
    return ScanError(f"{root}: 0 {what}; the layout must be {layout}.")


def one_of(key: str, value: str, allowed) -> None:
    """Raise ConfigError unless the source's option `key` has one of the allowed values."""
    if value not in allowed:
        raise ConfigError(f"data.options.{key}={value!r}; one of {sorted(allowed)} is allowed.")


def numeric(name: str) -> list:
    """Sort key under which `slice_9` comes before `slice_10`."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def read_rows(path: str | Path, needed: tuple[str, ...], delimiter: str = ",") -> list[dict[str, str]]:
    """The lines of a table with a header, its cells stripped. Raises ScanError where columns `needed` are missing."""
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


def _clean(path: Path, cell: str) -> str:
    """A cell on one line. Raises ScanError where it is too long."""
    if len(cell) > MAX_CELL:
        raise ScanError(f"{path}: a cell of {len(cell)} letters; at most {MAX_CELL} are allowed.")
    return " ".join(line.strip() for line in re.split(r"[\r\n]+", cell.strip()))


def case_folders(root: Path, is_case: Callable[[Path, list[str], list[str]], bool]) -> list[Path]:
    """The absolute paths, sorted, of `root` and of the folders below it for which `is_case(path, folders, files)`.

    Nothing is looked for inside a case.
    """
    top, found = os.path.abspath(root), []
    for path, folders, files in os.walk(top, followlinks=True):
        if is_case(Path(path), folders, files):
            found.append(Path(path))
            folders.clear()
        elif path != top and os.path.relpath(path, top).count(os.sep) >= DEPTH - 1:
            folders.clear()
    return sorted(found)


def one_each(root: str | Path, cases: list, key: Callable[[Any], Hashable], rank: Callable[[Any], Any]) -> list:
    """Of the cases that share a `key`, the one of lowest `rank`; a warning counts those left out."""
    first = {}
    for case in sorted(cases, key=rank):
        first.setdefault(key(case), case)
    if len(first) < len(cases):
        copies = len(cases) - len(first)
        logging.warning("%s: left out %d of %d cases, each another copy of one.", root, copies, len(cases))
    return [first[name] for name in sorted(first)]


def with_channel(root: str | Path, cases: list, has: Callable[[Any], Any], channel: str) -> list:
    """The cases for which `has` is true; a warning counts those without the channel."""
    kept = [case for case in cases if has(case)]
    if len(kept) < len(cases):
        logging.warning("%s: left out %d of %d cases without %s.", root, len(cases) - len(kept), len(cases), channel)
    return kept

"""Releases that keep every case in a folder of its own, at whatever depth: to find the folders, and each case once."""

import os
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from absl import logging

DEPTH = 6  # folders below the root in which cases are looked for


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

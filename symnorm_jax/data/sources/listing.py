"""List a release: its folders, its scans, and what of them is left out."""

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


def scan_of(load: Callable[[], Volume], files: Iterable, extras: Iterable = (), *, standing: str, **about) -> Scan:
    """Build the Scan of `files`, which `load` reads. `standing` is one of STANDINGS, `about` all else that a Scan has.

    Of the masks `extras` those that exist are kept: `load` names one that is missing.
    """
    masks = tuple(str(mask) for mask in extras if Path(mask).is_file())
    about = {"session": ""} | about | {"healthy": standing == "healthy", "labelled": standing != "unlabelled"}
    return Scan(load=load, files=tuple(map(str, files)), extras=masks, **about)


def nifti_scan(image, lesion=None, brain=None, *, recipe: str, read: Callable = read_volume, **about) -> Scan:
    """Build the Scan of one file and its masks, which `read(image, lesion, brain)` reads; of no image, without files.

    `recipe` names the source's format and whatever else decides the voxels; which masks there are is added.
    """
    paths = [str(path) if path else None for path in (image, lesion, brain)]
    recipe += f", lesion {bool(lesion)}, brain {bool(brain)}"
    return scan_of(partial(read, *paths), filter(None, paths[:1]), filter(None, paths[1:]), recipe=recipe, **about)


def existing(root: str | Path, layout: str) -> Path:
    """Return `root` as a path. Raises ScanError, with the layout that was expected, where it is no folder."""
    path = Path(root)
    if not path.is_dir():
        raise ScanError(f"{path}: not a folder; one that holds {layout} is needed.")
    return path


def some(root: str | Path, found: Sized, what: str, layout: str) -> Sized:
    """Return what was `found`. Raises ScanError, with the layout that was expected, where it is nothing."""
    if not found:
        raise ScanError(f"{root}: 0 {what}; the layout must be {layout}.")
    return found


def numeric(name: str | Path) -> list:
    """Return a sort key under which `slice_9` comes before `slice_10`."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", str(name)))]


def case_folders(root: Path, is_case: Callable[[Path, list[str], list[str]], bool]) -> list[Path]:
    """Find `root` and the folders below it for which `is_case(path, folders, files)`: absolute paths, sorted.

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


def one_each(root: str | Path, found: list, key: Callable[[Any], Hashable], rank: Callable, what: str) -> list:
    """Keep of those that share a `key` the one of lowest `rank`, sorted by key; warn how many are left out."""
    first = {}
    for one in sorted(found, key=rank):
        first.setdefault(key(one), one)
    left_out(root, len(found) - len(first), f"of {len(found)} {what}")
    return [first[name] for name in sorted(first)]


def kept(root: str | Path, found: list, keep: Callable[[Any], Any], what: str) -> list:
    """Keep those of `found` for which `keep` is true; warn how many are left out."""
    those = [one for one in found if keep(one)]
    left_out(root, len(found) - len(those), f"of {len(found)} {what}")
    return those


def left_out(root: str | Path, count: int, what: str) -> None:
    """Warn that `count` of something were left out, if any were."""
    if count:
        logging.warning("%s: left out %d %s.", root, count, what)

"""List a release: its folders, its scans, and what of them is left out."""

import os
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Sized
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from absl import logging

from symnorm_jax.data.volumes import Scan, Volume, read_volume
from symnorm_jax.errors import ScanError

STANDINGS = ("healthy", "abnormal", "unlabelled")  # what is known of a person
DEPTH = 6  # folders below the root in which cases are looked for
# Words of names that say that a file is a mask or a label map.
MASK = re.compile(
    r"(brain)?masks?|msk|[dp]?segs?|probsegs?|pveseg|segmentations?|labels?|labelmap|(t1)?lesions?|rois?|parc|parcellation"
    r"|aseg|aparc|ribbon|dlmuse"
)


def scan_of(load: Callable[[], Volume], files: Iterable, extras: Iterable = (), *, standing: str, **about) -> Scan:
    """Build a Scan of one of STANDINGS, with `about` as it stands; masks of `extras` that are missing `load` names."""
    masks = tuple(str(mask) for mask in extras if Path(mask).is_file())
    about = {"session": ""} | about | {"healthy": standing == "healthy", "labelled": standing != "unlabelled"}
    about |= {key: one_form(about[key]) for key in ("patient", "session")}
    about["groups"] = {one_form(name): one_form(cell) for name, cell in about.get("groups", {}).items()}
    return Scan(load=load, files=tuple(map(str, files)), extras=masks, **about)


def nifti_scan(image, lesion=None, brain=None, *, recipe: str, read: Callable = read_volume, **about) -> Scan:
    """Build the Scan of one image, or none, and masks, as `read` takes them; `recipe` says what else decides voxels."""
    paths = [str(path) if path else None for path in (image, lesion, brain)]
    about |= {"recipe": f"{recipe}, lesion {bool(lesion)}, brain {bool(brain)}", "drawn": bool(lesion)}
    return scan_of(partial(read, *paths), filter(None, paths[:1]), filter(None, paths[1:]), **about)


def one_form(text: str) -> str:
    """Write a name in Unicode's composed form: file systems and keyboards write an umlaut in two ways."""
    return unicodedata.normalize("NFC", text)


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


def walk(root: str | Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk folders from `root` down as os.walk does, through links too; none is gone through within itself."""
    within = {str(root): (os.path.realpath(root),)}  # real folders from the root to each
    for path, folders, files in os.walk(str(root), followlinks=True):
        chain = within.pop(path)
        real = {name: os.path.realpath(os.path.join(path, name)) for name in folders}
        folders[:] = sorted(name for name in folders if real[name] not in chain)
        yield Path(path), folders, files
        within |= {os.path.join(path, name): (*chain, real[name]) for name in folders}


def files_below(root: str | Path) -> list[Path]:
    """List, sorted, all files from `root` down, through links too."""
    return sorted(path / name for path, _, files in walk(root) for name in files)


def refuse_gaps(folder: str | Path, slices: list[str]) -> None:
    """Raise ScanError where most `slices`, in order, are named alike but for a number and one is not, or is missing."""
    names = [re.fullmatch(r"(.*?)(\d*)(\D*)", Path(name).stem).groups() for name in slices]
    forms = [(start, end) for start, number, end in names if number]
    usual = max(forms, key=forms.count, default=None)
    if forms.count(usual) <= max(2, len(slices) / 2):
        return
    odd = [
        name for name, (start, number, end) in zip(slices, names, strict=True) if not number or (start, end) != usual
    ]
    told = "is named otherwise than most slices; all must be named alike but for a number"
    refuse(folder, odd, f"{', '.join(odd[:1])} {told}")
    steps = [int(later[1]) - int(name[1]) for name, later in pairwise(names)]
    widest = steps.index(max(steps))
    gap = f"{slices[widest]} is followed by {slices[widest + 1]}, others come in steps of {min(steps)}"
    refuse(folder, len(set(steps)) > 1, f"{gap}; slices without a gap are needed, each once")


def case_folders(root: Path, is_case: Callable[[Path, list[str], list[str]], bool]) -> list[Path]:
    """Find, sorted, the folders from `root` down for which `is_case(path, folders, files)`; there is none in a case."""
    top, found = os.path.abspath(root), []
    for path, folders, files in walk(top):
        if is_case(path, folders, files):
            found.append(path)
            folders.clear()
        elif str(path) != top and os.path.relpath(path, top).count(os.sep) >= DEPTH - 1:
            folders.clear()
    return sorted(found)


def mask_like(path: Path) -> bool:
    """Tell whether a file is an image that is a mask or label map by its name."""
    words = re.split("[^a-z0-9]+", path.name.lower())
    return path.name.lower().endswith((".nii", ".nii.gz", ".mgz")) and any(map(MASK.fullmatch, words))


def unused(root: str | Path, masks: Iterable[Path], used: Iterable[str | Path]) -> None:
    """Warn of `masks` that are not `used`, with the name of the first."""
    rest = sorted({str(path) for path in masks} - set(map(str, used)))
    left_out(root, len(rest), f"files that are masks by their names and fit no scan, as {rest[0]}" if rest else "")


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

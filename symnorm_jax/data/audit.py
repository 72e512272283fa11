"""The leakage audit: a patient, a file, a planted lesion, a scan or a slice in two splits ends a run in time."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from symnorm_jax.data.fingerprint import fingerprint, likeness
from symnorm_jax.data.manifest import SPLITS
from symnorm_jax.errors import LeakageError

BLOCK = 256  # fingerprints compared with all others at a time: 100,000 slices then take 0.6 GB
STACK = 6  # slices from which a scan is also compared as a whole
CANDIDATES = {2: 1, 3: 3}  # those most like a slice or a scan, which are aligned with it
UNLIKE = 0.4  # a likeness before alignment from which none makes a copy
UNITS = {"patient": "patient", "sha256": "source file with SHA-256", "planted_sha256": "planted lesion with SHA-256"}
Read = Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray]]


def audit(rows: pd.DataFrame, read: Read, limit: float) -> None:
    """Raise LeakageError if a patient, a file, a planted lesion or copies of a scan or of a slice are in two splits.

    `read` gives the images `[N, *S]` and brains, bool, of the rows of one scan. Scans are copies where their `likeness`
    is above `limit`; slices, which have less to be told apart by, where theirs is nearer than half as far from 1. A
    limit of 1 or more looks for neither.
    """
    used = rows[rows.split.isin(SPLITS)].reset_index(drop=True)
    for column, what in UNITS.items():
        splits = used[used[column] != ""].groupby(column).split.nunique()
        for name in splits.index[splits > 1]:
            where = sorted(used.split[used[column] == name].unique())
            raise LeakageError(f"{what} {name} stands in the splits {where}; every one must stand in a single split.")
    if used.split.nunique() > 1:
        audit_copies(used, read, limit)


def audit_copies(used: pd.DataFrame, read: Read, limit: float) -> None:
    """Raise LeakageError if a copy of a scan or of a slice stands in two splits of `used`, as `audit` looks for it."""
    if limit < 1:
        scans, slices = fingerprints(used, read)
        _refuse_copies(used, *scans, limit, limit)
        _refuse_copies(used, *slices, (1 + limit) / 2, limit)


def audit_source(rows: pd.DataFrame, theirs: pd.DataFrame, run: str, same_people: bool) -> None:
    """Raise LeakageError where what the run `run`, started from, has learned or tuned on is to be judged here.

    `theirs` is its manifest. Files, also of planted lesions, are known by their hash and, with `same_people`, patients
    by their names.
    """
    for used, judged in (("train", ("val", "test")), ("val", ("test",))):
        learned, mine = theirs[theirs.split == used], rows[rows.split.isin(judged)]
        for column in (name for name in UNITS if same_people or name != "patient"):
            shared = mine[mine[column].isin(learned[column]) & (mine[column] != "")]
            if len(shared):
                first = shared.iloc[0]
                there = f"stands in the {first.split} split and in the {used} split of init_from={run}"
                raise LeakageError(f"{column} {first[column]} {there}; what a source has seen must not be judged.")


def fingerprints(used: pd.DataFrame, read: Read) -> tuple[tuple[list[int], list], tuple[list[int], list]]:
    """Draw the fingerprints of scans and of slices; with each kind, the rows they are of, a scan's first."""
    scans, slices = ([], []), ([], [])
    for _, rows in used.groupby("store", sort=False):
        images, brains = read(rows)
        if images.ndim == 3:
            slices[0].extend(rows.index)
            slices[1].extend(map(fingerprint, images, brains))
        volume = images.ndim == 4
        if volume or len(images) >= STACK:
            scans[0].append(rows.index[0])
            scans[1].append(fingerprint(*(one[0] if volume else np.moveaxis(one, 0, -1) for one in (images, brains))))
    return scans, slices


def _refuse_copies(used: pd.DataFrame, rows: list[int], prints: list[np.ndarray], limit: float, asked: float) -> None:
    if not rows:
        return
    prints, split = np.stack(prints), used.split[rows].to_numpy()
    for later, earlier in (("val", ("train",)), ("test", ("train", "val"))):
        here, there = np.flatnonzero(split == later), np.flatnonzero(np.isin(split, earlier))
        for start in range(0, len(here), BLOCK):
            for one, other, found in likeliest(prints, here[start : start + BLOCK], there, limit):
                if found > limit:
                    whole = prints.ndim == 4
                    names = " and ".join(_name(used.loc[rows[i]], whole) for i in (one, other))
                    told = f"{names} have a likeness of {found:.3f}, above {limit:g}"
                    raise LeakageError(f"{told}; copies by data.duplicate={asked:g} must stand in a single split.")


def likeliest(prints: np.ndarray, here: np.ndarray, there: np.ndarray, limit: float) -> Iterator[tuple]:
    """Find for each of the fingerprints `[N, *GRID]` `here` the candidates `there`, or their mirror images.

    Yields the indices of both and their likeness, found by alignment where it is not above `limit` without.
    """
    flat, count = prints.reshape(len(prints), -1), min(CANDIDATES[prints.ndim - 1], len(there))
    views = prints[here], prints[here, ::-1]
    alike = np.hstack([view.reshape(len(here), -1) @ flat[there].T for view in views])
    for i, places in enumerate(np.argpartition(alike, -count, axis=1)[:, -count:] if count else ()):
        for place in places:
            mirrored, j = divmod(int(place), len(there))
            found = float(alike[i, place])
            if UNLIKE < found <= limit:
                found = likeness(views[mirrored][i], prints[there[j]])
            yield here[i], there[j], found


def _name(row: pd.Series, whole: bool) -> str:
    scan = f"{row.patient}/{row.session}" if row.session else row.patient
    return f"the scan {scan} ({row.split})" if whole else f"slice {row.slice} of {scan} ({row.split})"

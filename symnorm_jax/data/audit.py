"""The leakage audit: a patient, a file or a picture that stands in two splits ends a run before it learns."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from symnorm_jax.data.manifest import SPLITS
from symnorm_jax.errors import LeakageError

THUMBNAIL = 24  # pixels a side: fine enough to tell people apart, coarse enough to see through re-encoding
BLOCK = 2048  # samples compared with all others at a time


def audit(rows: pd.DataFrame, thumbnails: Callable[[pd.DataFrame], np.ndarray], limit: float) -> None:
    """Raise LeakageError if a patient, a source file or a near-duplicate sample stands in two splits.

    Samples are copies where their `thumbnails`, unit vectors `[N, F]`, or mirrored ones correlate above `limit`.
    """
    used = rows[rows.split.isin(SPLITS)].reset_index(drop=True)
    for column, what in (("patient", "patient"), ("sha256", "source file with SHA-256")):
        splits = used.groupby(column).split.nunique()
        for name in splits.index[splits > 1]:
            where = sorted(used.split[used[column] == name].unique())
            raise LeakageError(f"{what} {name} stands in the splits {where}; every one must stand in a single split.")
    vectors = thumbnails(used)
    for later, earlier in (("val", ("train",)), ("test", ("train", "val"))):
        here, there = np.flatnonzero(used.split == later), np.flatnonzero(used.split.isin(earlier))
        _refuse_duplicates(used, vectors, here, there, limit)


def audit_source(rows: pd.DataFrame, theirs: pd.DataFrame, run: str, same_people: bool) -> None:
    """Raise LeakageError where what the run `run`, started from, has learned or tuned on is to be judged here.

    `theirs` is its manifest. Files are known by their hash and, with `same_people`, patients by their names.
    """
    for used, judged in (("train", ("val", "test")), ("val", ("test",))):
        learned, mine = theirs[theirs.split == used], rows[rows.split.isin(judged)]
        for column in ("sha256", "patient") if same_people else ("sha256",):
            shared = mine[mine[column].isin(learned[column])]
            if len(shared):
                first = shared.iloc[0]
                there = f"stands in the {first.split} split and in the {used} split of init_from={run}"
                raise LeakageError(f"{column} {first[column]} {there}; what a source has seen must not be judged.")


def _refuse_duplicates(used: pd.DataFrame, vectors: np.ndarray, here, there, limit: float) -> None:
    mirrored = vectors.reshape(-1, THUMBNAIL, THUMBNAIL)[:, ::-1].reshape(vectors.shape)
    for start in range(0, len(here), BLOCK):
        rows = here[start : start + BLOCK]
        for view in (vectors, mirrored):
            likeness = view[rows] @ vectors[there].T
            i, j = np.unravel_index(likeness.argmax(), likeness.shape)
            if likeness[i, j] > limit:
                both = (used.loc[rows[i]], used.loc[there[j]])
                names = " and ".join(f"slice {one.slice} of {one.patient} ({one.split})" for one in both)
                found = f"{names} correlate {likeness[i, j]:.4f}; near-duplicates above data.duplicate={limit}"
                raise LeakageError(f"{found} must stand in a single split.")


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Reduce an image `[X, Y]` to a unit vector `[THUMBNAIL ** 2]`, free of brightness and contrast."""
    edges = [np.linspace(0, side, THUMBNAIL + 1).astype(int) for side in image.shape]
    sums = np.add.reduceat(np.add.reduceat(image.astype(np.float32), edges[0][:-1], 0), edges[1][:-1], 1)
    widths = [np.maximum(np.diff(one), 1) for one in edges]  # an image of fewer pixels repeats some
    small = (sums / np.outer(*widths)).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-12)

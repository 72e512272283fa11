"""The table of samples, the split by patient, and the audit that refuses to train on a leaking one.

One row per slice; a scan that could not be used has one row with `split="excluded"` and the reason.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from symnorm_jax.errors import ConfigError, LeakageError

SPLITS = ("train", "val", "test")
UNLABELLED = "unlabelled"  # a split of its own: scored, and neither trained on nor judged
TEXTS = ("patient", "session", "source", "sha256", "store", "label", "split", "exclusion", "flag")
NUMBERS = (
    *("slice", "position", "record", "records_in_scan", "slices_left_out"),
    *("brain_mm2", "lesion_mm2", "roll", "yaw", "tilt_error", "off_centre_mm", "mirror_similarity"),
)
COLUMNS = ("index", "healthy_person", *TEXTS, *NUMBERS)  # a source's groups must have other names
THUMBNAIL = 24  # pixels a side: fine enough to tell people apart, coarse enough to see through re-encoding
TRAIN_ON = ("healthy_people", "lesion_free_slices")


def read_table(path: Path, texts: Iterable[str] = TEXTS) -> pd.DataFrame:
    """A table made from a manifest: names, the columns `texts`, stay text however they look; blank numbers are NaN."""
    numbers = dict.fromkeys(NUMBERS, [""])
    return pd.read_csv(
        path, index_col="index", dtype=dict.fromkeys(texts, str), keep_default_na=False, na_values=numbers
    )


def read_manifest(path: Path) -> pd.DataFrame:
    """A manifest; groups stay text too, so that the site `002` does not become 2."""
    columns = pd.read_csv(path, nrows=0).columns
    return read_table(path, [name for name in columns if name in TEXTS or name not in COLUMNS])


def group_columns(rows: pd.DataFrame) -> list[str]:
    """The columns of a manifest that its source gave as groups of people, such as site or age."""
    return [name for name in rows if name not in COLUMNS]


def assign_splits(rows: pd.DataFrame, fractions: tuple[float, float, float], train_on: str, seed: int) -> pd.Series:
    """The split of every row: whole patients, drawn from `seed` within those with and those without disease.

    With `train_on="healthy_people"` diseased people are of no use in training and are shared between the other two
    splits. Rows that are excluded or unlabelled stay so. Rows whose `split` is the release's own `test` stay, and those
    of its own `train` are shared between train and val. Raises ConfigError where a choice is unknown or a split would
    be empty.
    """
    if train_on not in TRAIN_ON:
        raise ConfigError(f"data.train_on={train_on!r}; one of {sorted(TRAIN_ON)} is allowed.")
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ConfigError(f"data.split={tuple(fractions)}; three positive shares that sum to 1 are allowed.")
    rng, split = np.random.default_rng(seed), rows.split.copy()
    for own, shares in (("", fractions), ("train", (*fractions[:2], 0))):
        part = rows[rows.split == own]
        split[part.index] = part.patient.map(_share_out(part, shares, train_on, rng))
    if not split.isin(SPLITS).any():
        raise ConfigError(f"nobody is labelled: all {rows.patient.nunique()} patients are {UNLABELLED} or excluded.")
    for name in SPLITS:
        if not (split == name).any():
            patients = rows.patient[split.isin(SPLITS)].nunique()
            raise ConfigError(f"the {name} split is empty: {patients} patients cannot be shared {tuple(fractions)}.")
    return split


def _share_out(rows: pd.DataFrame, fractions: tuple[float, ...], train_on: str, rng) -> dict[str, str]:
    """The split of each patient, the diseased and the others each shared by `fractions`."""
    of_patient, diseased = {}, ~rows.groupby("patient").healthy_person.all()
    for group in (False, True):
        patients = rng.permutation(sorted(diseased.index[diseased == group]))
        shares = (0, *fractions[1:]) if group and train_on == "healthy_people" else fractions
        ends = np.cumsum(np.asarray(shares) / sum(shares))
        places = np.searchsorted(ends, (np.arange(len(patients)) + 0.5) / max(len(patients), 1))
        of_patient |= {patient: SPLITS[place] for patient, place in zip(patients, places, strict=True)}
    return of_patient


def trainable(rows: pd.DataFrame, train_on: str) -> pd.Series:
    """Which rows of the table a network may learn from, bool."""
    healthy = (rows.split == "train") & (rows.label == "healthy")
    return healthy & rows.healthy_person if train_on == "healthy_people" else healthy


def few(rows: pd.DataFrame, patients: int, seed: int, key: str) -> pd.DataFrame:
    """The rows of `patients` of a table's patients, drawn from `seed`; of all for 0. `key` is where the number stands.

    Fewer patients are always among more. Raises ConfigError where there are not as many.
    """
    everyone = sorted(rows.patient.unique())
    if not 0 <= patients <= len(everyone):
        raise ConfigError(f"{key}={patients}; 0 to {len(everyone)}, all those to train on, are allowed.")
    chosen = np.random.default_rng(seed).permutation(everyone)[: patients or None]
    return rows[rows.patient.isin(chosen)]


def audit(rows: pd.DataFrame, thumbnails: Callable[[pd.DataFrame], np.ndarray], limit: float) -> None:
    """Raise LeakageError if a patient, a source file or a near-duplicate slice stands in two splits.

    `thumbnails` gives `[N, F]` unit vectors of a table's slices. Slices of two splits whose vectors, or mirrored
    vectors, correlate above `limit` are taken for copies of one another.
    """
    used = rows[rows.split.isin(SPLITS)].reset_index(drop=True)
    for column, what in (("patient", "patient"), ("sha256", "source file with SHA-256")):
        splits = used.groupby(column).split.nunique()
        if (splits > 1).any():
            name = splits.index[splits > 1][0]
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
                raise LeakageError(
                    f"{column} {first[column]} stands in the {first.split} split and in the {used} split of "
                    f"init_from={run}; what a source has seen must not be judged."
                )


def _refuse_duplicates(used, vectors, here, there, limit, block: int = 2048) -> None:
    side = int(np.sqrt(vectors.shape[1]))
    mirrored = vectors.reshape(-1, side, side)[:, ::-1].reshape(vectors.shape)
    for start in range(0, len(here), block):
        rows = here[start : start + block]
        for view in (vectors, mirrored):
            likeness = view[rows] @ vectors[there].T
            i, j = np.unravel_index(likeness.argmax(), likeness.shape)
            if likeness[i, j] > limit:
                first, second = used.loc[rows[i]], used.loc[there[j]]
                raise LeakageError(
                    f"slice {first.slice} of {first.patient} ({first.split}) and slice {second.slice} of "
                    f"{second.patient} ({second.split}) correlate {likeness[i, j]:.4f}; near-duplicates above "
                    f"data.duplicate={limit} must stand in a single split."
                )


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Unit vector `[THUMBNAIL ** 2]` of an image `[X, Y]`, free of brightness and contrast."""
    edges = [np.linspace(0, side, THUMBNAIL + 1).astype(int) for side in image.shape]
    sums = np.add.reduceat(np.add.reduceat(image.astype(np.float32), edges[0][:-1], 0), edges[1][:-1], 1)
    widths = [np.maximum(np.diff(one), 1) for one in edges]  # an image of fewer pixels repeats some
    small = (sums / np.outer(*widths)).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-12)

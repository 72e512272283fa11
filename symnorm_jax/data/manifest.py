"""The table of samples, a row each or one a scan with `split="excluded"` and the reason; and the split by patient."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from symnorm_jax.errors import ConfigError
from symnorm_jax.settings import ALL_TEST, check_choice

SPLITS = ("train", "val", "test")
UNLABELLED = "unlabelled"  # a split of its own: scored, and neither trained on nor judged
TEXTS = ("patient", "session", "source", "sha256", "store", "label", "split", "exclusion", "flag", "geometry", "brain")
TEXTS += ("planted_sha256",)
NUMBERS = (
    *("slice", "position", "height_mm", "record", "records_in_scan", "slices_left_out"),
    *("brain_mm2", "lesion_mm2", "roll", "yaw", "tilt_error", "off_centre_mm", "mirror_similarity"),
)
COLUMNS = ("index", "healthy_person", *TEXTS, *NUMBERS)  # a source's groups must have other names
SCORES = ("mse", "mae", "disagreement", "peak", "highest", "asymmetry")  # of the systems and their maps
# What is put beside a source's groups later: scores, predictions, and what evaluation and report say of a case.
LATER = (*SCORES, "mahalanobis", "zero_shot", "predicted", "target", "population", "place")
LATER += ("positive", "shown", "threshold")
KNOWN = ("healthy", "abnormal")  # labels; others say that nobody knows, or that a sample is neither
TRAIN_ON = ("healthy_people", "lesion_free_slices", "everyone")


def read_table(path: Path, texts: Iterable[str] = TEXTS) -> pd.DataFrame:
    """Read a table made from a manifest: the columns `texts` stay text however they look; blank numbers are NaN."""
    types, blank = dict.fromkeys(texts, str), dict.fromkeys(NUMBERS, [""])
    return pd.read_csv(path, index_col="index", dtype=types, keep_default_na=False, na_values=blank)


def read_manifest(path: Path) -> pd.DataFrame:
    """Read a manifest; groups stay text too, so that the site `002` does not become 2."""
    columns = pd.read_csv(path, nrows=0).columns
    return read_table(path, [name for name in columns if name in TEXTS or name not in COLUMNS])


def group_columns(rows: pd.DataFrame) -> list[str]:
    """List the columns of a manifest that its source gave as groups of people, such as site or age."""
    return [name for name in rows if name not in COLUMNS]


def taken(name: str) -> bool:
    """Say whether a group of a source cannot have this name, for a column of a run has it or comes to have it."""
    return name in (*COLUMNS, *LATER) or bool(re.fullmatch(r"trivial_.*|.*\+mahalanobis|z\d+", name))


def of_population(rows: pd.DataFrame, held_out: str) -> pd.Series:
    """Mark all rows of patients with a scan in the group `held_out`, as `site=IOP`, bool; none for an empty one.

    Raises ConfigError for a column that is no group of the source and for a value that nobody has.
    """
    if not held_out:
        return pd.Series(False, rows.index)
    column, _, value = held_out.partition("=")
    if column not in group_columns(rows) or not value:
        raise ConfigError(f"data.held_out={held_out!r}; column=value with one of {group_columns(rows)} is allowed.")
    values = rows[column].fillna("").astype(str)
    if not (values == value).any():
        raise ConfigError(f"data.held_out={held_out!r}: that is nobody; {column} holds {sorted(values.unique())[:8]}.")
    return rows.patient.isin(rows.patient[values == value])


def hold_out(rows: pd.DataFrame, held_out: str) -> pd.DataFrame:
    """Put a population, but for rows excluded or unlabelled, into the test split before the rest is split."""
    free = rows.split.isin(("", "train"))
    return rows.assign(split=rows.split.mask(of_population(rows, held_out) & free, "test"))


def assign_splits(
    rows: pd.DataFrame, fractions: tuple[float, float, float], train_on: str, seed: int, fold: tuple[int, int] = (0, 0)
) -> pd.Series:
    """Split whole patients by `fractions`, the diseased and the others each for themselves, drawn from `seed`.

    A `fold`, its number and how many there are, takes the place of fractions: of so many parts that part is test, and
    the next one val. With `train_on="healthy_people"` the diseased are in val and test alone, with their healthy
    sessions too. Rows that are excluded, unlabelled or in a release's own `test` stay so; its own `train` is shared
    between train and val. With the fractions ALL_TEST whoever is labelled is in test, whatever a release says. Raises
    ConfigError if a split is empty, or for a fold that is not there or of a release with splits of its own.
    """
    check_choice("data.train_on", train_on, TRAIN_ON)
    number, folds = fold
    if folds and (number >= folds or folds < 3 or rows.split.isin(("train", "test")).any()):
        allowed = "three folds or more, numbered from 0, of people whom neither release nor data.held_out has split are"
        raise ConfigError(f"data.fold={number}, data.folds={folds}; {allowed} allowed.")
    everybody = tuple(fractions) == ALL_TEST
    if not everybody and (min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6):
        raise ConfigError(f"data.split={tuple(fractions)}; three positive shares that sum to 1 are allowed.")
    rng, split = np.random.default_rng(seed), rows.split.copy()
    for own, shares in (("", fractions), ("train", fractions if everybody else (*fractions[:2], 0))):
        part = rows[rows.split == own]
        split[part.index] = part.patient.map(_share_out(part, shares, train_on, rng, fold))
    labelled = rows.patient[split.isin(SPLITS)].nunique()
    if not labelled:
        raise ConfigError(f"nobody is labelled: all {rows.patient.nunique()} patients are {UNLABELLED} or excluded.")
    for name in SPLITS[-1:] if everybody else SPLITS:
        if not (split == name).any():
            told = f"the {name} split is empty: {labelled} patients cannot be shared {tuple(fractions)}"
            ill = rows.patient[~rows.healthy_person].nunique() if train_on == "healthy_people" else 0
            kept = f"; {ill} have an abnormal scan, whom data.train_on={train_on!r} keeps from training" * bool(ill)
            raise ConfigError(f"{told}{kept}.")
    return split


def _share_out(rows: pd.DataFrame, fractions: tuple[float, ...], train_on: str, rng, fold: tuple) -> dict[str, str]:
    of_patient, diseased = {}, ~rows.groupby("patient").healthy_person.all()
    for group in (False, True):
        patients = rng.permutation(sorted(diseased.index[diseased == group]))
        kept = group and train_on == "healthy_people"  # from training
        if fold[1]:
            part = (np.arange(len(patients)) - fold[0]) % fold[1]
            places = np.where(part == 0, 2, (part == 1) | kept)
        else:
            shares = (0, *fractions[1:]) if kept else fractions
            ends = np.cumsum(np.asarray(shares) / sum(shares))
            places = np.searchsorted(ends, (np.arange(len(patients)) + 0.5) / max(len(patients), 1))
        of_patient |= {patient: SPLITS[place] for patient, place in zip(patients, places, strict=True)}
    return of_patient


def trainable(rows: pd.DataFrame, train_on: str) -> pd.Series:
    """Mark the rows that a network may learn from, bool: those of the training split that are `like_trained`."""
    return (rows.split == "train") & like_trained(rows, train_on)


def like_trained(rows: pd.DataFrame, train_on: str) -> pd.Series:
    """Mark the rows of whatever split that are such as are trained on, bool: healthy or, of `everyone`, labelled."""
    return rows.label.isin(KNOWN) if train_on == "everyone" else normal(rows, train_on)


def normal(rows: pd.DataFrame, train_on: str) -> pd.Series:
    """Mark the rows that show what is healthy, bool: those that a Gaussian of the training split is fitted on."""
    healthy = rows.label == "healthy"
    return healthy if train_on == "lesion_free_slices" else healthy & rows.healthy_person


def few(rows: pd.DataFrame, patients: int, seed: int, key: str) -> pd.DataFrame:
    """Draw `patients` people, or all for 0, from `seed`, fewer always among more; ConfigError of `key` if too many."""
    everyone = sorted(rows.patient.unique())
    if not 0 <= patients <= len(everyone):
        raise ConfigError(f"{key}={patients}; 0 to {len(everyone)}, all those to train on, are allowed.")
    chosen = np.random.default_rng(seed).permutation(everyone)[: patients or None]
    return rows[rows.patient.isin(chosen)]

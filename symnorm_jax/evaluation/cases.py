"""The cases that are judged at each level: slices, and patients."""

import pandas as pd

from symnorm_jax.errors import ConfigError
from symnorm_jax.scoring.scores import ABOUT

AGGREGATES = ("max", "mean")
LEVELS = ("slice", "patient")


def cases_at(level: str, table: pd.DataFrame, split: str, aggregate: str) -> pd.DataFrame:
    """The cases of a split at one of LEVELS; `aggregate` says how slices make a patient's score."""
    return slice_cases(table, split) if level == "slice" else patient_cases(table, split, aggregate)


def slice_cases(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """The labelled slices of a split with a column `positive`; those that are neither are left out."""
    cases = table[(table.split == split) & (table.label != "neither")]
    return cases.assign(positive=cases.label == "abnormal")


def patient_cases(table: pd.DataFrame, split: str, aggregate: str = "max") -> pd.DataFrame:
    """One row per patient of a split: each score is that of the most abnormal slice (`max`), or the mean of all."""
    if aggregate not in AGGREGATES:
        raise ConfigError(f"score.patient={aggregate!r}; one of {sorted(AGGREGATES)} is allowed.")
    rows = table[table.split == split]
    scores = [name for name in rows if name not in ABOUT]
    cases = rows.groupby("patient")[scores].agg(aggregate)
    return cases.assign(positive=~rows.groupby("patient").healthy_person.all()).reset_index()

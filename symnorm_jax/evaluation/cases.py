"""The cases that are judged at each level: slices, and patients."""

import pandas as pd

from symnorm_jax.scoring.scores import ABOUT


def slice_cases(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """The labelled slices of a split with a column `positive`; those that are neither are left out."""
    cases = table[(table.split == split) & (table.label != "neither")]
    return cases.assign(positive=cases.label == "abnormal")


def patient_cases(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """One row per patient of a split: each score is that of the patient's most abnormal slice."""
    rows = table[table.split == split]
    scores = [name for name in rows if name not in ABOUT]
    cases = rows.groupby("patient")[scores].max()
    return cases.assign(positive=~rows.groupby("patient").healthy_person.all()).reset_index()


LEVELS = {"slice": slice_cases, "patient": patient_cases}

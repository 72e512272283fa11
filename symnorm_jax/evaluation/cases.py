"""The cases that are judged at each level: samples, which are slices or volumes, and patients."""

import numpy as np
import pandas as pd

from symnorm_jax.errors import ConfigError, InputError
from symnorm_jax.scoring.scores import ABOUT, validation
from symnorm_jax.settings import check_choice

Table, Names = pd.DataFrame, tuple[str, ...]
AGGREGATES = ("max", "mean", "top_k", "calibrated")
LEVELS = ("sample", "patient")
BANDS = 10  # of slice position, from 0 to 1
ENOUGH = 20  # healthy validation slices that a band needs; it is merged with its neighbour until it has them


def cases_at(level: str, table: Table, split: str, aggregate: str = "max", k: int = 5, about: Names = ()) -> Table:
    """List the cases of a split at one of LEVELS: `patient`, `positive`, scores, and `about`; see `patient_cases`."""
    return sample_cases(table, split) if level == "sample" else patient_cases(table, split, aggregate, k, about)


def sample_cases(table: Table, split: str) -> Table:
    """List the labelled samples of a split with a column `positive`; those that are neither are left out."""
    cases = table[(table.split == split) & (table.label != "neither")]
    return cases.assign(positive=cases.label == "abnormal")


def patient_cases(table: Table, split: str, aggregate: str = "max", k: int = 5, about: Names = ()) -> Table:
    """List the patients of a split, their scores made of all their samples as one of AGGREGATES says.

    `top_k` is the mean of the k highest, or of all; `calibrated` the mean of -log p, see `p_values`. Columns `about`
    take the patient's first value. Raises ConfigError for what is not allowed, text that is not in `about`, and
    `calibrated` without healthy validation samples; InputError for NaN scores.
    """
    _check(table, aggregate, k, about)
    rows = table[table.split == split]
    names = [name for name in rows if name not in ABOUT and name not in about]
    scores = _numbers(rows, names)
    if aggregate == "calibrated":
        scores = -np.log(p_values(table, rows, names))
    patients, index = np.unique(rows.patient.to_numpy(object), return_inverse=True)
    most = {"max": 1, "top_k": k}.get(aggregate)  # of a patient's samples, how many count, the highest; None: all
    theirs = (scores[index == one] for one in range(len(patients)))
    parts = [(np.sort(one, 0)[-most:] if most else one).mean(0) for one in theirs]
    cases = pd.DataFrame(np.reshape(parts, (len(patients), len(names))), pd.Index(patients, name="patient"), names)
    people = rows.groupby("patient")
    cases = cases.assign(**{name: people[name].first() for name in about})
    return cases.assign(positive=~people.healthy_person.all()).reset_index()


def p_values(table: Table, rows: Table, names: list[str]) -> np.ndarray:
    """Conformal p-values `[N, S]` of scores `names` of the slices `rows` among healthy validation slices of `table`.

    p = (1 + how many score at least as high) / (1 + how many there are), in the same band of position (Vovk et al.
    2005) and of other patients: among its own slices too, a validation patient would look healthier than a new one.
    """
    healthy = validation(table, "healthy")
    edges = position_edges(healthy.position.to_numpy())
    theirs, ours = _numbers(healthy, names), _numbers(rows, names)
    codes, _ = pd.factorize(np.concatenate([healthy.patient.to_numpy(object), rows.patient.to_numpy(object)]))
    them, us = codes[: len(healthy)], codes[len(healthy) :]
    their_band, our_band = np.digitize(healthy.position, edges), np.digitize(rows.position, edges)
    found = np.ones(ours.shape)
    for band in np.unique(our_band):
        one, other = our_band == band, their_band == band
        foreign = them[other] != us[one][:, None]
        for score in range(len(names)):
            as_high = foreign & (theirs[other, score] >= ours[one, score][:, None])
            found[one, score] = (1 + as_high.sum(1)) / (1 + foreign.sum(1))
    return found


def position_edges(position: np.ndarray) -> np.ndarray:
    """Ascending edges between bands of slice position, each with ENOUGH of `position` `[N]`, if N is not below it."""
    edges, start = [], -np.inf
    for edge in np.arange(1, BANDS) / BANDS:
        if ((start <= position) & (position < edge)).sum() >= ENOUGH and (position >= edge).sum() >= ENOUGH:
            edges.append(edge)
            start = edge
    return np.array(edges)


def _numbers(rows: Table, names: list[str]) -> np.ndarray:
    scores = rows[names].to_numpy(float)
    for name, bad in zip(names, np.isnan(scores).sum(0), strict=True):
        if bad:
            raise InputError(f"{bad} of {len(rows)} scores {name!r} are NaN; every slice needs a score.")
    return scores


def _check(table: Table, aggregate: str, k: int, about: Names) -> None:
    check_choice("score.patient", aggregate, AGGREGATES)
    if k < 1:
        raise ConfigError(f"A patient's score is to be made of its {k} highest slices; 1 or more is allowed.")
    for name in (*table.columns, *about):
        if name not in table:
            raise ConfigError(f"The group {name!r} is no column of the scores; one of {sorted(table)} is allowed.")
        if name not in (*ABOUT, *about) and not pd.api.types.is_numeric_dtype(table[name]):
            raise ConfigError(f"The column {name!r} is text and no score; a group must be named as one.")
    if aggregate == "calibrated" and validation(table, "healthy").empty:
        raise ConfigError("score.patient='calibrated' needs healthy validation slices, and there are none.")

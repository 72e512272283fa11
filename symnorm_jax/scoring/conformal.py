"""Split conformal thresholds: what a new patient's score exceeds with a probability that is kept, overall and by group.

Vovk et al. (2005); Lei et al. (2018), theorem 2.2. Patients are exchangeable, not their cases, which are as in
`scoring.thresholds`: a patient enters by its highest score.
"""

import math
from contextlib import suppress
from fractions import Fraction

import numpy as np
import pandas as pd

from symnorm_jax.errors import ConfigError

BAND = 20  # years
UNKNOWN = "unknown"


def conformal(highest: np.ndarray, alpha: float) -> float | None:
    """Fit what a new patient's `highest` score, like these `[P]`, reaches with probability at most alpha."""
    rank = _rank(len(highest), alpha)
    if rank > len(highest):
        return None
    # What equals the ranked score is still normal: the threshold is the next number, in the precision of the scores,
    # so that a score that was written as text and read again falls on the same side.
    return float(np.nextafter(np.sort(highest)[rank - 1], np.inf))


def patients_needed(alpha: float) -> int:
    """Count the fewest calibration patients with which `conformal` can keep alpha."""
    return math.ceil(1 / _exact(alpha) - 1)


def fit_conformal(cases: pd.DataFrame, score: np.ndarray, alpha: float, groups: tuple[str, ...]) -> dict:
    """Fit the threshold of a score `[N]`, and one for each group that the columns `groups` make.

    The fit has `value`, or None and `reason`; who and how many in `calibrated_on` and `calibration_patients`; `promise`
    in words or None. Without ties `expected_rate` is the probability that it bounds, and the rate of this very
    threshold lies within `rate_95` with 95 % (a Beta distribution). Groups (Mondrian, Vovk et al. 2005, section 4.5)
    add `by_group` `{label: value}`, `group_patients`, and `group_reasons` of None, where the overall value decides
    without a promise.
    """
    group, positive = group_labels(cases, groups) if groups else "", cases.positive.to_numpy(bool)
    ours = pd.DataFrame({"patient": cases.patient.to_numpy(), "highest": score, "group": group})
    healthy = ours[~positive]
    # Of an ill patient only some slices are healthy, and the highest of few is lower than the highest of all: where
    # there are enough patients without an abnormal case, only they stand for a new healthy patient.
    whole = healthy[~healthy.patient.isin(ours.patient[positive])]
    enough = whole.patient.nunique() >= patients_needed(alpha)
    whom = "healthy patients" if enough else "patients with healthy cases"
    units = (whole if enough else healthy).groupby("patient").agg({"highest": "max", "group": "first"})
    n, value = len(units), conformal(units.highest.to_numpy(), alpha)
    found = {"value": value, "calibrated_on": whom, "calibration_patients": n, "promise": None}
    if value is None:
        found["reason"] = _too_few(n, alpha)
    else:
        expected = f"at most {100 * alpha:g} % are expected to have any healthy case called abnormal"
        found["promise"] = f"of new {whom} like the {n} of validation, {expected}"
        from scipy.stats import beta

        above = n + 1 - (rank := _rank(n, alpha))
        found |= {"expected_rate": above / (n + 1), "rate_95": beta.ppf([0.025, 0.975], above, rank).tolist()}
    if groups:
        found |= {"groups": list(groups)} | _by_group(units, sorted(set(group)), alpha)
    return found


def group_labels(cases: pd.DataFrame, groups: tuple[str, ...]) -> list[str]:
    """Label cases `[N]` with their patient's first group, such as `Guys / 40-59`. Raises ConfigError for no column."""
    for name in groups:
        if name not in cases:
            raise ConfigError(f"The group {name!r} is no column of the cases; one of {sorted(cases)} is allowed.")
    columns = [[age_band(x) if name == "age" else _text(x) for x in cases[name]] for name in groups]
    labels = pd.Series([" / ".join(values) for values in zip(*columns, strict=True)], dtype=object)
    return labels.groupby(cases.patient.to_numpy()).transform("first").tolist()


def age_band(age: str | float) -> str:
    """Name the band of BAND years in which an age lies: `40-59` for 40 to 59.9; `unknown` for what is no age."""
    with suppress(TypeError, ValueError):
        if 0 <= float(age) < np.inf:
            low = int(float(age) // BAND) * BAND
            return f"{low}-{low + BAND - 1}"
    return UNKNOWN


def _by_group(units: pd.DataFrame, labels: list[str], alpha: float) -> dict:
    highest = {label: units.highest[units.group == label].to_numpy() for label in labels}
    values = {label: conformal(x, alpha) for label, x in highest.items()}
    sizes = {label: len(x) for label, x in highest.items()}
    decides = "the overall threshold decides, without a promise"
    short = {label: f"{_too_few(sizes[label], alpha)}; {decides}" for label in labels if values[label] is None}
    return {"by_group": values, "group_patients": sizes, "group_reasons": short}


def _too_few(n: int, alpha: float) -> str:
    return f"{n} calibration patients; alpha={alpha:g} needs {patients_needed(alpha)}"


def _rank(n: int, alpha: float) -> int:
    return math.ceil((n + 1) * (1 - _exact(alpha)))


def _exact(alpha: float) -> Fraction:
    """The decimal number that was meant: in binary, 1 - 0.1 and its multiples may round across an integer."""
    return Fraction(str(float(alpha)))


def _text(value) -> str:
    return UNKNOWN if pd.isna(value) or not str(value).strip() else str(value).strip()

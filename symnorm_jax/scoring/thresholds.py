"""Operating points, fitted on the validation split alone. A score at or above its threshold is called abnormal.

`cases` is a table with the columns `patient`, `positive` (bool), one column a score and, for groups, any further
columns. A fit is plain JSON: `value`, or None with a `reason`, and where it comes from.
"""

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import beta, binomtest
from sklearn.metrics import roc_curve

from symnorm_jax.errors import ConfigError, InputError

BAND = 20  # years
UNKNOWN = "unknown"


class Settings(NamedTuple):
    """What the rules can be asked for; any object with these fields does."""

    quantile: float = 0.95  # of healthy cases, for healthy_quantile
    k: float = 2.0  # standard deviations, for mean_plus_k_sd
    alpha: float = 0.1  # share of healthy patients that may be called abnormal, for conformal
    groups: tuple[str, ...] = ()  # columns whose values, together, have conformal thresholds of their own


def roc(score: np.ndarray, positive: np.ndarray) -> float:
    """The threshold that maximises sensitivity + specificity (Youden 1950); the highest of equally good ones."""
    fpr, tpr, values = _curve(score, positive)
    return float(values[np.argmax(tpr - fpr)])


def max_accuracy(score: np.ndarray, positive: np.ndarray) -> float:
    """The threshold that maximises accuracy at the prevalence of the validation split."""
    fpr, tpr, values = _curve(score, positive)
    return float(values[np.argmax(tpr * positive.sum() - fpr * (~positive).sum())])


def healthy_quantile(score: np.ndarray, positive: np.ndarray, quantile: float) -> float:
    """The threshold below which a share `quantile` of the healthy cases lies; needs no diseased case."""
    return float(np.quantile(score[~positive], quantile, method="higher"))


def mean_plus_k_sd(score: np.ndarray, positive: np.ndarray, k: float) -> float:
    """Mean plus `k` standard deviations (denominator n - 1) of the healthy cases; needs two."""
    healthy = score[~positive].astype(float)
    return float(healthy.mean() + k * healthy.std(ddof=1))


def conformal(highest: np.ndarray, alpha: float) -> float | None:
    """Split conformal (Vovk et al. 2005; Lei et al. 2018, theorem 2.2) for the `highest` score `[P]` of each patient.

    If a new patient is exchangeable with these P, its highest score is at or above the threshold with probability at
    most alpha, ties included. None where P is below `patients_needed`.
    """
    rank = _rank(len(highest), alpha)
    if rank > len(highest):
        return None
    # What equals the ranked score is still normal: the threshold is the next number, in the precision of the scores,
    # so that a score that was written as text and read again falls on the same side.
    return float(np.nextafter(np.sort(highest)[rank - 1], np.inf))


def patients_needed(alpha: float) -> int:
    """The least number of calibration patients from which `conformal` can keep alpha."""
    return math.ceil(1 / _exact(alpha) - 1)


RULES = {
    "roc": roc,
    "max_accuracy": max_accuracy,
    "healthy_quantile": healthy_quantile,
    "mean_plus_k_sd": mean_plus_k_sd,
    "conformal": conformal,
}
PARAMETER = {"healthy_quantile": "quantile", "mean_plus_k_sd": "k", "conformal": "alpha"}  # a field of Settings
NEEDED = {"roc": (1, 1), "max_accuracy": (1, 1), "healthy_quantile": (1, 0), "mean_plus_k_sd": (2, 0)}  # cases


def fit_thresholds(cases: pd.DataFrame, names: list[str], settings: Settings) -> dict[str, dict[str, dict]]:
    """`{score: {rule: fit}}` from validation cases, for every rule of RULES.

    A fit has `value`, `origin`, the numbers of `healthy` and `abnormal` cases and of `patients`, and the rule's
    parameter; `reason` where value is None. `conformal` adds

    * `calibrated_on`: patients none of whose cases is abnormal, if there are enough for alpha, else all with a healthy
      case; `calibration_patients`, their number
    * `promise` in words (None where there is none); where scores do not tie, `expected_rate` is the probability that it
      bounds, and the rate of this very threshold lies within `rate_95` with 95 % probability (a Beta distribution)
    * with groups (Mondrian, Vovk et al. 2005, section 4.5): `groups`, `by_group` `{label: value}`, `group_patients`,
      and `group_reasons` of the values that are None, where the overall value decides without a promise for the group

    Raises InputError for scores that are not finite, ConfigError for settings and groups that are not allowed.
    """
    check_settings(settings)
    return {name: {rule: _fit(rule, cases, name, settings) for rule in RULES} for name in names}


def unpromised(fit: dict) -> dict:
    """A conformal fit that keeps its value and promises nothing."""
    return {key: value for key, value in fit.items() if key not in ("expected_rate", "rate_95")} | {"promise": None}


def threshold_of(fit: dict, cases: pd.DataFrame) -> np.ndarray:
    """The threshold `[N]` of each case: that of its patient's group, else the overall one; NaN where there is none."""
    if fit["value"] is None:
        return np.full(len(cases), np.nan)
    if not fit.get("by_group"):
        return np.full(len(cases), fit["value"])
    own = [fit["by_group"].get(label) for label in group_labels(cases, fit["groups"])]
    return np.array([fit["value"] if value is None else value for value in own])


def realised(fit: dict, cases: pd.DataFrame, score: str) -> dict[str, dict] | None:
    """What a threshold does on other cases, such as those of the test split; None where there is no threshold.

    Each entry has the counts `called` (abnormal) and `of`, and `share`, None of nobody:

    * `healthy_patients`, none of whose cases is abnormal, with any case called: what `conformal` bounds
    * `patients_with_healthy_cases`, these and the ill, with any healthy case called
    * `healthy_cases`, whose share is the false-positive rate, and `abnormal_cases`, whose share is the sensitivity

    Of patients, `low` and `high` are the exact binomial 95 % interval (Clopper & Pearson 1934). Cases of one patient
    resemble each other, so of cases there is none here. Raises InputError for scores that are not finite.
    """
    if fit["value"] is None:
        return None
    called, positive = _finite(cases, score) >= threshold_of(fit, cases), cases.positive.to_numpy(bool)
    flags = pd.DataFrame({"called": called & ~positive, "healthy": ~positive, "ill": positive})
    patients = flags.groupby(cases.patient.to_numpy()).any()
    return {
        "healthy_patients": proportion(patients.called[~patients.ill]),
        "patients_with_healthy_cases": proportion(patients.called[patients.healthy]),
        "healthy_cases": _counted(called[~positive]),
        "abnormal_cases": _counted(called[positive]),
    }


def proportion(called: np.ndarray) -> dict[str, int | float | None]:
    """`called`, `of`, `share` and its exact binomial 95 % interval `low`, `high`, of independent units `[N]` bool."""
    found = _counted(called)
    if not found["of"]:
        return found | {"low": None, "high": None}
    low, high = binomtest(found["called"], found["of"]).proportion_ci(method="exact")
    return found | {"low": float(low), "high": float(high)}


def group_labels(cases: pd.DataFrame, groups: tuple[str, ...]) -> list[str]:
    """The label `[N]` of each case's group, such as `Guys / 40-59`: that of its patient's first case.

    The column `age` is cut into bands. A patient has one group, though it may have aged between two scans, since a
    promise is kept for a patient and not for a visit. Raises ConfigError for a column that is not there.
    """
    for name in groups:
        if name not in cases:
            raise ConfigError(f"The group {name!r} is no column of the cases; one of {sorted(cases)} is allowed.")
    columns = [[age_band(x) if name == "age" else _text(x) for x in cases[name]] for name in groups]
    labels = pd.Series([" / ".join(values) for values in zip(*columns, strict=True)], dtype=object)
    return labels.groupby(cases.patient.to_numpy()).transform("first").tolist()


def age_band(age: str | float) -> str:
    """The band of BAND years in which an age lies: `40-59` for 40 to 59.9; `unknown` for what is no age."""
    try:
        years = float(age)
    except (TypeError, ValueError):
        return UNKNOWN
    if not 0 <= years < np.inf:
        return UNKNOWN
    low = int(years // BAND) * BAND
    return f"{low}-{low + BAND - 1}"


def _fit(rule: str, cases: pd.DataFrame, name: str, settings: Settings) -> dict:
    score, positive = _finite(cases, name), cases.positive.to_numpy(bool)
    counts = {"healthy": int((~positive).sum()), "abnormal": int(positive.sum())}
    about = {"origin": "val", **counts, "patients": int(cases.patient.nunique())}
    parameter = [float(getattr(settings, PARAMETER[rule]))] if rule in PARAMETER else []
    about |= {PARAMETER[rule]: parameter[0]} if parameter else {}
    if rule == "conformal":
        found = _fit_conformal(cases, score, settings)
        return {"value": found.pop("value"), **about, **found}
    short = [f"{counts[of]} {of}" for of, least in zip(counts, NEEDED[rule], strict=True) if counts[of] < least]
    if short:
        needed = " and ".join(f"{least} {of}" for of, least in zip(counts, NEEDED[rule], strict=True) if least)
        return {"value": None, "reason": f"validation has {' and '.join(short)} cases; {needed} needed", **about}
    return {"value": RULES[rule](score, positive, *parameter), **about}


def _fit_conformal(cases: pd.DataFrame, score: np.ndarray, settings: Settings) -> dict:
    """The part of a fit that is conformal's own."""
    alpha, groups = float(settings.alpha), tuple(settings.groups)
    group = group_labels(cases, groups) if groups else ""
    ours = pd.DataFrame({"patient": cases.patient.to_numpy(), "highest": score, "group": group})
    whom, units = _calibration(ours, cases.positive.to_numpy(bool), patients_needed(alpha))
    n, value = len(units), conformal(units.highest.to_numpy(), alpha)
    found = {"value": value, "calibrated_on": whom, "calibration_patients": n, "promise": None}
    if value is None:
        found["reason"] = _too_few(n, alpha)
    else:
        rank = _rank(n, alpha)
        found["promise"] = (
            f"of new {whom} like the {n} of validation, at most {100 * alpha:g} % are expected to have any healthy "
            f"case called abnormal"
        )
        found["expected_rate"] = (n + 1 - rank) / (n + 1)
        found["rate_95"] = beta.ppf([0.025, 0.975], n + 1 - rank, rank).tolist()
    return found | (_by_group(units, sorted(set(group)), alpha) | {"groups": list(groups)} if groups else {})


def _calibration(cases: pd.DataFrame, positive: np.ndarray, needed: int) -> tuple[str, pd.DataFrame]:
    """Who is calibrated on, in words, and of each, by patient, the `highest` score and the `group`.

    Of an ill patient only some slices are healthy, and the highest of few is lower than the highest of all: where
    there are enough patients without an abnormal case, only they stand for a new healthy patient.
    """
    healthy = cases[~positive]
    whole = healthy[~healthy.patient.isin(cases.patient[positive])]
    enough = whole.patient.nunique() >= needed
    whom = "healthy patients" if enough else "patients with healthy cases"
    return whom, (whole if enough else healthy).groupby("patient").agg({"highest": "max", "group": "first"})


def _by_group(units: pd.DataFrame, labels: list[str], alpha: float) -> dict:
    highest = {label: units.highest[units.group == label].to_numpy() for label in labels}
    values = {label: conformal(scores, alpha) for label, scores in highest.items()}
    reasons = {
        label: f"{_too_few(len(highest[label]), alpha)}; the overall threshold decides, without a promise"
        for label, value in values.items()
        if value is None
    }
    sizes = {label: len(scores) for label, scores in highest.items()}
    return {"by_group": values, "group_patients": sizes, "group_reasons": reasons}


def _too_few(n: int, alpha: float) -> str:
    return f"{n} calibration patients; alpha={alpha:g} needs {patients_needed(alpha)}"


def _rank(n: int, alpha: float) -> int:
    """ceil((n + 1)(1 - alpha)), exactly."""
    return math.ceil((n + 1) * (1 - _exact(alpha)))


def _exact(alpha: float) -> Fraction:
    """The decimal number that was meant: in binary, 1 - 0.1 and its multiples may round across an integer."""
    return Fraction(str(float(alpha)))


def _curve(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    fpr, tpr, values = roc_curve(positive, score, drop_intermediate=False)
    values[0] = np.nextafter(score.max(), np.inf)  # scikit-learn's infinity, which calls nothing abnormal
    return fpr, tpr, values


def _finite(cases: pd.DataFrame, name: str) -> np.ndarray:
    """A score in the precision that it has, in which `conformal` takes the next number."""
    score = cases[name].to_numpy()
    score = score if np.issubdtype(score.dtype, np.floating) else score.astype(float)
    if bad := int((~np.isfinite(score)).sum()):
        raise InputError(f"{bad} of {len(score)} scores {name!r} are NaN or infinite; every case needs a finite score.")
    return score


def _counted(called: np.ndarray) -> dict[str, int | float | None]:
    count, of = int(np.sum(called)), len(called)
    return {"called": count, "of": of, "share": count / of if of else None}


def _text(value) -> str:
    return UNKNOWN if pd.isna(value) or not str(value).strip() else str(value).strip()


def check_settings(settings: Settings) -> None:
    """Raise ConfigError for a quantile, k or alpha that no threshold can have."""
    if not 0 <= settings.quantile <= 1:
        raise ConfigError(f"The threshold's quantile is {settings.quantile:g}; 0 to 1 is allowed.")
    if not np.isfinite(settings.k):
        raise ConfigError(f"The threshold's k is {settings.k:g}; a finite number of standard deviations is allowed.")
    if not 0 < settings.alpha < 1:
        raise ConfigError(f"The threshold's alpha is {settings.alpha:g}; a number between 0 and 1 is allowed.")

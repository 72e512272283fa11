"""Operating points, fitted on the validation split alone, and the one place where they are applied: `called`.

`cases` is a table with the columns `patient`, `positive` (bool), one a score and, for groups, any others. A fit is
plain JSON: `value`, or None with a `reason`, and where it comes from. Those of maps: `evaluation/postprocess.py`.
"""

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError, InputError
from symnorm_jax.scoring.conformal import conformal, fit_conformal, group_labels


def roc(score: np.ndarray, positive: np.ndarray) -> float:
    """Find the threshold that maximises sensitivity + specificity (Youden 1950); the highest of equally good ones."""
    fpr, tpr, values = _curve(score, positive)
    return float(values[np.argmax(tpr - fpr)])


def max_accuracy(score: np.ndarray, positive: np.ndarray) -> float:
    """Find the threshold that maximises accuracy at the prevalence of the validation split."""
    fpr, tpr, values = _curve(score, positive)
    return float(values[np.argmax(tpr * positive.sum() - fpr * (~positive).sum())])


def healthy_quantile(score: np.ndarray, positive: np.ndarray, quantile: float) -> float:
    """Find the threshold below which a share `quantile` of the healthy cases lies; needs no diseased case."""
    return float(np.quantile(score[~positive], quantile, method="higher"))


def mean_plus_k_sd(score: np.ndarray, positive: np.ndarray, k: float) -> float:
    """Add `k` standard deviations (denominator n - 1) of the healthy cases to their mean; needs two."""
    healthy = score[~positive].astype(float)
    return float(healthy.mean() + k * healthy.std(ddof=1))


RULES = {of.__name__: of for of in (roc, max_accuracy, healthy_quantile, mean_plus_k_sd, conformal)}
PARAMETER = {"healthy_quantile": "quantile", "mean_plus_k_sd": "k", "conformal": "alpha"}  # a key of the section score
NEEDED = {"roc": (1, 1), "max_accuracy": (1, 1), "healthy_quantile": (1, 0), "mean_plus_k_sd": (2, 0)}  # cases


def check_settings(settings: ConfigDict) -> None:
    """Raise ConfigError for a quantile, k or alpha that no threshold can have."""
    for name, sound, allowed in (
        ("quantile", 0 <= settings.quantile <= 1, "0 to 1"),
        ("k", np.isfinite(settings.k), "a finite number of standard deviations"),
        ("alpha", 0 < settings.alpha < 1, "a number between 0 and 1"),
    ):
        if not sound:
            raise ConfigError(f"The threshold's {name} is {getattr(settings, name):g}; {allowed} is allowed.")


def fit_thresholds(cases: pd.DataFrame, names: list[str], settings: ConfigDict) -> dict[str, dict[str, dict]]:
    """Fit every rule of RULES to validation cases, with the `settings` of the section score: `{score: {rule: fit}}`.

    A fit has `value`, or None and `reason`, what `counted` gives, and the rule's parameter; see also `fit_conformal`.
    Raises InputError for scores that are not finite, ConfigError for settings and groups that are not allowed.
    """
    check_settings(settings)
    return {name: {rule: _fit(rule, cases, name, settings) for rule in RULES} for name in names}


def unpromised(fit: dict) -> dict:
    """Give a conformal fit that keeps its value and promises nothing."""
    return {key: value for key, value in fit.items() if key not in ("expected_rate", "rate_95")} | {"promise": None}


def threshold_of(fit: dict, cases: pd.DataFrame) -> np.ndarray:
    """Give each case its threshold `[N]`: that of its patient's group, else the overall one; NaN without one."""
    overall, by_group = fit["value"], fit.get("by_group")
    if overall is None or not by_group:
        return np.full(len(cases), overall, float)
    own = [by_group.get(label) for label in group_labels(cases, fit["groups"])]
    return np.array([overall if value is None else value for value in own])


def called(fit: dict, cases: pd.DataFrame, name: str) -> np.ndarray:
    """Call cases `[N]` abnormal with a score at or above their threshold. Raises InputError for scores not finite."""
    return _score(cases, name) >= threshold_of(fit, cases)


def realised(fit: dict, cases: pd.DataFrame, name: str) -> dict[str, dict] | None:
    """Count what a threshold does on other cases, such as the test split's; None where there is no threshold.

    Entries are as in `_share`. `healthy_patients` have no abnormal case, and are called with any: what `conformal`
    bounds. `patients_with_healthy_cases` are these and the ill, with any healthy case called. The share of
    `healthy_cases` is the false-positive rate, of `abnormal_cases` the sensitivity; cases of a patient are alike, so
    they have no interval.
    """
    if fit["value"] is None:
        return None
    shown, positive = called(fit, cases, name), cases.positive.to_numpy(bool)
    flags = pd.DataFrame({"called": shown & ~positive, "healthy": ~positive, "ill": positive})
    patients = flags.groupby(cases.patient.to_numpy()).any()
    return {
        "healthy_patients": proportion(patients.called[~patients.ill]),
        "patients_with_healthy_cases": proportion(patients.called[patients.healthy]),
        "healthy_cases": _share(shown[~positive]),
        "abnormal_cases": _share(shown[positive]),
    }


def proportion(called: np.ndarray) -> dict[str, int | float | None]:
    """Count independent units `[N]` bool: `called`, `of`, `share` with its 95 % bounds (Clopper & Pearson 1934)."""
    from scipy.stats import binomtest

    found = _share(called)
    bounds = binomtest(found["called"], found["of"]).proportion_ci(method="exact") if found["of"] else (None, None)
    return found | {name: x if x is None else float(x) for name, x in zip(("low", "high"), bounds, strict=True)}


def counted(cases: pd.DataFrame) -> dict[str, str | int]:
    """Count what a fit rests on: `origin`, the numbers of `healthy` and `abnormal` cases, and of `patients`."""
    ill, people = int(cases.positive.sum()), int(cases.patient.nunique())
    return {"origin": "val", "healthy": len(cases) - ill, "abnormal": ill, "patients": people}


def finite(values: np.ndarray, what: str, needed: str = "finite numbers are needed") -> np.ndarray:
    """Give values `[N]` back. Raises InputError where some are not finite."""
    if bad := int((~np.isfinite(values)).sum()):
        raise InputError(f"{bad} of {values.size} {what} are NaN or infinite; {needed}.")
    return values


def _fit(rule: str, cases: pd.DataFrame, name: str, settings: ConfigDict) -> dict:
    score, positive = _score(cases, name), cases.positive.to_numpy(bool)
    asked = {PARAMETER[rule]: float(getattr(settings, PARAMETER[rule]))} if rule in PARAMETER else {}
    about = counted(cases) | asked
    if rule == "conformal":
        return about | fit_conformal(cases, score, asked["alpha"], tuple(settings.groups))
    needed = dict(zip(("healthy", "abnormal"), NEEDED[rule], strict=True))
    if short := [f"{about[of]} {of}" for of, least in needed.items() if about[of] < least]:
        asked_for = " and ".join(f"{least} {of}" for of, least in needed.items() if least)
        return {"value": None, "reason": f"validation has {' and '.join(short)} cases; {asked_for} needed", **about}
    return {"value": RULES[rule](score, positive, *asked.values()), **about}


def _curve(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from sklearn.metrics import roc_curve  # here, for those who only apply what was fitted wait seconds for it

    fpr, tpr, values = roc_curve(positive, score, drop_intermediate=False)
    values[0] = np.nextafter(score.max(), np.inf)  # scikit-learn's infinity, which calls nothing abnormal
    return fpr, tpr, values


def _score(cases: pd.DataFrame, name: str) -> np.ndarray:
    """A score in the precision that it has, in which `conformal` takes the next number."""
    score = cases[name].to_numpy()
    score = score if np.issubdtype(score.dtype, np.floating) else score.astype(float)
    return finite(score, f"scores {name!r}", "every case needs a finite score")


def _share(called: np.ndarray) -> dict[str, int | float | None]:
    count, of = int(np.sum(called)), len(called)
    return {"called": count, "of": of, "share": count / of if of else None}

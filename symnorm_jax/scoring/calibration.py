"""From scores to probabilities, fitted on the validation split alone, and how far the probabilities are right.

A fit counts every patient the same, and a probability is that of a case of a random patient at the prevalence of
validation. A metric takes probability, positive `[N]` and weight `[..., N]`, how often a case counts (None: once).
"""

import numpy as np
import pandas as pd
from scipy.special import expit

from symnorm_jax.errors import InputError
from symnorm_jax.scoring.thresholds import counted, finite, proportion
from symnorm_jax.statistics.metrics import ratio

Array = np.ndarray
BINS = 10


def platt(score: Array, positive: Array, weight: Array) -> dict[str, float]:
    """Fit a logistic regression without penalty to the standardised score `[N]`, towards the targets of Platt (1999).

    They are (n1 + 1) / (n1 + 2) and 1 / (n0 + 2), n1 and n0 the sums of `weight` `[N]` of ill and healthy, and keep the
    slope finite. Each case enters as one of either class, weighted by its target, which is the same likelihood.
    """
    from sklearn.linear_model import LogisticRegression  # here, for those who only apply a fit wait seconds for it

    centre = np.average(score, weights=weight)
    scale = np.sqrt(np.average((score - centre) ** 2, weights=weight))
    abnormal, healthy = weight[positive].sum(), weight[~positive].sum()
    target = np.where(positive, (abnormal + 1) / (abnormal + 2), 1 / (healthy + 2))
    twice, classes = np.tile((score - centre) / scale, 2)[:, None], np.repeat([True, False], len(score))
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-9)
    model.fit(twice, classes, np.concatenate([weight * target, weight * (1 - target)]))
    slope, intercept = model.coef_[0, 0], model.intercept_[0]
    return {"centre": float(centre), "scale": float(scale), "slope": float(slope), "intercept": float(intercept)}


def isotonic(score: Array, positive: Array, weight: Array) -> dict[str, list[float]]:
    """Fit the non-decreasing curve nearest to the labels (Zadrozny & Elkan 2002): its corners; constant beyond them."""
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(score, positive.astype(float), weight)
    return {"score": model.X_thresholds_.tolist(), "probability": model.y_thresholds_.tolist()}


METHODS = {"platt": platt, "isotonic": isotonic}


def fit_calibration(cases: pd.DataFrame, names: list[str]) -> dict[str, dict[str, dict]]:
    """Fit every method to validation cases with `patient`, `positive` and finite scores: `{score: {method: fit}}`.

    A fit has `method`, `parameters`, or None with a `reason`, and what `counted` gives.
    """
    return {name: {method: _fit(method, cases, name) for method in METHODS} for name in names}


def apply(fit: dict, score: Array) -> Array:
    """Give each score `[N]` its probability by a fit, also one that was read from JSON; NaN where it has none."""
    score, found = finite(np.asarray(score, float), "scores"), fit["parameters"]
    if found is None:
        return np.full(len(score), np.nan)
    if fit["method"] == "platt":
        return expit(found["intercept"] + found["slope"] * (score - found["centre"]) / found["scale"])
    return np.interp(score, found["score"], found["probability"])


def brier(probability: Array, positive: Array, weight: Array | None = None) -> Array:
    """Average the squared difference of probability and outcome (Brier 1950), `[...]`; NaN for weights of 0."""
    probability, positive, weight = _checked(probability, positive, weight)
    return ratio(weight @ (probability - positive) ** 2, weight.sum(-1))


def expected_calibration_error(
    probability: Array, positive: Array, weight: Array | None = None, bins: int = BINS
) -> Array:
    """Average over cases the gap in their bin between mean probability and share of positives (Naeini et al. 2015).

    Bins hold equal numbers of cases, as far as ties allow. By chance that `[...]` of perfect probabilities is above 0.
    """
    probability, positive, weight = _checked(probability, positive, weight)
    member = _bin(probability, bins)[:, None] == np.arange(bins)
    gaps = weight @ ((probability - positive)[:, None] * member)
    return ratio(np.abs(gaps).sum(-1), weight.sum(-1))


def reliability(probability: Array, positive: Array, bins: int = BINS) -> list[dict]:
    """Give each bin of `expected_calibration_error` that holds a case a row, for a reliability diagram.

    `predicted` is the mean of `from` to `to`, `observed` the share `positive` of `cases`, its bounds as
    `proportion` has them.
    """
    probability, positive, _ = _checked(probability, positive, None)
    index, rows = _bin(probability, bins), []
    for one in np.unique(index):
        within, share = probability[index == one], proportion(positive[index == one])
        edges = {"from": float(within.min()), "to": float(within.max()), "predicted": float(within.mean())}
        counts = {"cases": share["of"], "positive": share["called"], "observed": share["share"]}
        rows.append(edges | counts | {"low": share["low"], "high": share["high"]})
    return rows


def patient_weight(patients: Array) -> Array:
    """Weigh cases of patients `[N]` so that the weights `[N]` sum to 1 over each patient."""
    _, index, counts = np.unique(patients, return_inverse=True, return_counts=True)
    return 1 / counts[index]


def _fit(method: str, cases: pd.DataFrame, name: str) -> dict:
    score, positive = finite(cases[name].to_numpy(float), f"scores {name!r}"), cases.positive.to_numpy(bool)
    about = {"method": method} | counted(cases)
    if positive.all() or not positive.any():
        reason = f"validation has {about['healthy']} healthy and {about['abnormal']} abnormal cases; both are needed"
    elif np.ptp(score) == 0:
        reason = f"all {len(score)} scores are {score[0]:g}; they must vary"
    else:
        return about | {"parameters": METHODS[method](score, positive, patient_weight(cases.patient.to_numpy()))}
    return about | {"parameters": None, "reason": reason}


def _bin(probability: Array, bins: int) -> Array:
    """The bin `[N]` of each case, a number below `bins`; like scikit-learn's, bins are open below and closed above."""
    if len(probability) == 0:
        return np.zeros(0, int)
    return np.searchsorted(np.quantile(probability, np.arange(1, bins) / bins), probability)


def _checked(probability, positive, weight) -> tuple[Array, Array, Array]:
    probability, positive = finite(np.asarray(probability, float), "probabilities"), np.asarray(positive, bool)
    weight = np.ones(probability.shape) if weight is None else np.asarray(weight, float)
    if probability.ndim != 1 or positive.shape != probability.shape or weight.shape[-1:] != probability.shape:
        shapes = f"{probability.shape}, {positive.shape} and {weight.shape}"
        raise InputError(f"Probabilities, labels and weights have shapes {shapes}; [N], [N] and [..., N] are needed.")
    if outside := int(((probability < 0) | (probability > 1)).sum()):
        raise InputError(f"{outside} of {len(probability)} probabilities lie outside 0 to 1.")
    return probability, positive, weight

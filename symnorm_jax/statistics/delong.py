"""Variance of AUROCs, and of the difference of two on the same cases, without drawing anything again.

DeLong, DeLong & Clarke-Pearson (Biometrics 44, 1988) for independent cases; Obuchowski (Biometrics 53, 1997) where
the cases of one patient, such as its slices, are not independent. With one case a patient the two are the same.
Quantiles are Student's, with one degree of freedom less than there are patients, where those papers take normal ones:
with twenty patients a normal interval is too narrow, and in large cohorts it is the same.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import rankdata, t

from symnorm_jax.errors import InputError
from symnorm_jax.statistics.intervals import Interval


class Comparison(NamedTuple):
    """A paired difference, the bounds of its confidence interval, and the two-sided p-value of no difference."""

    value: float
    low: float
    high: float
    p_value: float


def placements(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each positive `[S, N1]` the share of negatives below it, of each negative `[S, N0]` of positives above it.

    Takes scores `[S, N]`, where larger is more abnormal, and positive `[N]` bool. Ties count half, so both have the
    AUROC as their mean. From ranks, as in Sun & Xu (IEEE Signal Process. Lett. 21, 2014).
    """
    ranks = rankdata(scores, axis=1)
    within = [rankdata(scores[:, chosen], axis=1) for chosen in (positive, ~positive)]
    below = ranks[:, positive] - within[0]
    above = within[0].shape[1] - (ranks[:, ~positive] - within[1])
    return below / max(above.shape[1], 1), above / max(below.shape[1], 1)


def auroc_covariance(
    scores: np.ndarray, positive: np.ndarray, patient: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """AUROC `[S]` of scores `[S, N]` with positive `[N]` bool, and their covariance matrix `[S, S]`.

    Patient `[N]` names the patient of each case (None: every case is independent). NaN are the AUROCs without both
    classes, and the covariances with a class in fewer than two patients. Raises InputError for shapes that differ and
    for scores that are NaN.
    """
    scores, positive, patient = _checked(scores, positive, patient)
    classes = positive, ~positive
    if min(chosen.sum() for chosen in classes) == 0:
        return np.full(len(scores), np.nan), np.full((len(scores), len(scores)), np.nan)
    placed = placements(scores, positive)
    auroc = placed[0].mean(1)
    shares = [
        _shares(x - auroc[:, None], patient[chosen], patient.max() + 1)
        for x, chosen in zip(placed, classes, strict=True)
    ]
    own = sum(_small_sample(patient[chosen]) * x @ x.T for chosen, x in zip(classes, shares, strict=True))
    both = shares[0] @ shares[1].T  # zero where every patient has one class
    return auroc, own + _small_sample(patient) * (both + both.T)


def auroc_interval(
    score: np.ndarray, positive: np.ndarray, patient: np.ndarray | None = None, level: float = 0.95
) -> Interval:
    """AUROC of score `[N]` with its interval, from `auroc_covariance`.

    Symmetric on the logit scale, within 0 and 1 therefore and closer to its level where patients are few (Pepe, The
    Statistical Evaluation of Medical Tests, 2003). The bounds are NaN at an AUROC of 0 or 1, where the variance is 0.
    """
    auroc, covariance = (float(x.squeeze()) for x in auroc_covariance(np.asarray(score)[None], positive, patient))
    if not 0 < auroc < 1:
        return Interval(auroc, np.nan, np.nan)
    reach = _student(positive, patient).ppf((1 + level) / 2) * np.sqrt(max(covariance, 0)) / (auroc * (1 - auroc))
    return Interval(auroc, float(expit(logit(auroc) - reach)), float(expit(logit(auroc) + reach)))


def auroc_difference(
    first: np.ndarray, second: np.ndarray, positive: np.ndarray, patient: np.ndarray | None = None, level: float = 0.95
) -> Comparison:
    """AUROC of score first `[N]` minus that of second `[N]` on the same cases, with the test that they are equal.

    Symmetric interval and two-sided test, from `auroc_covariance`. Scores that order the cases alike have p-value 1.
    """
    auroc, covariance = auroc_covariance(np.stack([first, second]), positive, patient)
    contrast = np.array([1.0, -1.0])
    value, deviation = contrast @ auroc, np.sqrt(np.maximum(contrast @ covariance @ contrast, 0))
    student = _student(positive, patient)
    reach = student.ppf((1 + level) / 2) * deviation
    p_value = 2 * student.sf(abs(value) / np.maximum(deviation, np.finfo(float).tiny))
    return Comparison(float(value), float(value - reach), float(value + reach), float(p_value))


def _student(positive, patient):
    return t(len(positive if patient is None else np.unique(patient)) - 1)


def _checked(scores, positive, patient) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same as arrays, patients as indices."""
    scores, positive = np.asarray(scores), np.asarray(positive, bool)
    patient = np.arange(positive.size) if patient is None else np.asarray(patient)
    if scores.ndim != 2 or not scores.shape[1:] == positive.shape == patient.shape:
        shapes = f"{scores.shape}, {positive.shape} and {patient.shape}"
        raise InputError(f"Scores, labels and patients have shapes {shapes}; [S, N], [N] and [N] are needed.")
    if bad := np.isnan(scores).sum():
        raise InputError(f"{bad} of {scores.size} scores are NaN; every case needs a score.")
    return scores, positive, np.unique(patient, return_inverse=True)[1]


def _shares(deviations: np.ndarray, patient: np.ndarray, patients: int) -> np.ndarray:
    """What each patient adds `[S, P]` to the mean of deviations `[S, M]`."""
    return np.stack([np.bincount(patient, one, patients) for one in deviations]) / len(patient)


def _small_sample(patient: np.ndarray) -> float:
    """The factor that makes a sum of squares over patients an unbiased variance."""
    count = len(np.unique(patient))
    return count / (count - 1) if count > 1 else np.nan

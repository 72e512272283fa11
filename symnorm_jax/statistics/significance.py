"""Whether scores differ: the variance of AUROCs without drawing anything again, p-values, and non-inferiority.

DeLong, DeLong & Clarke-Pearson (Biometrics 44, 1988), and for cases that depend within a patient Obuchowski (Biometrics
53, 1997). Quantiles are Student's, one degree of freedom less than patients: a normal interval of twenty is too narrow.

Functions take scores `[S, N]` or `[N]`, larger is more abnormal, positive `[N]` bool, and patient `[N]` of each case
(None: every case is independent). They raise InputError for shapes that differ and NaN scores.
"""

from collections import namedtuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import rankdata, t

from symnorm_jax.errors import InputError
from symnorm_jax.statistics.intervals import Interval

Comparison = namedtuple("Comparison", (*Interval._fields, "p_value"))  # a paired difference; two-sided p-value
Array, Names = np.ndarray, np.ndarray | None


def placements(scores: Array, positive: Array) -> tuple[Array, Array]:
    """Count shares of negatives below each positive `[S, N1]`, positives above each negative `[S, N0]`; ties half."""
    ranks = rankdata(scores, axis=1)  # Sun & Xu, IEEE Signal Process. Lett. 21 (2014)
    within = [rankdata(scores[:, chosen], axis=1) for chosen in (positive, ~positive)]
    below = ranks[:, positive] - within[0]
    above = within[0].shape[1] - (ranks[:, ~positive] - within[1])
    return below / max(above.shape[1], 1), above / max(below.shape[1], 1)


def auroc_covariance(scores: Array, positive: Array, patient: Names = None) -> tuple[Array, Array]:
    """Estimate AUROCs `[S]` and their covariance `[S, S]`; NaN where a class has fewer than two patients."""
    scores, positive = np.asarray(scores), np.asarray(positive, bool)
    patient = np.arange(positive.size) if patient is None else np.asarray(patient)
    if scores.ndim != 2 or not scores.shape[1:] == positive.shape == patient.shape:
        shapes = f"{scores.shape}, {positive.shape} and {patient.shape}"
        raise InputError(f"Scores, labels and patients have shapes {shapes}; [S, N], [N] and [N] are needed.")
    if bad := np.isnan(scores).sum():
        raise InputError(f"{bad} of {scores.size} scores are NaN; every case needs a score.")
    patient = np.unique(patient, return_inverse=True)[1]
    classes = positive, ~positive
    if min(chosen.sum() for chosen in classes) == 0:
        return np.full(len(scores), np.nan), np.full((len(scores), len(scores)), np.nan)
    placed = placements(scores, positive)
    auroc = placed[0].mean(1)
    shares = []  # what each patient adds [S, P] to the mean over a class
    for placed_of, chosen in zip(placed, classes, strict=True):
        sums = [np.bincount(patient[chosen], x, patient.max() + 1) for x in placed_of - auroc[:, None]]
        shares.append(np.stack(sums) / chosen.sum())
    own = sum(_small_sample(patient[chosen]) * x @ x.T for chosen, x in zip(classes, shares, strict=True))
    both = shares[0] @ shares[1].T  # zero where every patient has one class
    return auroc, own + _small_sample(patient) * (both + both.T)


def auroc_interval(score: Array, positive: Array, patient: Names = None, level: float = 0.95) -> Interval:
    """AUROC, its interval symmetric on the logit scale (Pepe 2003), for few patients; NaN at an AUROC of 0 or 1."""
    auroc, variance = (float(x.squeeze()) for x in auroc_covariance(np.asarray(score)[None], positive, patient))
    if not 0 < auroc < 1:
        return Interval(auroc, np.nan, np.nan)
    reach = _student(positive, patient).ppf((1 + level) / 2) * np.sqrt(max(variance, 0)) / (auroc * (1 - auroc))
    return Interval(auroc, *(float(expit(logit(auroc) + side)) for side in (-reach, reach)))


def auroc_difference(
    one: Array, other: Array, positive: Array, patient: Names = None, level: float = 0.95
) -> Comparison:
    """Subtract the second score's AUROC: a symmetric interval, and a two-sided p, which is 1 for the same order."""
    auroc, covariance = auroc_covariance(np.stack([one, other]), positive, patient)
    contrast = np.array([1.0, -1.0])
    value, deviation = contrast @ auroc, np.sqrt(np.maximum(contrast @ covariance @ contrast, 0))
    student = _student(positive, patient)
    reach = student.ppf((1 + level) / 2) * deviation
    p_value = 2 * student.sf(abs(value) / np.maximum(deviation, np.finfo(float).tiny))
    return Comparison(float(value), float(value - reach), float(value + reach), float(p_value))


def bootstrap_p_value(gaps: np.ndarray) -> float | None:
    """Two-sided p-value, never 0, of replicates `[R]` of a difference; None where half or more are NaN."""
    defined = gaps[~np.isnan(gaps)]
    if 2 * len(defined) <= len(gaps):  # as for the interval
        return None
    return float(min(1.0, 2 * (1 + min((defined <= 0).sum(), (defined >= 0).sum())) / (1 + len(defined))))


def non_inferiority(difference: Interval, margin: float) -> str:
    """Say what an interval of new minus old tells of a loss of `margin`, which must be stated before looking.

    "superior" above 0, "non-inferior" above -margin, "inferior" below -margin, else, and of NaN, "inconclusive". Of a
    two-sided 95 % interval, a loss of just the margin passes in 2.5 %. Raises InputError unless margin is positive,
    finite.
    """
    if not 0 < margin < np.inf:
        raise InputError(f"margin={margin}; a positive, finite loss that would still be accepted is needed.")
    if difference.low > 0:
        return "superior"
    if difference.low > -margin:
        return "non-inferior"
    return "inferior" if difference.high < -margin else "inconclusive"


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust p-values `[M]` of M tests (Holm, Scand. J. Stat. 6, 1979). Raises InputError outside [0, 1], for NaN."""
    p_values = np.asarray(p_values, float)
    if p_values.ndim != 1 or not ((p_values >= 0) & (p_values <= 1)).all():
        raise InputError(f"p-values {p_values.tolist()}; a list of numbers from 0 to 1 is needed.")
    order = np.argsort(p_values)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted


def _student(positive, patient):
    return t(len(positive if patient is None else np.unique(patient)) - 1)


def _small_sample(patient: Array) -> float:
    count = len(np.unique(patient))  # the factor makes a sum of squares over patients an unbiased variance
    return count / (count - 1) if count > 1 else np.nan

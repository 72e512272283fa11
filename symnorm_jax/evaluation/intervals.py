"""Confidence intervals from a bootstrap over patients.

Slices of one patient say much the same thing, so what is drawn again is the patient with all its slices: the
number of patients decides how wide an interval is. One set of replicates serves every metric of every score,
which makes the differences between them paired.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Metric = Callable[[np.ndarray], np.ndarray]  # weights [R, N] to values [R], as partial(auroc, score, positive)

BLOCK = 64  # replicates evaluated together; more only costs memory


class Resamples(NamedTuple):
    """How often each patient, and so each sample, counts in R replicates of a cohort."""

    patients: np.ndarray  # [P] names, sorted
    patient_weight: np.ndarray  # [R, P] int; each row sums to P
    weight: np.ndarray  # [R, N] int, the same by sample


class Interval(NamedTuple):
    """A value and the bounds of its confidence interval, both NaN where no interval can be given."""

    value: float
    low: float
    high: float


def patient_weights(patients: np.ndarray, replicates: int = 1000, seed: int = 0) -> Resamples:
    """Replicates of a cohort with samples of patients `[N]`: each draws P of the P patients with replacement.

    A single patient shows no spread between patients: there are no replicates, and every interval is NaN.
    """
    names, index = np.unique(patients, return_inverse=True)
    replicates = replicates if len(names) > 1 else 0
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), replicates)
    return Resamples(names, draws, draws[:, index])


def interval(metric: Metric, weights: np.ndarray, level: float = 0.95) -> Interval:
    """The metric of the cohort itself, and its percentile interval over the replicates in weights `[R, N]`.

    Replicates in which the metric is undefined (NaN) are left out; if half or more are, the bounds are NaN.
    """
    value = float(metric(np.ones((1, weights.shape[1])))[0])
    blocks = [metric(weights[start : start + BLOCK]) for start in range(0, len(weights), BLOCK)]
    values = np.concatenate([np.empty(0), *blocks])
    defined = values[~np.isnan(values)]
    if 2 * len(defined) <= len(values):
        return Interval(value, np.nan, np.nan)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def difference(first: Metric, second: Metric, weights: np.ndarray, level: float = 0.95) -> Interval:
    """Interval of first minus second, both measured on the same replicates; see `interval`."""
    return interval(lambda weight: first(weight) - second(weight), weights, level)

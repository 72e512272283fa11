"""Confidence intervals from a bootstrap over patients.

What is drawn again is the patient with all its slices, which say much the same thing. One set of replicates serves
every metric of every score, which makes the differences between them paired. With few patients intervals are somewhat
too narrow: in simulations with 20 the 95 % interval of an AUROC covers the truth in 92 to 93 % of cohorts as
percentiles, and in 94 to 95 % as BCa.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from symnorm_jax.errors import InputError
from symnorm_jax.statistics.metrics import ratio

Metric = Callable[[np.ndarray], np.ndarray]  # weights [R, P] to values [R], as partial(auroc, score, positive, ...)
Values = dict[str, float | str | None]  # {"value", "low", "high"} and, where there is no value, perhaps {"reason"}

KINDS = ("percentile", "bca")
BLOCK = 2**22  # weights evaluated together; more only costs memory


class Resamples(NamedTuple):
    """How often each patient, and so each sample, counts in R replicates of a cohort."""

    patients: np.ndarray  # [P] names, sorted
    index: np.ndarray  # [N] int, of each sample's patient among them
    patient_weight: np.ndarray  # [R, P] int; each row sums to P


class Interval(NamedTuple):
    """A value and the bounds of its confidence interval, both NaN where there is none."""

    value: float
    low: float
    high: float


def patient_weights(patients: np.ndarray, replicates: int = 1000, seed: int = 0) -> Resamples:
    """Draw replicates of a cohort with samples of patients `[N]`, with replacement; none, so no interval, of one."""
    names, index = np.unique(patients, return_inverse=True)
    replicates = replicates if len(names) > 1 else 0
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), replicates)
    return Resamples(names, index, draws)


def interval(metric: Metric, weights: np.ndarray, level: float = 0.95, kind: str = "percentile") -> Interval:
    """Measure the metric of the cohort itself, and its interval over the replicates in weights `[R, P]`.

    `percentile` takes their quantiles; `bca` moves them by bias and by how the spread changes with the value (Efron
    1987); columns must be patients. NaN is left out; if half or more are, so are bounds. Raises InputError for another
    kind or level.
    """
    if kind not in KINDS or not 0 < level < 1:
        raise InputError(f"kind={kind!r}, level={level}; one of {list(KINDS)} and a level between 0 and 1 are needed.")
    columns = weights.shape[1]
    without = 1 - np.eye(columns) if kind == "bca" else np.empty((0, columns))
    rows = np.concatenate([np.ones((1, columns)), without, weights])
    block = max(BLOCK // max(columns, 1), 1)
    values = np.concatenate([metric(rows[start : start + block]) for start in range(0, len(rows), block)])
    value, jackknife, replicates = values[0], *np.split(values[1:], [len(without)])
    defined = replicates[~np.isnan(replicates)]
    if 2 * len(defined) <= len(replicates) or np.isnan(value):
        return Interval(float(value), np.nan, np.nan)
    shares = np.array([(1 - level) / 2, (1 + level) / 2])
    if kind == "bca":
        shares = _corrected(shares, value, defined, jackknife)
    low, high = np.quantile(defined, shares)
    return Interval(float(value), float(low), float(high))


def difference(first: Metric, second: Metric, weights: np.ndarray, **how) -> Interval:
    """Measure first minus second on the same replicates; `how` is the level and kind of `interval`."""
    return interval(lambda weight: first(weight) - second(weight), weights, **how)


def averaged(metrics: list[Metric], columns: list[np.ndarray] | None = None) -> Metric:
    """Average metrics of parts of a cohort, such as the folds of a cross-validation; undefined ones are left out.

    `columns` are the places `[P']` of each part's patients among those `[P]` of the weights; without, all know all.
    """
    places = [slice(None)] * len(metrics) if columns is None else columns

    def mean(weights: np.ndarray) -> np.ndarray:
        values = np.stack([metric(weights[:, place]) for metric, place in zip(metrics, places, strict=True)])
        known = ~np.isnan(values)
        return ratio(np.where(known, values, 0).sum(0), known.sum(0))

    return mean


def as_json(found: Interval, reason: str = "") -> Values:
    """Write an interval as JSON, which has no NaN, to six decimals; without a value there is the reason, if given."""
    values = {bound: None if np.isnan(x) else round(float(x), 6) for bound, x in found._asdict().items()}
    return values | ({"reason": reason} if reason and values["value"] is None else {})


def _corrected(shares: np.ndarray, value: float, replicates: np.ndarray, jackknife: np.ndarray) -> np.ndarray:
    """The quantiles to be taken in place of `shares`: Efron (JASA 82, 1987), with ties counting half.

    A value beyond all replicates is taken to lie half a one within; undefined patients do not enter the acceleration.
    """
    half = 0.5 / len(replicates)
    below = ((replicates < value).mean() + (replicates <= value).mean()) / 2
    bias = ndtri(np.clip(below, half, 1 - half))
    jackknife = jackknife[~np.isnan(jackknife)]
    influence = jackknife.mean() - jackknife if len(jackknife) else np.zeros(1)
    spread = (influence**2).sum() ** 1.5
    acceleration = (influence**3).sum() / (6 * spread) if spread > 0 else 0.0
    moved = bias + ndtri(shares)
    return ndtr(bias + moved / np.maximum(1 - acceleration * moved, np.finfo(float).tiny))

"""ROC and precision-recall curves with pointwise bands from the bootstrap over patients, a product of matrices each."""

import numpy as np

from symnorm_jax.statistics.metrics import ratio

MOST = 512  # thresholds; more would not be seen
RATES = np.linspace(0, 1, 101)  # at which sensitivity is read
RECALLS = np.linspace(0.01, 1, 100)  # at which precision is read; at none nothing is called


def counts(score: np.ndarray, positive: np.ndarray, index: np.ndarray, patients: int) -> np.ndarray:
    """Count positive and negative cases at or above each threshold, from the highest down, `[2, P, 1 + T]` int.

    Cases `[N]` are of patients `index` `[N]`. Thresholds are their scores, or MOST of their quantiles where there are
    more; at first nothing is called.
    """
    values = np.unique(score)
    if len(values) > MOST:
        values = np.unique(np.quantile(score, np.linspace(0, 1, MOST), method="lower"))
    place = np.searchsorted(-values[::-1], -score)  # the first threshold, from the highest, that is reached
    tables = np.zeros((2, patients, 1 + len(values)), int)
    for table, chosen in zip(tables, (positive, ~positive), strict=True):
        np.add.at(table, (index[chosen], 1 + place[chosen]), 1)
    return tables.cumsum(2)


def rates(found: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give false-positive rate, sensitivity and precision `[..., 1 + T]` of patients that count `[..., P]` times."""
    true, false = weight @ found
    return ratio(false, false[..., -1:]), ratio(true, true[..., -1:]), ratio(true, true + false)


def roc(found: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sensitivity `[R, 101]` at RATES in replicates with weights `[R, P]`, on straight lines between thresholds."""
    fpr, tpr, _ = rates(found, weights)
    return np.array([np.interp(RATES, x, y) for x, y in zip(fpr, tpr, strict=True)]).reshape(-1, len(RATES))


def precision_recall(found: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Precision `[R, 100]` at the highest threshold that reaches each of RECALLS; nothing is interpolated."""
    _, recall, precision = rates(found, weights)
    reached = [np.minimum(np.searchsorted(row, RECALLS - 1e-9), len(row) - 1) for row in recall]
    return np.array([row[at] for row, at in zip(precision, reached, strict=True)]).reshape(-1, len(RECALLS))


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Pointwise 95 % bounds `[G]` of replicates `[R, G]`; None if half or more of them are undefined."""
    defined = values[~np.isnan(values).any(1)]
    if 2 * len(defined) <= len(values):
        return None
    return tuple(np.quantile(defined, (0.025, 0.975), axis=0))

"""Tests of paired differences: a p-value from replicates, its correction for many tests, and non-inferiority."""

import numpy as np

from symnorm_jax.errors import InputError
from symnorm_jax.statistics.intervals import Interval


def bootstrap_p_value(gaps: np.ndarray) -> float | None:
    """Give the two-sided p-value of no difference: twice the share of its replicates `[R]` beyond none; never 0.

    NaN replicates are left out; None where half or more are.
    """
    defined = gaps[~np.isnan(gaps)]
    if 2 * len(defined) <= len(gaps):  # as for the interval
        return None
    return float(min(1.0, 2 * (1 + min((defined <= 0).sum(), (defined >= 0).sum())) / (1 + len(defined))))


def non_inferiority(difference: Interval, margin: float) -> str:
    """Say what an interval of new minus old tells of a loss of `margin`, which must be stated before looking.

    "superior" above 0, "non-inferior" above -margin, "inferior" below -margin, else "inconclusive", as where it is NaN.
    With a two-sided 95 % interval, a loss of just the margin passes in 2.5 % of trials. Raises InputError unless margin
    is positive and finite.
    """
    if not 0 < margin < np.inf:
        raise InputError(f"margin={margin}; a positive, finite loss that would still be accepted is needed.")
    if difference.low > 0:
        return "superior"
    if difference.low > -margin:
        return "non-inferior"
    return "inferior" if difference.high < -margin else "inconclusive"


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust p-values `[M]` for M tests, in the order given (Holm, Scand. J. Stat. 6, 1979).

    Rejecting what is at most 0.05 makes one false rejection or more in at most 5 %, whatever the dependence. Raises
    InputError for values outside [0, 1], NaN among them.
    """
    p_values = np.asarray(p_values, float)
    if p_values.ndim != 1 or not ((p_values >= 0) & (p_values <= 1)).all():
        raise InputError(f"p-values {p_values.tolist()}; a list of numbers from 0 to 1 is needed.")
    order = np.argsort(p_values)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted

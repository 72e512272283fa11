"""Two methods on the same cases, and shares of cases: exact where cases are independent, by patient where not.

first and second `[N]` bool say of each case whether a method has it right: of the positives for sensitivities, of
the negatives for specificities, of all for accuracies. Patient `[N]` names the patient of each case (None: every
case is independent).
"""

import numpy as np
from scipy.stats import binomtest, chi2, t

from symnorm_jax.errors import InputError
from symnorm_jax.statistics.intervals import Interval


def mcnemar(first: np.ndarray, second: np.ndarray, patient: np.ndarray | None = None) -> float:
    """Two-sided p-value of the hypothesis that both methods are right equally often.

    Independent cases: the exact test of McNemar (1947), which asks whether of the cases that one method alone has
    right half fall to each. With patients: chi-squared with one degree of freedom of Durkalski et al. (Stat. Med. 22,
    2003), in which every patient counts the same, however many cases it has. 1 where the methods never differ.
    """
    gap, patient = _gap(first, second, patient)
    if len(np.unique(patient)) == len(gap):
        return float(binomtest(int((gap > 0).sum()), int((gap != 0).sum())).pvalue) if gap.any() else 1.0
    means = np.bincount(patient, gap) / np.bincount(patient)
    return float(chi2.sf(means.sum() ** 2 / (means**2).sum(), 1)) if means.any() else 1.0


def bootstrap_p_value(gaps: np.ndarray) -> float | None:
    """Two-sided p-value of the hypothesis of no difference, from its replicates `[R]`; never 0.

    Twice the share of replicates on the far side of none. NaN replicates are left out; None where half or more are.
    """
    defined = gaps[~np.isnan(gaps)]
    if 2 * len(defined) <= len(gaps):  # as for the interval
        return None
    return float(min(1.0, 2 * (1 + min((defined <= 0).sum(), (defined >= 0).sum())) / (1 + len(defined))))


def proportion_difference(
    first: np.ndarray, second: np.ndarray, patient: np.ndarray | None = None, level: float = 0.95
) -> Interval:
    """Share that the first method has right, minus that of the second, with an interval over patients.

    The variance is that of a ratio estimator over clusters (Obuchowski, Stat. Med. 17, 1998), in which every case
    counts the same; the quantile is Student's with one degree of freedom less than there are patients. The bounds are
    NaN for fewer than two patients.
    """
    gap, patient = _gap(first, second, patient)
    count = len(np.unique(patient))
    value = float(gap.mean()) if len(gap) else np.nan
    if count < 2:
        return Interval(value, np.nan, np.nan)
    deviation = np.sqrt(count / (count - 1) * (np.bincount(patient, gap - value) ** 2).sum()) / len(gap)
    reach = float(t.ppf((1 + level) / 2, count - 1) * deviation)
    return Interval(value, value - reach, value + reach)


def non_inferiority(difference: Interval, margin: float) -> str:
    """What an interval of new minus old says of a loss of `margin`, which must be stated before looking.

    "superior" where it lies above 0, "non-inferior" where it lies above -margin, "inferior" where it lies below
    -margin, else "inconclusive", as where it is NaN. With a two-sided 95 % interval, a loss of just the margin passes
    in 2.5 % of trials. Raises InputError unless margin is positive and finite.
    """
    if not 0 < margin < np.inf:
        raise InputError(f"margin={margin}; a positive, finite loss that would still be accepted is needed.")
    if difference.low > 0:
        return "superior"
    if difference.low > -margin:
        return "non-inferior"
    return "inferior" if difference.high < -margin else "inconclusive"


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values `[M]` adjusted for M tests, in the order given (Holm, Scand. J. Stat. 6, 1979).

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


def _gap(first, second, patient) -> tuple[np.ndarray, np.ndarray]:
    """Of each case 1 where the first method alone is right, -1 where the second alone is; patients as indices."""
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    patient = np.arange(first.size) if patient is None else np.asarray(patient)
    if first.ndim != 1 or not first.shape == second.shape == patient.shape:
        shapes = f"{first.shape}, {second.shape} and {patient.shape}"
        raise InputError(f"First, second and patients have shapes {shapes}; [N] each is needed.")
    return first.astype(int) - second, np.unique(patient, return_inverse=True)[1]

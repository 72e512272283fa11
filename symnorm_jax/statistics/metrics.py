"""How well a score separates, or a number is predicted, in a cohort and in all its bootstrap replicates at once.

A metric takes score `[N]`, larger is more abnormal, or what is `called` abnormal `[N]` bool, and positive `[N]` bool.
Weight `[..., P]` says how often each patient counts (None: once; leading axes are replicates), and patient `[N]` is the
index of each sample's patient (None: each is its own). It returns `[...]` in float64, NaN where it is undefined, and
raises InputError for shapes that differ and NaN scores. One of numbers takes predicted and target `[N]` instead.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import csr_array

from symnorm_jax.errors import InputError

Array = np.ndarray
Maybe = np.ndarray | None


def auroc(score: Array, positive: Array, weight: Maybe = None, patient: Maybe = None) -> Array:
    """Measure the share of positive-negative pairs whose positive scores higher, ties counting half (Mann-Whitney)."""
    return auroc_within(score, positive, np.zeros(np.size(score)), weight, patient)


def auroc_within(score: Array, positive: Array, stratum: Array, weight: Maybe = None, patient: Maybe = None) -> Array:
    """Measure the AUROC of pairs within one stratum `[N]` only: what differs between strata earns nothing."""
    score, positive, weight, patient = _checked(score, positive, weight, patient)
    counts = pair_counts(score, positive, patient, weight.shape[-1], stratum)
    return ratio(*(_quadratic(weight, count) for count in counts))


def auroc_within_person(score: Array, positive: Array, weight: Array, patient: Array) -> Array:
    """Measure the share of positive-negative pairs of one patient whose positive scores higher, ties counting half.

    Whoever is drawn twice counts as two people, who have twice as many such pairs; in `auroc_within` four times.
    """
    score, positive, weight, patient = _checked(score, positive, weight, patient)
    one, other = np.nonzero(positive[:, None] & ~positive & (patient[:, None] == patient))
    weight = weight[..., patient[one]]
    return ratio(weight @ np.heaviside(score[one] - score[other], 0.5), weight.sum(-1))


def auroc_adjusted(
    score: Array, positive: Array, covariates: Array, weight: Maybe = None, patient: Maybe = None
) -> Array:
    """Measure the AUROC of what a linear regression on covariates `[N, K]` among the negatives leaves of the score.

    That of Janes & Pepe (Biometrika 96, 2009), fitted once. NaN without more negatives than coefficients. Raises
    InputError for covariates of another shape, or not finite.
    """
    score, positive, known, _ = _checked(score, positive, weight, patient)
    covariates = np.asarray(covariates, float)
    shape = covariates.shape
    if shape[:1] != score.shape or len(shape) != 2 or not np.isfinite(covariates).all():
        raise InputError(f"Covariates have shape {shape} for {len(score)} scores; finite [N, K] ones are needed.")
    if (~positive).sum() <= shape[1] + 1:
        return np.full(known.shape[:-1], np.nan)
    scaled = (covariates - covariates.mean(0)) / np.maximum(covariates.std(0), np.finfo(float).tiny)
    design = np.column_stack([np.ones(len(score)), scaled])
    coefficients, *_ = np.linalg.lstsq(design[~positive], score[~positive].astype(float))
    residual = (score - design @ coefficients) / max(score.std(), np.finfo(float).tiny)
    return auroc(residual.round(9), positive, weight, patient)  # what the covariates explain wholly is a tie, no noise


def partial_auroc(
    score: Array, positive: Array, weight: Maybe = None, patient: Maybe = None, most_false: float = 0.1
) -> Array:
    """Measure the area under the ROC curve up to rate `most_false`, standardised (McClish 1989): by chance 0.5."""
    if not 0 < most_false <= 1:
        raise InputError(f"most_false={most_false}; a rate above 0 and at most 1 is needed.")
    # Interpolated linearly, as through ties.
    area, true, false = _area_by_thresholds(_trapezium, most_false, score, positive, weight, patient)
    chance = most_false**2 / 2
    return (1 + (ratio(area, false * true) - chance) / (most_false - chance)) / 2


def average_precision(score: Array, positive: Array, weight: Maybe = None, patient: Maybe = None) -> Array:
    """Average the precision at the score of each positive, ties as one; NaN without positives, or without negatives."""
    area, true, false = _area_by_thresholds(_step_of_precision, 1, score, positive, weight, patient)
    return ratio(area, np.where(false > 0, true, 0))


def prevalence(positive: Array, weight: Maybe = None, patient: Maybe = None) -> Array:
    """Measure the share of positives: the average precision, and if above one half the accuracy, of knowing nothing."""
    return accuracy(np.ones(len(positive), bool), positive, weight, patient)


def _share(parts: Callable) -> Callable:
    """Make a metric of called and positive: the weighted count of one part of the samples by that of another."""

    def metric(called: Array, positive: Array, weight: Maybe = None, patient: Maybe = None) -> Array:
        called, positive, weight, patient = _checked(called, positive, weight, patient)
        return ratio(*(_total(one, weight, patient) for one in parts(called.astype(bool), positive)))

    return metric


sensitivity = _share(lambda called, positive: (called & positive, positive))
specificity = _share(lambda called, positive: (~called & ~positive, ~positive))  # one minus the false-positive rate
positive_predictive_value = _share(lambda called, positive: (called & positive, called))  # at the cohort's prevalence
negative_predictive_value = _share(lambda called, positive: (~called & ~positive, ~called))
f1 = _share(lambda called, positive: (2 * (called & positive), 1 * called + positive))  # harmonic mean of two of these
accuracy = _share(lambda called, positive: (called == positive, called | True))


def balanced_accuracy(called: Array, positive: Array, weight: Maybe = None, patient: Maybe = None) -> Array:
    """Average sensitivity and specificity."""
    return np.mean([of(called, positive, weight, patient) for of in (sensitivity, specificity)], 0)


def mean_absolute_error(predicted: Array, target: Array, weight: Array, patient: Array) -> Array:
    """Average the absolute difference, in the unit of the target."""
    return _mean(np.abs(predicted - target), weight[:, patient])


def root_mean_squared_error(predicted: Array, target: Array, weight: Array, patient: Array) -> Array:
    """Root of the mean squared difference, in the unit of the target."""
    return np.sqrt(_mean((predicted - target) ** 2, weight[:, patient]))


def determination(predicted: Array, target: Array, weight: Array, patient: Array) -> Array:
    """1 - squared error over the variance of the target; NaN where the target does not vary."""
    weight = weight[:, patient]
    variance = _mean(target**2, weight) - _mean(target, weight) ** 2
    return 1 - _over(_mean((predicted - target) ** 2, weight), variance)


def correlation(predicted: Array, target: Array, weight: Array, patient: Array) -> Array:
    """Measure Pearson's correlation; NaN where either does not vary."""
    (p, t), weight = (x - x.mean() for x in (predicted, target)), weight[:, patient]
    shared = _mean(p * t, weight) - _mean(p, weight) * _mean(t, weight)
    spread = (np.maximum(_mean(x**2, weight) - _mean(x, weight) ** 2, 0) for x in (p, t))
    return _over(shared, np.sqrt(np.multiply(*spread)))


def pair_counts(score: Array, positive: Array, patient: Array, patients: int, stratum: Array) -> tuple[Array, Array]:
    """Count pairs, `[P, P]`: concordant K, ties half, and all N; for weights w the AUROC is w'Kw / w'Nw."""
    concordant, pairs = np.zeros((2, patients, patients))
    for one in np.unique(stratum):
        rows = [np.flatnonzero((stratum == one) & chosen) for chosen in (positive, ~positive)]
        above, below = (csr_array((np.ones(len(r)), (patient[r], range(len(r)))), (patients, len(r))) for r in rows)
        order = np.argsort(score[rows[1]])
        lower = np.zeros((len(order) + 1, patients))  # how many of the k lowest negatives are patient q's
        lower[1:] = below.T[order].toarray().cumsum(0)
        ends = (np.searchsorted(score[rows[1]][order], score[rows[0]], side) for side in ("left", "right"))
        concordant += above @ sum(lower[end] for end in ends) / 2
        pairs += np.outer(above.sum(1), below.sum(1))
    return concordant, pairs


def ratio(part: Array, whole: Array) -> Array:
    """Divide part by whole; NaN where the whole is not above 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _checked(score, positive, weight, patient) -> tuple[Array, Array, Array, Array]:
    """The same as arrays; where everybody counts once, all samples are one patient's, which is as good and quicker."""
    score, positive = np.asarray(score), np.asarray(positive, bool)
    index = np.arange(score.size) if patient is None else np.asarray(patient)
    counts = np.ones(index.max(initial=-1) + 1) if weight is None else np.asarray(weight, float)
    if score.ndim != 1 or positive.shape != score.shape or patient is None and counts.shape[-1:] != score.shape:
        shapes = f"{score.shape}, {positive.shape} and {counts.shape}"
        raise InputError(f"Scores, labels and weights have shapes {shapes}; [N], [N] and [..., N] are needed.")
    if index.shape != score.shape or index.size and not 0 <= index.min() <= index.max() < counts.shape[-1]:
        found = f"shape {index.shape} for {len(score)} scores and {counts.shape[-1]} weights"
        raise InputError(f"Patients have {found}; [N] indices below the number of weights are needed.")
    if bad := np.isnan(score).sum():
        raise InputError(f"{bad} of {len(score)} scores are NaN; every sample needs a score.")
    return (score, positive, np.ones(1), np.zeros_like(index)) if weight is None else (score, positive, counts, index)


def _mean(x: Array, weight: Array) -> Array:
    return _over(weight @ x, weight.sum(1))


def _over(part: Array, whole: Array) -> Array:
    """The ratio; a variance below 1e-12 is what rounding left of none."""
    return ratio(part, np.where(whole > 1e-12, whole, 0))


def _quadratic(weight, matrix) -> Array:
    with jax.enable_x64(True):  # float32 would not give the value itself
        return np.asarray(_products(weight, matrix))


@jax.jit
def _products(weight, matrix):
    return jnp.einsum("...p,...p->...", weight @ matrix, weight)


def _total(values, weight, patient) -> Array:
    return weight @ np.bincount(patient, values, weight.shape[-1])


def _area_by_thresholds(piece: Callable, most_false, score, positive, weight, patient) -> tuple[Array, Array, Array]:
    """Sum `[...]` of pieces between neighbouring thresholds up to a share of negatives; positives and negatives."""
    score, positive, weight, patient = _checked(score, positive, weight, patient)
    true, false = (_total(chosen, weight, patient) for chosen in (positive, ~positive))
    order = np.argsort(score)[::-1]
    ranked = score[order]
    last_of_ties = np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)]
    samples = patient[order], positive[order], last_of_ties
    lanes = np.ascontiguousarray(weight.reshape(-1, weight.shape[-1]).T)
    with jax.enable_x64(True):
        area = np.asarray(_scan(piece, lanes, np.ravel(most_false * false), samples))
    return area.reshape(weight.shape[:-1]), true, false


@partial(jax.jit, static_argnames="piece")
def _scan(piece: Callable, weight, limit, samples):
    """One sample after the other, highest score first, in all replicates at once: weight `[P, R]`, limit `[R]`."""

    def step(carry, sample):
        before, counts, area = carry
        patient, positive, ends = sample
        counts = counts + weight[patient][None] * jnp.stack([positive, ~positive])[:, None]
        area = area + jnp.where(ends, piece(before, counts, limit), 0)
        return (jnp.where(ends, counts, before), counts, area), None

    none = jnp.zeros((2, *limit.shape), weight.dtype)
    return jax.lax.scan(step, (none, none, none[0]), samples)[0][2]


def _step_of_precision(before, counts, limit):
    return (counts[0] - before[0]) * counts[0] / jnp.maximum(counts[0] + counts[1], jnp.finfo(float).tiny)


def _trapezium(before, counts, limit):
    """Under the ROC curve between two thresholds, as far as `limit` false positives reach."""
    rise, run = counts - before
    width = jnp.clip(limit - before[1], 0, run)
    return width * (before[0] + rise * width / jnp.maximum(run, jnp.finfo(float).tiny) / 2)

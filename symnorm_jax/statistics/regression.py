"""How far a predicted number is from the true one, in a cohort and in all its bootstrap replicates at once.

A metric takes predicted, target and the index of the patient `[N]`, and how often patients count, weight `[R, P]`.
"""

import numpy as np

from symnorm_jax.statistics.metrics import ratio

Array = np.ndarray


def mean_absolute_error(predicted: Array, target: Array, weight: Array, patient: Array) -> Array:
    """Mean absolute difference, in the unit of the target."""
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
    """Pearson's correlation; NaN where either does not vary."""
    (p, t), weight = (x - x.mean() for x in (predicted, target)), weight[:, patient]
    shared = _mean(p * t, weight) - _mean(p, weight) * _mean(t, weight)
    spread = (np.maximum(_mean(x**2, weight) - _mean(x, weight) ** 2, 0) for x in (p, t))
    return _over(shared, np.sqrt(np.multiply(*spread)))


def _mean(x: Array, weight: Array) -> Array:
    return _over(weight @ x, weight.sum(1))


def _over(part: Array, whole: Array) -> Array:
    """The ratio; a variance below 1e-12 is what rounding left of none."""
    return ratio(part, np.where(whole > 1e-12, whole, 0))

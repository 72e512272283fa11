"""How well a number or a class is predicted, with intervals from a bootstrap over patients."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.evaluation.levels import Values, plain, resamples
from symnorm_jax.scoring.predictions import POPULATIONS
from symnorm_jax.statistics import metrics
from symnorm_jax.statistics.intervals import Metric, interval

PRIMARY = {"number": "mean_absolute_error", "class": "auroc"}
EVEN = 0.5  # the probability from which a class is called


def of_predictions(table: pd.DataFrame, config: ConfigDict) -> dict[str, dict]:
    """`{population: {"patients", "scans", metric: values}}` of the test rows of a `prediction_table`."""
    test = table[table.split == "test"]
    found = {name: test[test.population == name] for name in POPULATIONS}
    return {name: _of_population(rows, config) for name, rows in found.items() if len(rows)}


def _of_population(rows: pd.DataFrame, config: ConfigDict) -> dict:
    values = values_of([rows], config)
    return {"patients": int(rows.patient.nunique()), "scans": len(rows)} | values


def values_of(tables: list[pd.DataFrame], config: ConfigDict) -> dict[str, Values]:
    """Every metric with its interval: its mean over `tables` of the same people, such as those of several seeds."""
    drawn, kind = resamples(tables[0], config), config.evaluation.interval
    found = measures(tables, config.target.kind, drawn.index)
    return {name: plain(interval(of, drawn.patient_weight, kind=kind)) for name, of in found.items()}


def measures(tables: list[pd.DataFrame], kind: str, index: np.ndarray) -> dict[str, Metric]:
    """`{metric: weights [R, P] -> values [R]}`, in the mean over `tables`; `index` `[N]` is each row's patient.

    Of a number: mean absolute error and root of the mean squared error, in its unit, the coefficient of determination,
    and Pearson's correlation. Of a class: AUROC, average precision, and accuracy and balanced accuracy at a probability
    of 0.5.
    """
    made = [(_of_number if kind == "number" else _of_class)(table, index) for table in tables]
    return {name: partial(_mean, [one[name] for one in made]) for name in made[0]}


def _mean(parts: list[Metric], weight: np.ndarray) -> np.ndarray:
    return np.mean([part(weight) for part in parts], 0)


def _of_number(table: pd.DataFrame, index: np.ndarray) -> dict[str, Metric]:
    predicted, target = table.predicted.to_numpy(float), table.target.to_numpy(float)
    of = {"mean_absolute_error": mean_absolute_error, "rmse": root_mean_squared_error}
    of |= {"r2": determination, "correlation": correlation}
    return {name: partial(_by_patient, one, predicted, target, index) for name, one in of.items()}


def _by_patient(of: Callable, predicted: np.ndarray, target: np.ndarray, index: np.ndarray, weight: np.ndarray):
    return of(predicted, target, weight[:, index])


def _of_class(table: pd.DataFrame, index: np.ndarray) -> dict[str, Metric]:
    probability, positive = table.predicted.to_numpy(float), table.target.to_numpy(float) > 0
    return {
        "auroc": partial(metrics.auroc, probability, positive, patient=index),
        "average_precision": partial(metrics.average_precision, probability, positive, patient=index),
        "accuracy": partial(metrics.accuracy, probability, positive, EVEN, patient=index),
        "balanced_accuracy": partial(_balanced, probability, positive, index),
    }


def _balanced(probability: np.ndarray, positive: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
    both = (metrics.sensitivity, metrics.specificity)
    return np.mean([of(probability, positive, EVEN, weight, patient=index) for of in both], 0)


def mean_absolute_error(predicted: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`[N]`, `[N]`, weights `[R, N]` to `[R]`."""
    return _average(np.abs(predicted - target), weight)


def root_mean_squared_error(predicted: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`[N]`, `[N]`, weights `[R, N]` to `[R]`."""
    return np.sqrt(_average((predicted - target) ** 2, weight))


def determination(predicted: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """1 - squared error over the variance of the target, `[R]`; NaN where the target does not vary."""
    variance = _average(target**2, weight) - _average(target, weight) ** 2
    return 1 - _over(_average((predicted - target) ** 2, weight), variance)


def correlation(predicted: np.ndarray, target: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Pearson's, `[R]`; NaN where either does not vary."""
    p, t = (x - x.mean() for x in (predicted, target))
    means = _average(p, weight), _average(t, weight)
    shared = _average(p * t, weight) - means[0] * means[1]
    spread = [_average(x**2, weight) - mean**2 for x, mean in zip((p, t), means, strict=True)]
    return _over(shared, np.sqrt(np.maximum(spread[0], 0) * np.maximum(spread[1], 0)))


def _average(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return _over(weight @ x, weight.sum(1))


def _over(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 1e-12, part / whole, np.nan)

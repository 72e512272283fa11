"""Slices and patients judged by every score: how well they are separated, and what is done at the threshold."""

from functools import partial

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.progress import progress
from symnorm_jax.scoring.scores import own
from symnorm_jax.scoring.thresholds import threshold_of
from symnorm_jax.statistics import metrics
from symnorm_jax.statistics.delong import auroc_interval
from symnorm_jax.statistics.intervals import Interval, Metric, Resamples, difference, interval, patient_weights

WITHIN = "auroc_within_position"
OPERATION = {
    "accuracy": metrics.accuracy,
    "sensitivity": metrics.sensitivity,
    "specificity": metrics.specificity,
    "positive_predictive_value": metrics.positive_predictive_value,
    "negative_predictive_value": metrics.negative_predictive_value,
    "f1": metrics.f1,
}

Values = dict[str, float | None]  # {"value", "low", "high"}


def of_cases(
    cases: pd.DataFrame, names: list[str], thresholds: dict, config: ConfigDict
) -> dict[str, dict[str, Values]]:
    """`{score: {metric: values}}` of the scores `names` of the test cases of one level.

    `thresholds` are `{score: {rule: fit}}`. Every score of a system also has `<metric>_minus_<baseline>`, its paired
    difference from each trivial score in the primary metric of the level. `auroc_delong` is the AUROC again, its
    interval from a formula and not from the bootstrap.
    """
    drawn = resamples(cases, config)
    separation = {name: separations(cases, name, config, drawn) for name in names}
    results = {}
    for name in progress(names, "evaluating", len(names)):
        found = separation[name] | _operation(cases, name, thresholds[name][config.score.threshold], drawn)
        values = {"auroc_delong": auroc_interval(cases[name], cases.positive, cases.patient)}
        values |= {
            metric: interval(of, drawn.patient_weight, kind=config.evaluation.interval) for metric, of in found.items()
        }
        if own(name):
            metric = primary(cases)
            for other in (one for one in names if not own(one)):
                pair = separation[name][metric], separation[other][metric]
                gap = difference(*pair, drawn.patient_weight, kind=config.evaluation.interval)
                values[f"{metric}_minus_{other}"] = gap
        results[name] = {metric: plain(value) for metric, value in values.items()}
    return results


def primary(cases: pd.DataFrame) -> str:
    """The metric that decides: of slices AUROC within position, for position alone tells much; of patients AUROC."""
    return WITHIN if "slice" in cases else "auroc"


def resamples(cases: pd.DataFrame, config: ConfigDict) -> Resamples:
    """The bootstrap over the patients of these cases that every number of a run shares."""
    return patient_weights(cases.patient.to_numpy(), config.evaluation.replicates, config.seed)


def separations(cases: pd.DataFrame, name: str, config: ConfigDict, drawn: Resamples) -> dict[str, Metric]:
    """Metrics that need no threshold; of slices also those that control for their position and brain area."""
    score, positive = cases[name].to_numpy(float), cases.positive.to_numpy()
    found = {
        "auroc": partial(metrics.auroc, score, positive, patient=drawn.index),
        "partial_auroc": partial(metrics.partial_auroc, score, positive, patient=drawn.index),
        "average_precision": partial(metrics.average_precision, score, positive, patient=drawn.index),
        "prevalence": partial(metrics.prevalence, positive, patient=drawn.index),
    }
    if "slice" not in cases:
        return found
    position, area = cases.position.to_numpy(), cases.brain_mm2.to_numpy()
    strata = {
        WITHIN: np.digitize(position, np.linspace(0, 1, config.evaluation.strata + 1)[1:-1]),
        "auroc_within_area": np.digitize(
            area, np.quantile(area, np.linspace(0, 1, config.evaluation.strata + 1)[1:-1])
        ),
    }
    for metric, stratum in strata.items():
        found[metric] = partial(metrics.auroc_within, score, positive, stratum, patient=drawn.index)
    covariates = np.column_stack([position, position**2, area])
    found["auroc_adjusted"] = partial(metrics.auroc_adjusted, score, positive, covariates, patient=drawn.index)
    return found


def plain(found: Interval) -> Values:
    """An interval as JSON, which has no NaN."""
    return {bound: None if np.isnan(value) else round(float(value), 6) for bound, value in found._asdict().items()}


def _operation(cases: pd.DataFrame, name: str, fit: dict, drawn: Resamples) -> dict[str, Metric]:
    """Metrics at the threshold from validation, where there is one."""
    if fit["value"] is None:
        return {}
    score, positive, threshold = cases[name].to_numpy(), cases.positive.to_numpy(), threshold_of(fit, cases)
    return {metric: partial(of, score, positive, threshold, patient=drawn.index) for metric, of in OPERATION.items()}

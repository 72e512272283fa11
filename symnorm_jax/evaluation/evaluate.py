"""Scores and maps of a run's test split to numbers with intervals, from the run's files alone."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data.manifest import read_table
from symnorm_jax.evaluation import metrics
from symnorm_jax.evaluation.cases import LEVELS, cases_at
from symnorm_jax.evaluation.intervals import Interval, Metric, difference, interval, patient_weights
from symnorm_jax.files import load_arrays, read_json
from symnorm_jax.scoring.embed import Arrays, mirror_difference
from symnorm_jax.scoring.scores import score_names
from symnorm_jax.training.runlog import progress

Results = dict[str, dict[str, dict[str, dict[str, float | None]]]]
WITHIN = "auroc_within_position"


def evaluate(workdir: Path, config: ConfigDict) -> Results:
    """`{"slice" | "patient" | "pixel": {score: {metric: {"value", "low", "high"}}}}` of the test split.

    Baselines are named `baseline_*`. Intervals are 95 %, from a bootstrap over patients; what is undefined, such as
    the AUROC where everybody is diseased, is None. `<metric>_minus_<baseline>` is a paired difference.
    """
    table = read_table(workdir / "scores.csv")
    thresholds = read_json(workdir / "thresholds.json")
    results = {}
    for level in LEVELS:
        cases = cases_at(level, table, "test", config.score.patient)
        if level == "slice":
            edges = np.linspace(0, 1, config.evaluation.position_strata + 1)[1:-1]
            cases["stratum"] = np.digitize(cases.position, edges)
        chosen = {name: rules[config.score.threshold]["value"] for name, rules in thresholds[level].items()}
        results[level] = _of_cases(cases, table, chosen, config)
    arrays = load_arrays(workdir / "embeddings" / "test.npz")
    rows = table.loc[arrays["index"]]
    drawn = ((rows.label != "abnormal") | (rows.lesion_mm2 > 0)).to_numpy()  # elsewhere the truth is not known
    if "map" in arrays and arrays["lesion"][drawn].any():
        arrays = {name: x[drawn] for name, x in arrays.items()}
        results["pixel"] = _of_pixels(arrays, rows.patient.to_numpy()[drawn], config)
    return results


def _of_cases(cases: pd.DataFrame, table: pd.DataFrame, chosen: dict[str, float | None], config: ConfigDict) -> dict:
    weights = patient_weights(cases.patient.to_numpy(), config.evaluation.replicates, config.seed).weight
    baselines = score_names(table, baselines=True)
    names = score_names(table) + baselines
    separation = {name: _separation(cases, name) for name in names}
    results = {}
    for name in progress(names, "evaluating", len(names)):
        found = {metric: interval(of, weights) for metric, of in separation[name].items()}
        if chosen[name] is not None:
            found |= {metric: interval(of, weights) for metric, of in _operation(cases, name, chosen[name]).items()}
        if name not in baselines:
            metric = WITHIN if WITHIN in separation[name] else "auroc"
            for other in baselines:
                gap = difference(separation[name][metric], separation[other][metric], weights)
                found[f"{metric}_minus_{other}"] = gap
        results[name] = {metric: _plain(value) for metric, value in found.items()}
    return results


def _separation(cases: pd.DataFrame, name: str) -> dict[str, Metric]:
    """Metrics that need no threshold."""
    score, positive = cases[name].to_numpy(float), cases.positive.to_numpy()
    found = {
        "auroc": partial(metrics.auroc, score, positive),
        "average_precision": partial(metrics.average_precision, score, positive),
        "prevalence": partial(metrics.prevalence, positive),
    }
    if "stratum" in cases:
        found[WITHIN] = partial(metrics.auroc_within, score, positive, cases.stratum.to_numpy())
    return found


def _operation(cases: pd.DataFrame, name: str, threshold: float) -> dict[str, Metric]:
    """Metrics at the threshold from validation."""
    score, positive = cases[name].to_numpy(float), cases.positive.to_numpy()
    return {
        "accuracy": partial(metrics.accuracy, score, positive, threshold),
        "sensitivity": partial(metrics.sensitivity, score, positive, threshold),
        "specificity": partial(metrics.specificity, score, positive, threshold),
    }


def _of_pixels(arrays: Arrays, patients: np.ndarray, config: ConfigDict) -> dict:
    """Average precision over all brain pixels of all test slices, of the system's map and of two trivial ones."""
    image, brain = arrays["image"].astype(np.float32), arrays["brain"]
    maps = {
        "map": arrays["map"].astype(np.float32),
        "baseline_brightness": image,
        "baseline_mirror": mirror_difference(image, arrays["brain"]),
    }
    resamples = patient_weights(patients, config.evaluation.replicates, config.seed)
    results = {}
    for name, values in progress(maps.items(), "evaluating pixels", len(maps)):
        edges = metrics.pixel_edges(values[brain])
        counts = [
            metrics.pixel_counts(values[rows][brain[rows]], arrays["lesion"][rows][brain[rows]], edges)
            for rows in (patients == patient for patient in resamples.patients)
        ]
        counts = np.stack(counts)
        found = interval(partial(metrics.average_precision_from_counts, counts), resamples.patient_weight)
        share = counts[:, 1].sum() / counts.sum()
        results[name] = {"average_precision": _plain(found), "prevalence": _plain(Interval(share, np.nan, np.nan))}
    return results


def _plain(found: Interval) -> dict[str, float | None]:
    """An interval as JSON, which has no NaN."""
    return {bound: None if np.isnan(value) else round(float(value), 6) for bound, value in found._asdict().items()}

"""Cases of one level, or of its groups of people, judged by what MEASURES lists, with intervals over patients."""

from functools import partial

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.evaluation.measures import of_level, sample_of
from symnorm_jax.progress import progress
from symnorm_jax.scoring.conformal import group_labels
from symnorm_jax.scoring.scores import own
from symnorm_jax.scoring.thresholds import called, realised
from symnorm_jax.statistics.intervals import Metric, Resamples, Values, as_json, difference, interval, patient_weights
from symnorm_jax.statistics.significance import auroc_interval

MOST = 12  # groups of one column; a column with more, such as a name, is none

Table = pd.DataFrame
Judged, Metrics = dict[str, Values], dict[str, Metric]


def of_cases(cases: Table, names: list[str], thresholds: dict, config: ConfigDict) -> dict[str, Judged]:
    """Measure scores `names` of a level's test cases, thresholds `{score: {rule: fit}}`: `{score: {measure: values}}`.

    Scores of a system also have `<measure>_minus_<other>`, their paired difference from each trivial score in the
    level's primary measure. `auroc_delong` is the AUROC with its interval from a formula.
    """
    drawn, kind, decides = resamples(cases, config), config.evaluation.interval, primary(cases, config)
    rule, results = config.score.threshold, {}
    made = {name: separations(cases, name, config, drawn, thresholds[name][rule]) for name in names}
    for name in progress(names, "evaluating", len(names)):
        values = {"auroc_delong": auroc_interval(cases[name], cases.positive, cases.patient)}
        values |= {measure: interval(of, drawn.patient_weight, kind=kind) for measure, of in made[name].items()}
        for other in (one for one in names if own(name) and not own(one)):
            pair = made[name][decides], made[other][decides]
            values[f"{decides}_minus_{other}"] = difference(*pair, drawn.patient_weight, kind=kind)
        results[name] = {measure: as_json(value) for measure, value in values.items()}
    return results


def primary(cases: Table, config: ConfigDict) -> str:
    """Name the measure that decides: of slices AUROC within position, for position alone tells much; else AUROC."""
    return of_level(_level(cases, config))[0].name


def resamples(cases: Table, config: ConfigDict) -> Resamples:
    """Draw the bootstrap over the patients of these cases that every number of a run shares."""
    return patient_weights(cases.patient.to_numpy(), config.evaluation.replicates, config.seed)


def separations(cases: Table, name: str, config: ConfigDict, drawn: Resamples, fit: dict | None = None) -> Metrics:
    """Make the measures of a score that the cases' level has, but for DeLong's; those at a threshold need its `fit`."""
    score, positive = cases[name].to_numpy(float), cases.positive.to_numpy()
    given = {"scores": (score, positive), "labels": (positive,)}
    if fit and fit["value"] is not None:
        given["threshold"] = called(fit, cases, name), positive
    if cases.groupby("patient").positive.nunique().max() == 2:  # somebody was there healthy and abnormal
        given["pairs"] = score, positive
    if "slice" in cases:
        position, area = cases.position.to_numpy(), cases.brain_mm2.to_numpy()
        band = np.digitize(position, np.linspace(0, 1, config.evaluation.strata + 1)[1:-1])
        given |= {"position": (score, positive, band)}
        given |= {"covariates": (score, positive, np.column_stack([position, position**2, area]))}
    listed = [one for one in of_level(_level(cases, config)) if one.of and one.needs in given]
    return {one.name: partial(one.of, *given[one.needs], patient=drawn.index) for one in listed}


def of_groups(cases: Table, name: str, fit: dict, columns: list[str], config: ConfigDict) -> dict[str, dict]:
    """Judge a score in each group of the `columns`, such as site: `{column: {group: {...}}}`.

    A group has `patients`, `cases`, `abnormal`, the primary measure with its interval, and what `realised` counts by
    `fit`. A column in which everybody is alike, or with more than MOST groups, is left out.
    """
    found = {}
    for column in columns:
        labels = np.array(group_labels(cases, (column,)))
        groups = sorted(set(labels))
        if 1 < len(groups) <= MOST:
            found[column] = {group: _of_group(cases[labels == group], name, fit, config) for group in groups}
    return found


def _of_group(cases: Table, name: str, fit: dict, config: ConfigDict) -> dict:
    drawn, measure = resamples(cases, config), primary(cases, config)
    of = separations(cases, name, config, drawn)[measure]
    found = {"patients": len(drawn.patients), "cases": len(cases), "abnormal": int(cases.positive.sum())}
    found[measure] = as_json(interval(of, drawn.patient_weight, kind=config.evaluation.interval))
    return found | {"realised": realised(fit, cases, name)}


def _level(cases: Table, config: ConfigDict) -> str:
    return sample_of(config).noun if "slice" in cases else "patient"

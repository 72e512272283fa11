"""One score within the groups of people that a data set knows: sites, scanners, sexes, bands of age."""

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.evaluation.levels import primary, resamples, separations
from symnorm_jax.scoring.conformal import group_labels
from symnorm_jax.scoring.thresholds import realised
from symnorm_jax.statistics.intervals import as_json, interval

MOST = 12  # groups of one column; a column with more, such as a name, is none


def of_groups(cases: pd.DataFrame, name: str, fit: dict, columns: list[str], config: ConfigDict) -> dict[str, dict]:
    """Judge a score `name` with its threshold `fit` in each group of the `columns`: `{column: {group: {...}}}`.

    A group has `patients`, `cases`, `abnormal`, the level's primary measure with its interval, and what `realised`
    counts at the threshold. A column in which everybody is alike, or with more than MOST groups, is left out.
    """
    found = {}
    for column in columns:
        labels = np.array(group_labels(cases, (column,)))
        groups = sorted(set(labels))
        if 1 < len(groups) <= MOST:
            found[column] = {group: _of_group(cases[labels == group], name, fit, config) for group in groups}
    return found


def _of_group(cases: pd.DataFrame, name: str, fit: dict, config: ConfigDict) -> dict:
    drawn, measure = resamples(cases, config), primary(cases, config)
    of = separations(cases, name, config, drawn)[measure]
    return {
        "patients": int(cases.patient.nunique()),
        "cases": len(cases),
        "abnormal": int(cases.positive.sum()),
        measure: as_json(interval(of, drawn.patient_weight, kind=config.evaluation.interval)),
        "realised": realised(fit, cases, name),
    }

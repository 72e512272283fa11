"""One score within the groups of people that a data set knows: sites, scanners, sexes, bands of age."""

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.evaluation.levels import plain, primary, resamples, separations
from symnorm_jax.scoring.thresholds import group_labels, realised
from symnorm_jax.statistics.intervals import interval

MOST = 12  # groups of one column; a column with more, such as a name, is none


def of_groups(cases: pd.DataFrame, name: str, fit: dict, columns: list[str], config: ConfigDict) -> dict[str, dict]:
    """`{column: {group: {...}}}` of a score `name` with its threshold `fit`, of test cases with the `columns`.

    A group has `patients`, `cases`, `abnormal`, the level's primary metric with its interval, and what `realised`
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
    drawn, metric = resamples(cases, config), primary(cases)
    of = separations(cases, name, config, drawn)[metric]
    return {
        "patients": int(cases.patient.nunique()),
        "cases": len(cases),
        "abnormal": int(cases.positive.sum()),
        metric: plain(interval(of, drawn.patient_weight, kind=config.evaluation.interval)),
        "realised": realised(fit, cases, name),
    }

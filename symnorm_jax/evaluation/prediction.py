"""How well a number or a class is predicted, with intervals from a bootstrap over patients."""

from functools import partial

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.evaluation.levels import resamples
from symnorm_jax.evaluation.measures import of_level
from symnorm_jax.scoring.predictions import POPULATIONS
from symnorm_jax.scoring.thresholds import called
from symnorm_jax.statistics.intervals import Metric, Values, as_json, interval

PRIMARY = {kind: of_level(kind)[0].name for kind in ("number", "class")}
EVEN = {"value": 0.5}  # the probability from which a class is called


def of_predictions(table: pd.DataFrame, config: ConfigDict) -> dict[str, dict]:
    """Judge the test rows of a `prediction_table`: `{population: {"patients", "scans", measure: values}}`."""
    parts = {name: table[(table.split == "test") & (table.population == name)] for name in POPULATIONS}
    return {
        name: {"patients": int(rows.patient.nunique()), "scans": len(rows)} | values_of([rows], config)
        for name, rows in parts.items()
        if len(rows)
    }


def values_of(tables: list[pd.DataFrame], config: ConfigDict) -> dict[str, Values]:
    """Give every measure its interval: its mean over `tables` of the same people, such as those of several seeds."""
    drawn, kind = resamples(tables[0], config), config.evaluation.interval
    found = measures(tables, config.target.kind, drawn.index)
    return {name: as_json(interval(of, drawn.patient_weight, kind=kind)) for name, of in found.items()}


def measures(tables: list[pd.DataFrame], kind: str, index: np.ndarray) -> dict[str, Metric]:
    """Make `{measure: weights [R, P] -> values [R]}`, the mean over `tables`; `index` `[N]` is each row's patient.

    They are what MEASURES lists for the `kind` of target, number or class.
    """
    given = [_given(table, kind) for table in tables]
    return {
        one.name: partial(_mean, [partial(one.of, *each[one.needs], patient=index) for each in given])
        for one in of_level(kind)
    }


def _given(table: pd.DataFrame, kind: str) -> dict[str, tuple]:
    predicted, target = table.predicted.to_numpy(float), table.target.to_numpy(float)
    if kind == "number":
        return {"target": (predicted, target)}
    return {"scores": (predicted, target > 0), "threshold": (called(EVEN, table, "predicted"), target > 0)}


def _mean(parts: list[Metric], weight: np.ndarray) -> np.ndarray:
    return np.mean([part(weight) for part in parts], 0)

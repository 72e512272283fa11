"""What a fine-tuned network says of each person, `predictions.csv`, and how right that is, with bootstrap intervals."""

from functools import partial

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data import targets
from symnorm_jax.data.manifest import like_trained, of_population
from symnorm_jax.evaluation.levels import resamples
from symnorm_jax.evaluation.measures import of_level
from symnorm_jax.scoring.embed import Arrays
from symnorm_jax.scoring.thresholds import called
from symnorm_jax.statistics.intervals import Metric, Values, as_json, interval

Table = pd.DataFrame
SAME, OUTSIDE, ABNORMAL = "same", "held out", "abnormal"
POPULATIONS = (SAME, OUTSIDE, ABNORMAL)  # such as are trained on; of data.held_out; others, who are not healthy
PRIMARY = {kind: of_level(kind)[0].name for kind in ("number", "class")}
EVEN = {"value": 0.5}  # the probability from which a class is called


def known_rows(manifest: Table, arrays: Arrays, config: ConfigDict) -> Table:
    """List the rows of what is embedded whose target is known: patient, session, split, population and target."""
    rows = manifest.loc[arrays["index"]]
    outside = of_population(manifest, config.data.held_out).loc[rows.index]
    of = np.where(outside, OUTSIDE, np.where(like_trained(rows, config.data.train_on), SAME, ABNORMAL))
    found = rows[["patient", "session", "split"]].assign(population=of, place=np.arange(len(rows)))
    found = found.assign(target=targets.values(rows, config.target))
    return found[np.isfinite(found.target)]


def prediction_table(manifest: Table, embedded: dict[str, Arrays], training: Table, config: ConfigDict) -> Table:
    """List what is `predicted`, a number or a chance, where the target is known; `training` are the rows trained on."""
    scale, parts = targets.scale_of(training, config.target), []
    for arrays in embedded.values():
        rows = known_rows(manifest, arrays, config)
        predicted = targets.restored(arrays["predicted"][rows.place], config.target, scale)
        parts.append(rows.drop(columns="place").assign(predicted=predicted))
    return pd.concat(parts)


def of_predictions(table: Table, config: ConfigDict) -> dict[str, dict]:
    """Judge the test rows of a `prediction_table`: `{population: {"patients", "scans", measure: values}}`."""
    found = {}
    for name in POPULATIONS:
        if len(rows := table[(table.split == "test") & (table.population == name)]):
            counts = {"patients": int(rows.patient.nunique()), "scans": len(rows)}
            found[name] = counts | values_of([rows], config)
    return found


def values_of(tables: list[Table], config: ConfigDict) -> dict[str, Values]:
    """Give every measure its interval: its mean over `tables` of the same people, such as one a seed."""
    drawn, kind = resamples(tables[0], config), config.evaluation.interval
    found = measures(tables, config.target.kind, drawn.index)
    return {name: as_json(interval(of, drawn.patient_weight, kind=kind)) for name, of in found.items()}


def measures(tables: list[Table], kind: str, index: np.ndarray) -> dict[str, Metric]:
    """Make the MEASURES of a `kind`, means over tables: `{name: weights [R, P] -> [R]}`; `index` `[N]` of patients."""
    given, found = [_given(table, kind) for table in tables], {}
    for one in of_level(kind):
        found[one.name] = partial(_mean, [partial(one.of, *each[one.needs], patient=index) for each in given])
    return found


def _given(table: Table, kind: str) -> dict[str, tuple]:
    predicted, target = table.predicted.to_numpy(float), table.target.to_numpy(float)
    if kind == "number":
        return {"target": (predicted, target)}
    return {"scores": (predicted, target > 0), "threshold": (called(EVEN, table, "predicted"), target > 0)}


def _mean(parts: list[Metric], weight: np.ndarray) -> np.ndarray:
    return np.mean([part(weight) for part in parts], 0)

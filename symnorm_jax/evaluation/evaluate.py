"""Scores and maps of a run's test split to numbers with intervals, from the run's files alone."""

from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data.manifest import group_columns, of_population, read_manifest, read_table
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.cases import LEVELS, cases_at
from symnorm_jax.evaluation.levels import of_cases, of_groups, resamples
from symnorm_jax.evaluation.maps import of_maps
from symnorm_jax.evaluation.prediction import of_predictions
from symnorm_jax.evaluation.wording import sample_of
from symnorm_jax.files import read_json
from symnorm_jax.rundir import unaudited
from symnorm_jax.scoring import calibration
from symnorm_jax.scoring.scores import score_names
from symnorm_jax.scoring.thresholds import realised
from symnorm_jax.settings import target_of
from symnorm_jax.statistics.intervals import as_json, interval


def evaluate(workdir: Path, config: ConfigDict) -> dict[str, dict]:
    """Measure everything on the test split, as JSON; 95 % intervals are from a bootstrap over patients.

    `sample` and `patient` are described in `levels.of_cases`; `pixel`, `lesion` and `froc` in `maps.of_maps`, and left
    out without maps or lesions; `prediction`, of runs with a target, in `prediction.of_predictions`. `thresholds`,
    `groups` and `calibration` are of the headline score by level. `notes` are sentences on what is undefined. Raises
    RunError for scores that are not those of the manifest's test split.
    """
    rows = read_manifest(workdir / "manifest.csv")
    table = read_scores(workdir, rows)
    names, groups = score_names(table) + score_names(table, trivial=True), group_columns(rows)
    table = table.join(rows[groups])
    fitted, calibrated = read_json(workdir / "thresholds.json"), read_json(workdir / "calibration.json")
    headline, results = config.score.headline, {"thresholds": {}, "groups": {}, "calibration": {}}
    results["notes"] = unaudited([workdir]) + _pooled(rows, config.data.held_out)
    for level in LEVELS:
        cases = cases_at(level, table, "test", config.score.patient, config.score.top_k, tuple(groups))
        results["notes"] += _notes(cases, sample_of(config).noun if level == "sample" else level)
        results[level] = {name: {} for name in names}
        for part in ("thresholds", "groups", "calibration"):
            results[part][level] = {}
        if not len(cases):
            continue
        results[level], rules = of_cases(cases, names, fitted[level], config), fitted[level][headline]
        results["thresholds"][level] = {rule: realised(fit, cases, headline) for rule, fit in rules.items()}
        results["groups"][level] = of_groups(cases, headline, rules[config.score.threshold], groups, config)
        fit = calibrated[level][headline][config.score.calibration]
        results["calibration"][level] = _calibration(cases, headline, fit, config)
    if target_of(config):
        results["prediction"] = of_predictions(read_table(workdir / "predictions.csv"), config)
    return results | of_maps(workdir, table, config)


def read_scores(workdir: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Read `scores.csv` and check it against the manifest `rows`.

    Raises RunError where test slices are missing or a score is not finite.
    """
    path = workdir / "scores.csv"
    table, test = read_table(path), rows[rows.split == "test"]
    missing = test[~test.index.isin(table.index)]
    if len(missing):
        raise RunError(
            f"{path}: {len(missing)} slices of the test split are missing, the first of patient "
            f"{missing.patient.iloc[0]}; score the run again with launch/score.py."
        )
    for name in score_names(table) + score_names(table, trivial=True):
        bad = table.index[~np.isfinite(pd.to_numeric(table[name], errors="coerce"))]
        if len(bad):
            raise RunError(
                f"{path}: the score {name!r} of {len(bad)} slices is NaN or infinite, the first in row {bad[0]}; "
                f"every slice needs a finite score."
            )
    return table


def _calibration(cases: pd.DataFrame, name: str, fit: dict, config: ConfigDict) -> dict:
    """How far the probabilities that a `fit` makes of a score are right."""
    if fit["parameters"] is None:
        return {"reason": fit["reason"]}
    positive, weights = cases.positive.to_numpy(), resamples(cases, config).weight
    share = calibration.patient_weight(cases.patient.to_numpy())  # as in the fit, every patient counts the same
    probability = calibration.apply(fit, cases[name].to_numpy())
    found = {
        of.__name__: as_json(interval(lambda weight, of=of: of(probability, positive, weight * share), weights))
        for of in (calibration.brier, calibration.expected_calibration_error)
    }
    return found | {"method": fit["method"], "reliability": calibration.reliability(probability, positive)}


def _pooled(rows: pd.DataFrame, held_out: str) -> list[str]:
    """A sentence on test people who are unlike those trained on."""
    test = rows[rows.split == "test"]
    outside = test.patient[of_population(rows, held_out).loc[test.index]].nunique()
    if not outside:
        return []
    return [
        f"{outside} of {test.patient.nunique()} test people are of {held_out}, of whom nobody was trained on: scores "
        f"are judged over all test people, and within each group; what a threshold promises does not hold for these."
    ]


def _notes(cases: pd.DataFrame, level: str) -> list[str]:
    """Sentences on what cannot be told from the cases of a level."""
    if not len(cases):
        return [f"The test split has no labelled {level}: nothing is defined at {level} level."]
    undefined = "what compares abnormal with healthy is undefined"
    lacking = {"abnormal": not cases.positive.any(), "healthy": cases.positive.all()}
    notes = [f"The test split has no {x} {level}: at {level} level {undefined}." for x in lacking if lacking[x]]
    if cases.patient.nunique() == 1:
        notes.append(f"The test split has one patient: at {level} level no interval over patients is defined.")
    return notes

"""Scores and maps of a run's test split to numbers with intervals, from the run's files alone."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data.manifest import group_columns, of_population, read_manifest, read_table
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation import pixels
from symnorm_jax.evaluation.cases import LEVELS, cases_at
from symnorm_jax.evaluation.detection import lesion_metrics, of_lesions
from symnorm_jax.evaluation.levels import of_cases, of_groups, resamples
from symnorm_jax.evaluation.measures import sample_of
from symnorm_jax.evaluation.pixels import Thresholds, fit_pixel_thresholds, maps_in, of_pixels, pixel_metrics
from symnorm_jax.evaluation.postprocess import MapStack, PostProcessing, chain, known, processed, stacks
from symnorm_jax.evaluation.prediction import of_predictions
from symnorm_jax.files import load_arrays, read_json
from symnorm_jax.progress import progress
from symnorm_jax.rundir import (
    CALIBRATION,
    DOUBTS,
    MANIFEST,
    PREDICTIONS,
    SCORES,
    THRESHOLDS,
    unaudited,
    weakly_supervised,
)
from symnorm_jax.scoring import calibration
from symnorm_jax.scoring.embed import Arrays
from symnorm_jax.scoring.scores import score_names
from symnorm_jax.scoring.thresholds import realised
from symnorm_jax.settings import only_judges, target_of
from symnorm_jax.statistics.intervals import Metric, as_json, interval, patient_weights


class MapMetrics(NamedTuple):
    """Measures of a map for weights `[R, P]` of patients: `{measure: metric}`."""

    patients: np.ndarray  # [P] sorted
    pixel: dict[str, Metric]
    lesion: dict[str, Metric]


def evaluate(workdir: Path, config: ConfigDict) -> dict[str, dict]:
    """Measure everything on the test split, as JSON; 95 % intervals are from a bootstrap over patients.

    `sample` and `patient` come from `of_cases`; `pixel`, `lesion` and `froc` of `of_maps`; `prediction`, of runs
    with a target, of `of_predictions`. `thresholds`, `groups` and `calibration` are of the headline score by level,
    `notes` say what is undefined. Raises RunError for scores of other rows than the manifest's test split.
    """
    rows = read_manifest(workdir / MANIFEST)
    table = read_scores(workdir, rows)
    names, groups = score_names(table) + score_names(table, trivial=True), group_columns(rows)
    table = table.join(rows[groups])
    fitted, calibrated = read_json(workdir / THRESHOLDS), read_json(workdir / CALIBRATION)
    headline = config.score.headline
    results = {part: {level: {} for level in LEVELS} for part in ("thresholds", "groups", "calibration")}
    results["notes"] = unaudited([workdir]) + weakly_supervised({"this run": config}) + _judged(config)
    results["notes"] += _doubted(workdir) + _pooled(rows, config.data.held_out)
    for level in LEVELS:
        cases = cases_at(level, table, "test", config.score.patient, config.score.top_k, tuple(groups))
        results["notes"] += _notes(cases, sample_of(config).noun if level == "sample" else level)
        results[level] = {name: {} for name in names}
        if not len(cases):
            continue
        results[level], rules = of_cases(cases, names, fitted[level], config), fitted[level][headline]
        results["thresholds"][level] = {rule: realised(fit, cases, headline) for rule, fit in rules.items()}
        results["groups"][level] = of_groups(cases, headline, rules[config.score.threshold], groups, config)
        fit = calibrated[level][headline][config.score.calibration]
        results["calibration"][level] = _calibration(cases, headline, fit, config)
    if target_of(config):
        results["prediction"] = of_predictions(read_table(workdir / PREDICTIONS), config)
    return results | of_maps(workdir, table, config)


def read_scores(workdir: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """Read `scores.csv`. Raises RunError where test slices of manifest `rows` are missing or a score is not finite."""
    path = workdir / SCORES
    table, test = read_table(path), rows[rows.split == "test"]
    missing = test[~test.index.isin(table.index)]
    if len(missing):
        first = f"the first of patient {missing.patient.iloc[0]}; `symnorm evaluate --from=gaussian` scores anew."
        raise RunError(f"{path}: {len(missing)} slices of the test split are missing, {first}")
    for name in score_names(table) + score_names(table, trivial=True):
        bad = table.index[~np.isfinite(pd.to_numeric(table[name], errors="coerce"))]
        if len(bad):
            found = f"is NaN or infinite, the first in row {bad[0]}; every slice needs a finite score."
            raise RunError(f"{path}: the score {name!r} of {len(bad)} slices {found}")
    return table


def of_maps(workdir: Path, table: pd.DataFrame, config: ConfigDict) -> dict[str, dict]:
    """Judge the run's map and trivial ones: `pixel`, `lesion`, `froc`, `pixel_thresholds`; {} without map or lesion."""
    test, rows = _load(workdir, "test", table)
    if not _judgeable(test, rows):
        return {}
    fit = pixel_thresholds(workdir, table, config)
    settings, asked, found = chain(config), config.evaluation, {"pixel": {}, "lesion": {}}
    drawn = patient_weights(rows.patient.to_numpy(object), asked.replicates, config.seed)
    names = maps_in(test)
    for name in progress(names, "evaluating maps", len(names)):
        shown, fitted = _processed(name, test, rows, settings), fit(name)
        found["pixel"][name] = of_pixels(shown, fitted, settings, drawn)
        about = of_lesions(shown, fitted["dice"], settings, asked.smallest_lesion, drawn)
        found["lesion"][name] = about.pop("metrics")
        if name == "map":
            found |= {"froc": about, "pixel_thresholds": fitted}
    return found


def map_metrics(workdir: Path, table: pd.DataFrame, config: ConfigDict, names: tuple[str, ...]) -> dict:
    """Make the measures of the maps `names` of a run's test people, `{map: MapMetrics}`; {} without map or lesion."""
    test, rows = _load(workdir, "test", table)
    if not _judgeable(test, rows):
        return {}
    fit = pixel_thresholds(workdir, table, config)
    settings, patients, found = chain(config), np.unique(rows.patient.to_numpy(object)), {}
    for name in maps_in(test, names):
        shown = _processed(name, test, rows, settings)
        pixel = pixel_metrics(shown, fit(name)["dice"], settings, patients)
        lesion = lesion_metrics(shown, settings, config.evaluation.smallest_lesion, patients)
        found[name] = MapMetrics(patients, pixel, lesion)
    return found


def pixel_thresholds(workdir: Path, table: pd.DataFrame, config: ConfigDict) -> Callable[[str], Thresholds]:
    """Make the fit of one of MAPS to validation; that of the source, and named so, where a run has none of its own."""
    fitted = lambda name: fit_pixel_thresholds(_processed(name, *val, chain(config)), chain(config))  # noqa: E731
    if not only_judges(config):
        val = _load(workdir, "val", table)
        return fitted
    source = Path(config.init_from)
    val = _load(source, "val", read_table(source / SCORES))
    return lambda name: {rule: of | {"origin": f"{source}: {of['origin']}"} for rule, of in fitted(name).items()}


def _load(workdir: Path, split: str, table: pd.DataFrame) -> tuple[Arrays, pd.DataFrame]:
    names = "index", "image", "brain", "lesion", *pixels.OWN, *pixels.WITHOUT
    arrays = load_arrays(workdir / "embeddings" / f"{split}.npz", *names)
    return arrays, table.loc[arrays["index"]]


def _judgeable(arrays: Arrays, rows: pd.DataFrame) -> bool:
    """Whether there is a map, and a lesion in a slice whose truth is known."""
    return "map" in arrays and bool(arrays["lesion"][known(rows)].any())


def _processed(name: str, arrays: Arrays, rows: pd.DataFrame, settings: PostProcessing) -> list[MapStack]:
    """The processed scans of a split with one of MAPS as their values; none where the split has no maps."""
    if "map" not in arrays:
        return []
    made = stacks(arrays, rows, np.asarray(pixels.map_values(name, arrays), np.float16))
    return [processed(stack, settings) for stack in made]


def _calibration(cases: pd.DataFrame, name: str, fit: dict, config: ConfigDict) -> dict:
    if fit["parameters"] is None:
        return {"reason": fit["reason"]}
    positive, drawn = cases.positive.to_numpy(), resamples(cases, config)
    share = calibration.patient_weight(cases.patient.to_numpy())  # as in the fit, every patient counts the same
    probability = calibration.apply(fit, cases[name].to_numpy())
    found, weights = {}, drawn.patient_weight[:, drawn.index]
    for of in (calibration.brier, calibration.expected_calibration_error):
        found[of.__name__] = as_json(interval(lambda w, of=of: of(probability, positive, w * share), weights))
    return found | {"method": fit["method"], "reliability": calibration.reliability(probability, positive)}


def _judged(config: ConfigDict) -> list[str]:
    taken = f"Networks, healthy maps, Gaussian, thresholds and probabilities are those of {config.init_from}"
    return [f"{taken}: nothing was fitted on these people."] if only_judges(config) else []


def _doubted(workdir: Path) -> list[str]:
    """Say how many scans `symnorm score` would not call, where that was asked."""
    if not (workdir / DOUBTS).exists():
        return []
    kinds = read_table(workdir / DOUBTS, ("patient", "session", "doubts", "reasons")).doubts
    counts = Counter(kind for cell in kinds for kind in cell.split())
    by = ", ".join(f"{kind} {count}" for kind, count in counts.most_common())
    told = f"`symnorm score` would not call {(kinds != '').sum()} of {len(kinds)} scans"
    return [f"{told} ({by}): {DOUBTS} says why. They are judged all the same." if by else f"{told}."]


def _pooled(rows: pd.DataFrame, held_out: str) -> list[str]:
    test = rows[rows.split == "test"]
    outside = test.patient[of_population(rows, held_out).loc[test.index]].nunique()
    people = f"{outside} of {test.patient.nunique()} test people are of {held_out}, of whom nobody was trained on"
    judged = "scores are judged over all test people, and within each group"
    return [f"{people}: {judged}; what a threshold promises does not hold for these."] if outside else []


def _notes(cases: pd.DataFrame, level: str) -> list[str]:
    if not len(cases):
        return [f"The test split has no labelled {level}: nothing is defined at {level} level."]
    undefined = "what compares abnormal with healthy is undefined"
    lacking = {"abnormal": not cases.positive.any(), "healthy": cases.positive.all()}
    notes = [f"The test split has no {x} {level}: at {level} level {undefined}." for x in lacking if lacking[x]]
    if cases.patient.nunique() == 1:
        notes.append(f"The test split has one patient: at {level} level no interval over patients is defined.")
    return notes

"""Runs beside one another: each one's headline score, and the trivial baselines, paired against the first run.

Everything is measured on the same test cases and the same bootstrap replicates of their patients.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data.manifest import group_columns, read_manifest
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.cases import LEVELS, cases_at
from symnorm_jax.evaluation.delong import auroc_difference
from symnorm_jax.evaluation.evaluate import read_scores
from symnorm_jax.evaluation.histograms import measures
from symnorm_jax.evaluation.intervals import Interval, Metric, Resamples, difference, interval, patient_weights
from symnorm_jax.evaluation.levels import plain, primary, resamples, separations
from symnorm_jax.evaluation.maps import pixel_histograms
from symnorm_jax.evaluation.paired import holm, mcnemar, non_inferiority, proportion_difference
from symnorm_jax.files import read_json
from symnorm_jax.scoring.scores import ABOUT, BASELINE, score_names
from symnorm_jax.scoring.takeover import ZERO_SHOT
from symnorm_jax.scoring.thresholds import threshold_of
from symnorm_jax.training.runlog import progress, read_config

KEYS = ["patient", "session", "slice"]  # by which a case is known in two runs; of patients the first alone
NEEDED = ("scores.csv", "thresholds.json", "metrics.json", "cost.json")


Pixels = tuple[np.ndarray, np.ndarray]  # patients [P] and histograms [P, 2, bins], see `maps.pixel_histograms`


class Entry(NamedTuple):
    """A line of the comparison: one score of one run."""

    name: str
    run: Path
    score: str
    cases: dict[str, pd.DataFrame]  # {level: test cases}, ordered by KEYS, with the `threshold` in use, NaN for none
    validation: pd.DataFrame  # slices
    cost: dict
    pixels: Pixels | None  # of its map, where there is one and lesions are drawn


def compare(runs: list[Path]) -> dict:
    """`{"reference", "metric", "margin", "lines": [...]}` as JSON; the first of the finished `runs` is the reference.

    A line has `name`, `score`, `cost`, `slice` and `patient`, `{metric: values}`, and, but for the reference, `paired`,
    see `_paired`. `best_on_validation` names the rival with the highest metric on validation slices: the one to be
    beaten, chosen without the test split. Raises RunError unless the runs are finished and judge the same cases.
    """
    config, entries = _entries(runs)
    first, *rivals = entries
    for entry in rivals:
        _refuse_other_cases(first, entry)
    drawn = {level: resamples(cases, config) for level, cases in first.cases.items()}
    lines = [_line(entry, drawn, config) for entry in progress(entries, "comparing", len(entries))]
    for line, entry in zip(lines[1:], rivals, strict=True):
        line["paired"] = _paired(first, entry, drawn, config)
    p_values = [line["paired"]["p_value"] for line in lines[1:]]
    defined = [p for p in p_values if p is not None]
    adjusted = iter(holm(np.array(defined)))
    for line, p in zip(lines[1:], p_values, strict=True):
        line["paired"]["p_value_holm"] = None if p is None else float(next(adjusted))
    tried = {entry.name: _on_validation(entry, config) for entry in rivals}
    best = max(tried, key=tried.get, default=None)
    about = {"reference": first.name, "metric": primary(first.cases["slice"]), "margin": config.evaluation.margin}
    about |= {"patients": int(first.cases["slice"].patient.nunique()), "slices": len(first.cases["slice"])}
    return about | {"best_on_validation": best if best and tried[best] > -np.inf else None, "lines": lines}


def _entries(runs: list[Path]) -> tuple[ConfigDict, list[Entry]]:
    """The config of the first run, and its headline, that of every other, and last the trivial baselines."""
    if len({run.name for run in runs}) < len(runs):
        raise RunError(f"--runs={','.join(map(str, runs))}: runs are told apart by their names, which must differ.")
    for run in runs:
        missing = [name for name in NEEDED if not (run / name).exists()]
        if missing:
            raise RunError(f"{run}: not a finished run, {missing[0]} is missing; see it through with launch/train.py.")
    configs = [read_config(run) for run in runs]
    manifests = [read_manifest(run / "manifest.csv") for run in runs]
    tables = [read_scores(run, rows) for run, rows in zip(runs, manifests, strict=True)]
    grouped = [table.join(rows[group_columns(rows)]) for table, rows in zip(tables, manifests, strict=True)]
    each = list(zip(runs, grouped, configs, strict=True))
    maps = [pixel_histograms(*one) for one in progress(each, "reading maps", len(each))]
    entries = [
        _entry(run.name, config.score.headline, (run, table, config), found.get("map"))
        for (run, table, config), found in zip(each, maps, strict=True)
    ]
    for score in (one for one in score_names(tables[0], baselines=True) if one != ZERO_SHOT):
        name = score.removeprefix(BASELINE).replace("_", " ")
        entries.append(_entry(name, score, each[0], maps[0].get(score)))
    return configs[0], entries


def _entry(name: str, score: str, of: tuple[Path, pd.DataFrame, ConfigDict], pixels: Pixels | None) -> Entry:
    run, table, config = of
    fitted = read_json(run / "thresholds.json")
    groups = tuple(name for name in table if name not in ABOUT and not pd.api.types.is_numeric_dtype(table[name]))
    how = (config.score.patient, config.score.top_k, groups)
    cases = {}
    for level in LEVELS:
        found = cases_at(level, table, "test", *how)
        found["threshold"] = threshold_of(fitted[level][score][config.score.threshold], found)
        cases[level] = found.sort_values([key for key in KEYS if key in found])
    trivial = {"passes": 0, "parameters": 0, "seconds_per_slice": None}
    cost = trivial if score.startswith(BASELINE) else read_json(run / "cost.json")
    return Entry(name, run, score, cases, cases_at("slice", table, "val", *how), cost, pixels)


def _refuse_other_cases(first: Entry, other: Entry) -> None:
    """Raise RunError unless both judge the same slices of the same patients with the same labels."""
    for level in LEVELS[::-1]:  # patients first: they make the plainer sentence
        keys = [key for key in KEYS if key in first.cases[level]]
        ours, theirs = (
            set(one.cases[level][[*keys, "positive"]].itertuples(index=False, name=None)) for one in (first, other)
        )
        if ours != theirs:
            name = min(ours ^ theirs)[0]
            raise RunError(
                f"{other.run}: its test {level} cases are not those of {first.run}: patient {name} stands in one of "
                f"them alone, or with other labels; only runs that judge the same people can be paired."
            )


def _line(entry: Entry, drawn: dict[str, Resamples], config: ConfigDict) -> dict:
    line = {"name": entry.name, "score": entry.score, "cost": entry.cost}
    for level, cases in entry.cases.items():
        found = separations(cases, entry.score, config, drawn[level])
        weights, kind = drawn[level].patient_weight, config.evaluation.interval
        values = {metric: interval(of, weights, kind=kind) for metric, of in found.items()}
        line[level] = {metric: plain(value) for metric, value in values.items()}
    maps = read_json(entry.run / "metrics.json").get("pixel", {})
    name = entry.score if entry.score.startswith(BASELINE) else "map"
    return line | {"pixel": maps.get(name, {})}


def _paired(first: Entry, other: Entry, drawn: dict[str, Resamples], config: ConfigDict) -> dict:
    """The reference minus a rival: what separates them, and whether it may be called at least as good.

    `difference` is that of the primary metric of slices, `p_value` that it is none, from the same replicates, and
    `verdict` whether the reference is non-inferior with the margin of its config, or superior. `auroc` is the plain
    difference with the test of DeLong, clustered by patient. `accuracy` is that at the two thresholds, with the test of
    McNemar, clustered. `patient` is the difference of the AUROC of patients, `pixel` that of the average precision of
    pixels.
    """
    found = {}
    for level, of in (("slice", primary(first.cases["slice"])), ("patient", "auroc")):
        pair = [separations(one.cases[level], one.score, config, drawn[level])[of] for one in (first, other)]
        found[level] = difference(*pair, drawn[level].patient_weight, kind=config.evaluation.interval)
        if level == "slice":
            p_value = _p_value(*pair, drawn[level].patient_weight)
    ours, theirs = (one.cases["slice"][one.score].to_numpy(float) for one in (first, other))
    cases = first.cases["slice"]
    delong = auroc_difference(ours, theirs, cases.positive.to_numpy(), cases.patient.to_numpy())
    return {
        "difference": plain(found["slice"]),
        "p_value": p_value,
        "verdict": non_inferiority(found["slice"], config.evaluation.margin),
        "patient": plain(found["patient"]),
        "auroc": plain(Interval(*delong[:3])) | {"p_value": _number(delong.p_value)},
        "accuracy": _at_thresholds(first, other),
        "pixel": _of_pixels(first, other, config),
    }


def _of_pixels(first: Entry, other: Entry, config: ConfigDict) -> dict | None:
    """Difference in the average precision of pixels; None unless both have maps."""
    if first.pixels is None or other.pixels is None:
        return None
    patients, _ = first.pixels
    drawn = patient_weights(patients, config.evaluation.replicates, config.seed)
    pair = [partial(_average_precision, counts) for _, counts in (first.pixels, other.pixels)]
    return plain(difference(*pair, drawn.patient_weight))


def _average_precision(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return measures(counts, weights)["average_precision"]


def _at_thresholds(first: Entry, other: Entry) -> dict:
    """Difference in accuracy at the thresholds in use, and the p-value of McNemar, by patient."""
    right, patient = [], first.cases["slice"].patient.to_numpy()
    for one in (first, other):
        cases = one.cases["slice"]
        if cases.threshold.isna().any():
            return {"value": None, "low": None, "high": None, "p_value": None}
        right.append((cases[one.score] >= cases.threshold).to_numpy() == cases.positive.to_numpy())
    return plain(proportion_difference(*right, patient)) | {"p_value": _number(mcnemar(*right, patient))}


def _p_value(first: Metric, second: Metric, weights: np.ndarray) -> float | None:
    """Two-sided, from how many replicates of the difference lie on the far side of none; never 0."""
    gaps = first(weights) - second(weights)
    defined = gaps[~np.isnan(gaps)]
    if 2 * len(defined) <= len(gaps):  # as for the interval
        return None
    return float(min(1.0, 2 * (1 + min((defined <= 0).sum(), (defined >= 0).sum())) / (1 + len(defined))))


def _on_validation(entry: Entry, config: ConfigDict) -> float:
    """The primary metric on validation slices; -inf where it is undefined."""
    cases = entry.validation
    if not len(cases):
        return -np.inf
    drawn = resamples(cases, config)
    value = separations(cases, entry.score, config, drawn)[primary(cases)](np.ones((1, len(drawn.patients))))[0]
    return -np.inf if np.isnan(value) else float(value)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)

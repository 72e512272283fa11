"""Runs beside one another, on the same test cases and bootstrap replicates: headline and trivial scores, paired."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.cases import LEVELS, cases_at
from symnorm_jax.evaluation.evaluate import pixel_histograms, read_scores
from symnorm_jax.evaluation.histograms import measures
from symnorm_jax.evaluation.levels import primary, resamples, separations
from symnorm_jax.evaluation.measures import sample_of
from symnorm_jax.files import read_json
from symnorm_jax.progress import progress
from symnorm_jax.rundir import read_config
from symnorm_jax.scoring.scores import TRIVIAL, ZERO_SHOT, own, score_names
from symnorm_jax.statistics.intervals import Interval, Metric, Resamples, as_json, difference, interval, patient_weights
from symnorm_jax.statistics.significance import auroc_difference, bootstrap_p_value, holm, non_inferiority

KEYS = ["patient", "session", "slice"]  # by which a case is known in two runs; of patients the first alone
NEEDED = ("scores.csv", "thresholds.json", "metrics.json", "cost.json")
FREE = {"passes": 0, "parameters": 0, "seconds_per_sample": None}  # the cost of what passes through no network


class Entry(NamedTuple):
    """A line of the comparison: one score of one run."""

    name: str
    run: Path
    score: str
    cases: dict[str, pd.DataFrame]  # {level: test cases}, ordered by KEYS
    validation: pd.DataFrame  # cases of the first of these levels
    fits: dict[str, dict]  # by level, its threshold by the rule of its run
    cost: dict
    pixels: tuple[np.ndarray, np.ndarray] | None  # pixel_histograms of its map, where lesions are drawn


def compare(runs: list[Path], level: str = "sample") -> dict:
    """Pair the first of the `runs` with the others, as JSON: `{"reference", "level", "metric", "margin", "lines"}`.

    A line has `name`, `score`, `cost`, `sample` and `patient`, `{metric: values}`, and, but for the reference,
    `paired`, see `_paired`. With `level="patient"` only patients must agree and are judged, so that a run of slices can
    be paired with one of volumes: there is no `sample`, and `cost` is that of a patient. `case` is `slice`, `volume` or
    `patient`. `best_on_validation` names the rival with the highest metric there: the one to be beaten, chosen without
    the test split. Raises RunError unless the runs are finished and judge the same cases.
    """
    config, entries = _read_entries(runs, level)
    first, *rivals = entries
    for entry in rivals:
        _refuse_other_cases(first, entry)
    drawn = {one: resamples(cases, config) for one, cases in first.cases.items()}
    lines, measured = [], []
    for entry in progress(entries, "comparing", len(entries)):
        found = {}
        for one, cases in entry.cases.items():
            found[one] = separations(cases, entry.score, config, drawn[one], entry.fits[one])
        measured.append({one: found[one][primary(cases, config)] for one, cases in entry.cases.items()})
        lines.append(_line(entry, found, drawn, config))
    for line, entry, other in zip(lines[1:], rivals, measured[1:], strict=True):
        gaps = {one: tested(measured[0][one], other[one], drawn[one], config) for one in drawn}
        line["paired"] = _paired(gaps, first, entry, level, config)
    correct([line["paired"] for line in lines[1:]])
    tried = {entry.name: _on_validation(entry, config) for entry in rivals}
    best = max((name for name, value in tried.items() if value > -np.inf), key=tried.get, default=None)
    cases, case = first.cases[level], sample_of(config).noun if level == "sample" else level
    about = {"reference": first.name, "level": level, "metric": primary(cases, config)}
    about |= {"margin": config.evaluation.margin, "case": case, "cases": len(cases)}
    return about | {"patients": int(cases.patient.nunique()), "best_on_validation": best, "lines": lines}


def _read_entries(runs: list[Path], level: str) -> tuple[ConfigDict, list[Entry]]:
    """Read the config of the first run, the headline scores of all runs, and last the first run's trivial scores.

    Cases are of `level` and of the LEVELS after it: whoever judges slices judges patients too. Raises RunError
    for runs that are not finished, or of one name.
    """
    if len({run.name for run in runs}) < len(runs):
        raise RunError(f"--runs={','.join(map(str, runs))}: runs are told apart by their names, which must differ.")
    for run in runs:
        missing = [name for name in NEEDED if not (run / name).exists()]
        if missing:
            raise RunError(f"{run}: not a finished run, {missing[0]} is missing; `symnorm train` sees it through.")
    each = [(run, *_scores(run)) for run in runs]
    maps = [pixel_histograms(*one) for one in progress(each, "reading maps", len(each))]
    pairs = zip(each, maps, strict=True)
    made = [(of[0].name, of[2].score.headline, level, *of, found.get("map")) for of, found in pairs]
    for score in (one for one in score_names(each[0][1], trivial=True) if one != ZERO_SHOT):
        made.append((score.removeprefix(TRIVIAL).replace("_", " "), score, level, *each[0], maps[0].get(score)))
    return each[0][2], [_entry(*one) for one in made]


def _scores(run: Path) -> tuple[pd.DataFrame, ConfigDict]:
    rows, config = read_manifest(run / "manifest.csv"), read_config(run)
    return read_scores(run, rows).join(rows[list(config.score.groups)]), config


def _refuse_other_cases(first: Entry, other: Entry) -> None:
    """Raise RunError unless both judge the same cases, with the same labels."""
    for level in tuple(first.cases)[::-1]:  # patients first: they make the plainer sentence
        known = [key for key in (*KEYS, "positive") if key in first.cases[level]]
        ours, theirs = (set(one.cases[level][known].itertuples(index=False, name=None)) for one in (first, other))
        if ours != theirs:
            apart = f"patient {min(ours ^ theirs)[0]} stands in one of them alone, or with"
            why = f"{apart} other labels; only runs that judge the same people can be paired"
            if level == "sample":
                same = "their patients are the same, and --level=patient would pair them"
                why = f"a case of {apart} another label; {same}"
            raise RunError(f"{other.run}: its test {level}s are not those of {first.run}: {why}.")


def _entry(name: str, score: str, level: str, run: Path, table: pd.DataFrame, config: ConfigDict, pixels) -> Entry:
    how = config.score.patient, config.score.top_k, config.score.groups
    found = {one: cases_at(one, table, "test", *how) for one in LEVELS[LEVELS.index(level) :]}
    cases = {one: of.sort_values([key for key in KEYS if key in of]) for one, of in found.items()}
    cost = read_json(run / "cost.json") if own(score) else dict(FREE)
    if level == "patient":  # all of whose samples are embedded
        test = table[table.split == "test"]
        samples, seconds = len(test) / test.patient.nunique(), cost.pop("seconds_per_sample")
        seconds = None if seconds is None else seconds * samples
        cost = {"passes_per_patient": cost.pop("passes") * samples, "seconds_per_patient": seconds} | cost
    thresholds = read_json(run / "thresholds.json")
    fits = {one: thresholds[one][score][config.score.threshold] for one in cases}
    return Entry(name, run, score, cases, cases_at(level, table, "val", *how), fits, cost, pixels)


def _line(entry: Entry, measured: dict, drawn: dict[str, Resamples], config: ConfigDict) -> dict:
    line, kind = {"name": entry.name, "score": entry.score, "cost": entry.cost}, config.evaluation.interval
    for level, found in measured.items():
        weights = drawn[level].patient_weight
        line[level] = {metric: as_json(interval(of, weights, kind=kind)) for metric, of in found.items()}
    maps = read_json(entry.run / "metrics.json").get("pixel", {})
    return line | {"pixel": maps.get("map" if own(entry.score) else entry.score, {})}


def _paired(gaps: dict[str, tuple], first: Entry, other: Entry, level: str, config: ConfigDict) -> dict:
    """Compare the reference with another: what separates them, and whether it may be called at least as good.

    `difference` is that of the level's primary metric, `p_value` that it is none, and `verdict` whether the reference
    is non-inferior with the margin of its config, or superior. `auroc` is the plain difference with DeLong's test,
    clustered by patient, `patient`, beside samples, that of patients, and `pixel` that of pixels' average precision.
    """
    (gap, p_value), cases = gaps[level], first.cases[level]
    found = {"difference": as_json(gap), "p_value": p_value, "verdict": non_inferiority(gap, config.evaluation.margin)}
    found |= {one: as_json(other_gap) for one, (other_gap, _) in gaps.items() if one != level}
    ours, theirs = (one.cases[level][one.score].to_numpy(float) for one in (first, other))
    delong = auroc_difference(ours, theirs, cases.positive.to_numpy(), cases.patient.to_numpy())
    p_delong = None if np.isnan(delong.p_value) else float(delong.p_value)
    auroc = as_json(Interval(*delong[:3])) | {"p_value": p_delong}
    return found | {"auroc": auroc, "pixel": _of_pixels(first, other, config)}


def tested(first: Metric, other: Metric, drawn: Resamples, config: ConfigDict) -> tuple[Interval, float | None]:
    """Give first minus other with its interval, and the p-value that it is none, from the same replicates."""
    weights = drawn.patient_weight
    gap = difference(first, other, weights, kind=config.evaluation.interval)
    return gap, bootstrap_p_value(first(weights) - other(weights))


def correct(pairs: list[dict]) -> None:
    """Write `p_value_holm` beside each `p_value`: Holm's correction over all that are defined, else None."""
    defined = [one for one in pairs if one["p_value"] is not None]
    adjusted = iter(holm(np.array([one["p_value"] for one in defined])))
    for one in pairs:
        one["p_value_holm"] = None if one["p_value"] is None else float(next(adjusted))


def _of_pixels(first: Entry, other: Entry, config: ConfigDict) -> dict | None:
    """Difference in the average precision of pixels; None unless both have maps."""
    if first.pixels is None or other.pixels is None:
        return None
    drawn = patient_weights(first.pixels[0], config.evaluation.replicates, config.seed)
    counts = first.pixels[1], other.pixels[1]
    pair = [lambda weights, of=of: measures(of, weights)["average_precision"] for of in counts]
    return as_json(difference(*pair, drawn.patient_weight))


def _on_validation(entry: Entry, config: ConfigDict) -> float:
    """The primary metric on validation cases; -inf where it is undefined."""
    cases = entry.validation
    if not len(cases):
        return -np.inf
    drawn = resamples(cases, config)
    value = separations(cases, entry.score, config, drawn)[primary(cases, config)](np.ones((1, len(drawn.patients))))[0]
    return -np.inf if np.isnan(value) else float(value)

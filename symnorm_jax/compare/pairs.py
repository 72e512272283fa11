"""Runs beside one another: each one's headline score, and the trivial scores, paired against the first run.

Everything is measured on the same test cases and the same bootstrap replicates of their patients.
"""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from symnorm_jax.compare.entries import Entry, read_entries, refuse_other_cases
from symnorm_jax.evaluation.histograms import measures
from symnorm_jax.evaluation.levels import primary, resamples, separations
from symnorm_jax.evaluation.measures import sample_of
from symnorm_jax.files import read_json
from symnorm_jax.progress import progress
from symnorm_jax.scoring.scores import own
from symnorm_jax.statistics.intervals import Interval, Metric, Resamples, as_json, difference, interval, patient_weights
from symnorm_jax.statistics.significance import auroc_difference, bootstrap_p_value, holm, non_inferiority


def compare(runs: list[Path], level: str = "sample") -> dict:
    """Pair the first of the `runs` with the others, as JSON: `{"reference", "level", "metric", "margin", "lines"}`.

    A line has `name`, `score`, `cost`, `sample` and `patient`, `{metric: values}`, and, but for the reference,
    `paired`, see `_paired`. With `level="patient"` patients are all that must agree and all that is judged, so that a
    run of slices can be paired with one of volumes: there is no `sample`, and `cost` is that of a patient. `case` is
    what is judged: `slice`, `volume` or `patient`. `best_on_validation` names the rival with the highest metric on
    validation cases: the one to be beaten, chosen without the test split.

    Raises RunError unless the runs are finished and judge the same cases.
    """
    config, entries = read_entries(runs, level)
    first, *rivals = entries
    for entry in rivals:
        refuse_other_cases(first, entry)
    drawn = {one: resamples(cases, config) for one, cases in first.cases.items()}
    lines, measured = [], []
    for entry in progress(entries, "comparing", len(entries)):
        found = {one: separations(cases, entry.score, config, drawn[one]) for one, cases in entry.cases.items()}
        measured.append({one: found[one][primary(cases, config)] for one, cases in entry.cases.items()})
        lines.append(_line(entry, found, drawn, config))
    for line, entry, other in zip(lines[1:], rivals, measured[1:], strict=True):
        gaps = {one: tested(measured[0][one], other[one], drawn[one], config) for one in drawn}
        line["paired"] = _paired(gaps, first, entry, level, config)
    correct([line["paired"] for line in lines[1:]])
    tried = {entry.name: _on_validation(entry, config) for entry in rivals}
    best = max((name for name, value in tried.items() if value > -np.inf), key=tried.get, default=None)
    cases, sample = first.cases[level], sample_of(config)
    metric = primary(cases, config)
    about = {"reference": first.name, "level": level, "metric": metric, "margin": config.evaluation.margin}
    about |= {"case": sample.noun if level == "sample" else level, "cases": len(cases)}
    about |= {"patients": int(cases.patient.nunique()), "best_on_validation": best}
    return about | {"lines": lines}


def _line(
    entry: Entry, measured: dict[str, dict[str, Metric]], drawn: dict[str, Resamples], config: ConfigDict
) -> dict:
    line, kind = {"name": entry.name, "score": entry.score, "cost": entry.cost}, config.evaluation.interval
    for level, found in measured.items():
        weights = drawn[level].patient_weight
        line[level] = {metric: as_json(interval(of, weights, kind=kind)) for metric, of in found.items()}
    maps = read_json(entry.run / "metrics.json").get("pixel", {})
    return line | {"pixel": maps.get("map" if own(entry.score) else entry.score, {})}


def _paired(gaps: dict[str, tuple], first: Entry, other: Entry, level: str, config: ConfigDict) -> dict:
    """Compare the reference with another: what separates them, and whether it may be called at least as good.

    `difference` is that of the primary metric of the `level`, `p_value` that it is none, and `verdict` whether the
    reference is non-inferior with the margin of its config, or superior. `auroc` is the plain difference with the test
    of DeLong, clustered by patient. Beside samples there is also `patient`, the difference of the AUROC of patients.
    `pixel` is that of the average precision of pixels.
    """
    (gap, p_value), cases = gaps[level], first.cases[level]
    ours, theirs = (one.cases[level][one.score].to_numpy(float) for one in (first, other))
    delong = auroc_difference(ours, theirs, cases.positive.to_numpy(), cases.patient.to_numpy())
    p_delong = None if np.isnan(delong.p_value) else float(delong.p_value)
    return {
        "difference": as_json(gap),
        "p_value": p_value,
        "verdict": non_inferiority(gap, config.evaluation.margin),
        **{one: as_json(found) for one, (found, _) in gaps.items() if one != level},
        "auroc": as_json(Interval(*delong[:3])) | {"p_value": p_delong},
        "pixel": _of_pixels(first, other, config),
    }


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
    counts = [one.pixels[1] for one in (first, other)]
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

"""Methods beside one another, on the same test cases and bootstrap replicates: headline and trivial scores, paired."""

from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.compare.entries import KEYS, Entry, Steps, read_entries
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.levels import primary, resamples
from symnorm_jax.evaluation.measures import sample_of
from symnorm_jax.progress import progress
from symnorm_jax.rundir import read_config, weakly_supervised
from symnorm_jax.scoring.scores import own
from symnorm_jax.statistics.intervals import Interval, Metric, Resamples, as_json, difference, interval
from symnorm_jax.statistics.significance import auroc_difference, bootstrap_p_value, holm, non_inferiority

PIXELS = "average_precision"  # what decides between maps
MAPPED = ("pixel", "lesion")  # levels of maps
Measured = dict[str, dict[str, Metric]]  # {level: {measure: metric}}


def compare(runs: list[Path], level: str = "sample", steps: Steps = None) -> dict:
    """Pair the first of the `runs` with the others, as JSON: `{"reference", "level", "metric", "margin", "lines"}`.

    A line has `name`, `score`, `cost`, `sample` and `patient`, `{metric: values}`, and, but for the reference,
    `paired`, see `_paired`. With `level="patient"` only patients must agree and are judged, so that a run of slices can
    be paired with one of volumes: there is no `sample`, and `cost` is that of a patient. `case` is `slice`, `volume` or
    `patient`. `best_on_validation` names the rival with the highest metric there: the one to be beaten, chosen without
    the test split. Maps of all are post-processed by `steps`, or None for those of each run. Raises RunError unless the
    runs are finished and judge the same cases.
    """
    config, entries = read_entries(runs, level, steps)
    first, *rivals = entries
    for entry in rivals:
        _refuse_other_cases(first, entry)
    cases = {one: first.cases(one) for one in first.parts[0].cases}
    drawn, decides = {one: resamples(of, config) for one, of in cases.items()}, lambda of: primary(of, config)
    everybody = np.concatenate([next(iter(cases.values())).patient, *(entry.of_maps() for entry in entries)])
    mapped = resamples(pd.DataFrame({"patient": everybody}), config)  # some have a map and no case that is judged
    drawn |= dict.fromkeys(MAPPED, mapped)
    lines, measured = [], []
    for entry in progress(entries, "comparing", len(entries)):
        found = {one: entry.separations(one, config, drawn[one]) for one in cases}
        found |= entry.of_map(mapped)
        measured.append(found)
        lines.append(_line(entry, found, drawn, config))
    deciding = {one: decides(of) for one, of in cases.items()}
    for line, entry, found in zip(lines[1:], rivals, measured[1:], strict=True):
        line["paired"] = _paired((first, measured[0]), (entry, found), deciding, drawn, config)
    correct([line["paired"] for line in lines[1:]])
    tried = {entry.name: entry.on_validation(decides, config) for entry in rivals}
    best = max((name for name, value in tried.items() if value > -np.inf), key=tried.get, default=None)
    case, judged = sample_of(config).noun if level == "sample" else level, cases[level]
    about = {"reference": first.name, "level": level, "metric": deciding[level], "runs": len(first.parts)}
    about |= {"margin": config.evaluation.margin, "case": case, "cases": len(judged)}
    methods = {entry.name: read_config(entry.parts[0].run) for entry in entries if own(entry.score)}
    about |= {"postprocess": list(config.evaluation.postprocess), "notes": weakly_supervised(methods)}
    return about | {"patients": int(judged.patient.nunique()), "best_on_validation": best, "lines": lines}


def _refuse_other_cases(first: Entry, other: Entry) -> None:
    """Raise RunError unless both judge the same cases, with the same labels."""
    for level in tuple(first.parts[0].cases)[::-1]:  # patients first: they make the plainer sentence
        each = [one.cases(level) for one in (first, other)]
        known = [key for key in (*KEYS, "positive") if key in each[0]]
        ours, theirs = (set(cases[known].itertuples(index=False, name=None)) for cases in each)
        if ours != theirs:
            apart = f"patient {min(ours ^ theirs)[0]} stands in one of them alone, or with"
            why = f"{apart} other labels; only runs that judge the same people can be paired"
            if level == "sample":
                same = "their patients are the same, and --level=patient would pair them"
                why = f"a case of {apart} another label; {same}"
            raise RunError(f"{other.path}: its test {level}s are not those of {first.path}: {why}.")


def _line(entry: Entry, measured: Measured, drawn: dict[str, Resamples], config: ConfigDict) -> dict:
    line = {"name": entry.name, "score": entry.score, "cost": entry.cost, "pixel": {}, "lesion": {}}
    for level, found in measured.items():  # of maps, intervals are percentiles, as in a run's own report
        weights, kind = drawn[level].patient_weight, "percentile" if level in MAPPED else config.evaluation.interval
        line[level] = {metric: as_json(interval(of, weights, kind=kind)) for metric, of in found.items()}
    return line


def _paired(ours: tuple[Entry, Measured], theirs: tuple[Entry, Measured], deciding, drawn, config: ConfigDict) -> dict:
    """Compare the reference with another: what separates them, and whether it may be called at least as good.

    `difference` is that of the level's primary metric, `p_value` that it is none, and `verdict` whether the reference
    is non-inferior with the margin of its config, or superior. `auroc` is the plain difference, of single runs with
    DeLong's test, clustered by patient, `patient`, beside samples, that of patients, and `pixel` that of pixels'
    average precision, None unless both have maps.
    """
    (first, our), (other, their) = ours, theirs
    gaps = {one: tested(our[one][name], their[one][name], drawn[one], config) for one, name in deciding.items()}
    level = next(iter(gaps))
    gap, p_value = gaps.pop(level)
    found = {"difference": as_json(gap), "p_value": p_value, "verdict": non_inferiority(gap, config.evaluation.margin)}
    found |= {one: as_json(other_gap) for one, (other_gap, _) in gaps.items()}
    pixel, auroc = None, difference(our[level]["auroc"], their[level]["auroc"], drawn[level].patient_weight)
    p_delong = None
    if len(first.parts) == len(other.parts) == 1:
        cases = first.parts[0].cases[level], other.parts[0].cases[level]
        scores = cases[0][first.score].to_numpy(float), cases[1][other.score].to_numpy(float)
        delong = auroc_difference(*scores, cases[0].positive.to_numpy(), cases[0].patient.to_numpy())
        auroc, p_delong = Interval(*delong[:3]), None if np.isnan(delong.p_value) else float(delong.p_value)
    if "pixel" in our and "pixel" in their:
        pair = our["pixel"][PIXELS], their["pixel"][PIXELS]
        pixel = as_json(difference(*pair, drawn["pixel"].patient_weight))
    return found | {"auroc": as_json(auroc) | {"p_value": p_delong}, "pixel": pixel}


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

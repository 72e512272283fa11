"""Tables of how well the scores of a run do, from its `metrics.json` with the levels under their names."""

import numpy as np
from ml_collections import ConfigDict

from symnorm_jax.evaluation.measures import Measure, label, of_level
from symnorm_jax.evaluation.wording import Sample
from symnorm_jax.report.table import UNDEFINED, Table, number
from symnorm_jax.scoring.scores import TRIVIAL, ZERO_SHOT, own
from symnorm_jax.statistics.intervals import Interval
from symnorm_jax.statistics.paired import non_inferiority

POPULATIONS = {  # in which a prediction is judged
    "same": "like those trained on",
    "held out": "of the group held out",
    "abnormal": "not healthy",
}
LEVELS = ("slice", "volume", "patient", "pixel", "lesion")  # in the order of tables


def levels_told(results: dict) -> list[str]:
    """List the levels that have numbers, cases first."""
    return [level for level in LEVELS if level in results]


def in_brief(results: dict, level: str) -> Table:
    """Give the few measures of a level that fit on a terminal; scores of which none is defined are left out."""
    table = _table(results[level], of_level(level, "terminal"), f"{level} level, test split", "score")
    return table._replace(notes=())


def full(results: dict, level: str, headline: str) -> list[Table]:
    """Give every measure of a level but the paired differences, first those that need no threshold.

    Scores of which nothing is defined are left out: at patient level all of them, where everybody is diseased.
    """
    measured = {name for metrics in results[level].values() for name in metrics} - {"prevalence"}
    parts = {"without a threshold": [], "at the threshold from validation": []}
    for measure in of_level(level):
        if measure.name in measured:
            parts[list(parts)[measure.needs == "threshold"]].append(measure)
    return [
        _table(results[level], columns, f"{level.capitalize()} level, {part}", marked=(label(headline), label("map")))
        for part, columns in parts.items()
    ]


def _table(found: dict[str, dict], columns: list[Measure], caption: str, first: str = "", marked=()) -> Table:
    kept = {name: [metrics.get(one.name) for one in columns] for name, metrics in found.items()}
    rows = [[label(name), *cells] for name, cells in kept.items() if any(x and x["value"] is not None for x in cells)]
    undefined = [x for cells in kept.values() for x in cells if x and x["value"] is None]
    why = dict.fromkeys(x["reason"] for x in undefined if x.get("reason"))
    notes = tuple(f"{UNDEFINED}: {reason}" for reason in why)
    return Table(caption, [first, *(one.label for one in columns)], rows, marked, notes)


def prediction(results: dict, target: ConfigDict) -> Table | None:
    """Tell how well a target is predicted of test people, a row a population; None without a target."""
    if "prediction" not in results:
        return None
    found, columns = results["prediction"], of_level(target.kind)
    rows = [
        [f"{POPULATIONS[name]}, {of['patients']}", *(of.get(x.name) for x in columns)] for name, of in found.items()
    ]
    unit = f"{target.column}, a number in its own unit"
    what = unit if target.kind == "number" else f"{target.column}={target.positive}, a class; at a probability of 0.5"
    return Table(f"Predicted of test people: {what}", ["people", *(x.label for x in columns)], rows)


def summary(results: dict, cost: dict, headline: str, sample: Sample) -> Table:
    """Give a row to every score and trivial score: what it tells at each level, and what it costs."""
    levels = [level for level in (sample.noun, "patient", "pixel") if level != "patient" or level in results]
    columns = [(level, one) for level in levels for one in of_level(level, "summary")]
    scores = sorted(dict.fromkeys([*results[sample.noun], *results.get("pixel", {})]), key=lambda name: not own(name))
    rows = [
        [label(name), *(results.get(level, {}).get(name, {}).get(one.name) for level, one in columns)]
        + expense(name, cost)
        for name in scores
    ]
    titles = [f"{level}s: {one.label}{_prevalence(results, level, one.name, headline)}" for level, one in columns]
    costs = [f"passes a {sample.noun}", f"seconds a {sample.noun}", "parameters"]
    return Table("All scores on the test split", ["score", *titles, *costs], rows, (label(headline),))


def _prevalence(results: dict, level: str, metric: str, headline: str) -> str:
    found = results.get(level, {}).get("map" if level == "pixel" else headline, {})
    known = metric == "average_precision" and found.get("prevalence", {}).get("value") is not None
    return f" (prevalence {number(found['prevalence']['value'])})" if known else ""


def expense(name: str, cost: dict) -> list:
    """Give passes, seconds and parameters of a score; a trivial score passes through no network.

    The cost of a source run stands in that run.
    """
    if not own(name):
        return [None if name == ZERO_SHOT else 0, None, None]
    seconds = cost.get("seconds_per_sample")
    shown = None if seconds is None else np.format_float_positional(seconds, precision=2, fractional=False, trim="-")
    return [cost.get("passes"), shown, cost.get("parameters")]


def differences(results: dict, headline: str, margin: float, sample: Sample) -> Table:
    """Give the headline score minus each trivial score on the same replicates, and what the interval says of it."""
    decides = {sample.noun: sample.primary} | ({"patient": "auroc"} if "patient" in results else {})
    pairs = {
        level: {x.split("_minus_")[1]: gap for x, gap in results[level][headline].items() if "_minus_" in x}
        for level in decides
    }
    header, others = ["score"], dict.fromkeys(other for found in pairs.values() for other in found)
    for level, metric in decides.items():
        header += [f"{level}s: difference in {label(metric)}", "verdict"]
    gaps = {other: [found.get(other) for found in pairs.values()] for other in others}
    rows = [[label(other), *(x for gap in of for x in (gap, verdict(gap, margin)))] for other, of in gaps.items()]
    note = (
        f"Superior: the interval lies above 0. Non-inferior: above −{margin:g}, the loss named in the config before "
        f"anything was measured. Nothing is corrected for the number of comparisons."
    )
    return Table(f"{label(headline)} minus each trivial score, paired", header, rows, notes=(note,) if rows else ())


def verdict(gap: dict | None, margin: float) -> str | None:
    """Give what `non_inferiority` says of a difference; None where it has no interval."""
    if not gap or gap["low"] is None:
        return None
    return non_inferiority(Interval(gap["value"], gap["low"], gap["high"]), margin)


def best_trivial(results: dict, sample: Sample) -> tuple[str, dict] | None:
    """Find the trivial score that does best on test by the metric that decides; None where that is undefined."""
    found = {
        name: metrics[sample.primary]
        for name, metrics in results[sample.noun].items()
        if name.startswith(TRIVIAL) and metrics and metrics[sample.primary]["value"] is not None
    }
    return max(found.items(), key=lambda one: one[1]["value"]) if found else None


def groups(results: dict) -> list[Table]:
    """Give the headline score within each group of people, at its threshold, a table a level and column."""
    return [
        _groups(found, f"{level.capitalize()} level by {column}")
        for level, columns in results["groups"].items()
        for column, found in columns.items()
    ]


def _groups(found: dict[str, dict], caption: str) -> Table:
    about = ("patients", "cases", "abnormal")
    kinds = {
        "healthy_patients": "healthy patients with a case called",
        "healthy_cases": "healthy cases called",
        "abnormal_cases": "sensitivity",
    }
    metric = next(name for of in found.values() for name in of if name not in (*about, "realised"))
    rows = [
        [group, *(of[name] for name in about), of[metric], *(share((of["realised"] or {}).get(kind)) for kind in kinds)]
        for group, of in found.items()
    ]
    return Table(caption, ["group", *about, label(metric), *kinds.values()], rows)


def share(found: dict | None) -> dict | None:
    """Give counts of `thresholds.realised` as a cell."""
    if not found or found["share"] is None:
        return None
    return found | {"value": found["share"], "count": f"{found['called']} of {found['of']}"}

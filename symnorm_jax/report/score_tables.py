"""The tables of scores that a report, a model card and the terminal show of a run's `metrics.json`."""

import numpy as np
from ml_collections import ConfigDict

from symnorm_jax.evaluation import detection
from symnorm_jax.evaluation.measures import MEASURES
from symnorm_jax.evaluation.wording import Sample
from symnorm_jax.report.table import UNDEFINED, Table, number
from symnorm_jax.scoring.scores import TRIVIAL, ZERO_SHOT, own
from symnorm_jax.statistics.intervals import Interval
from symnorm_jax.statistics.paired import non_inferiority

NAMES = {
    "auroc": "AUROC",
    "auroc_within_position": "AUROC within position",
    "auroc_within_area": "AUROC within brain area",
    "auroc_adjusted": "AUROC adjusted for position and area",
    "auroc_adjusted_for_area": "AUROC adjusted for brain area",
    "partial_auroc": "partial AUROC",
    "f1": "F1",
    "rmse": "root mean squared error",
    "r2": "R²",
    "froc_mean": "FROC, mean of the four",
    "false_positives": "false positives a scan",
    "dice_at_5_fpr": "Dice at 5 % FPR of validation",
    "fpr_at_5_fpr": "FPR at that threshold",
    "dice": "Dice",
    "dice_oracle": "best Dice, chosen on test",
    "map": "difference map",
    "roc": "ROC (Youden)",
    "mean_plus_k_sd": "mean + k SD",
} | {f"froc_{point}": f"sensitivity at {point} false positives a scan" for point in detection.POINTS}
SUMMARY = (  # of "sample" the level is that of slices or volumes
    ("sample", "auroc_within_position", "AUROC within position"),
    ("sample", "auroc", "AUROC"),
    ("sample", "auroc_adjusted", "AUROC adjusted"),
    ("sample", "average_precision", "average precision"),
    ("patient", "auroc", "AUROC"),
    ("pixel", "average_precision", "average precision"),
)
PLAIN = ("auroc", "auroc_adjusted", "average_precision")  # columns of it, whatever a sample is
AT_THRESHOLD = {one.name for one in MEASURES if one.needs == "threshold"}


def label(name: str) -> str:
    """A score, metric or rule as a reader names it."""
    return NAMES.get(name, name.replace("_", " "))


POPULATIONS = {  # in which a prediction is judged
    "same": "like those trained on",
    "held out": "of the group held out",
    "abnormal": "not healthy",
}


def prediction(results: dict, target: ConfigDict) -> Table | None:
    """How well a target is predicted of the people of the test split, a row a population; None without a target."""
    if "prediction" not in results:
        return None
    found = results["prediction"]
    metrics = [name for name in next(iter(found.values()), {}) if name not in ("patients", "scans")]
    rows = [
        [f"{POPULATIONS[name]}, {of['patients']}", *(of[metric] for metric in metrics)] for name, of in found.items()
    ]
    unit = f"{target.column}, a number in its own unit"
    what = unit if target.kind == "number" else f"{target.column}={target.positive}, a class; at a probability of 0.5"
    return Table(f"Predicted of test people: {what}", ["people", *map(label, metrics)], rows)


def summary(results: dict, cost: dict, headline: str, sample: Sample) -> Table:
    """Every score and every trivial score, a row each: what it tells at each level, and what it costs."""
    everything = dict.fromkeys([*results[sample.noun], *results.get("pixel", {})])
    scores = sorted(everything, key=lambda name: not own(name))  # sorting keeps the order otherwise
    columns = _summary(results, sample)
    titles = [f"{level}s: {title}{_prevalence(results, level, metric, headline)}" for level, metric, title in columns]
    rows = [
        [label(name), *(results.get(level, {}).get(name, {}).get(metric) or UNDEFINED for level, metric, _ in columns)]
        + expense(name, cost)
        for name in scores
    ]
    costs = [f"passes a {sample.noun}", f"seconds a {sample.noun}", "parameters"]
    return Table("All scores on the test split", ["score", *titles, *costs], rows, (label(headline),))


def _summary(results: dict, sample: Sample) -> list[tuple[str, str, str]]:
    """Level, metric and title of the columns of SUMMARY that are told."""
    asked = [one for one in SUMMARY if one[1] in (sample.primary, *PLAIN)]
    found = [(sample.noun if level == "sample" else level, metric, title) for level, metric, title in asked]
    return [one for one in found if one[0] != "patient" or "patient" in results]


def expense(name: str, cost: dict) -> list[str]:
    """Passes, seconds and parameters of a score; a trivial score passes through no network.

    The source's cost stands in its own run.
    """
    if not own(name):
        return [UNDEFINED if name == ZERO_SHOT else "0", UNDEFINED, UNDEFINED]
    seconds, parameters = cost.get("seconds_per_sample"), cost.get("parameters")
    return [
        str(cost.get("passes", UNDEFINED)),
        UNDEFINED if seconds is None else _digits(seconds),
        UNDEFINED if parameters is None else f"{parameters:,}",
    ]


def full(results: dict, level: str, headline: str) -> list[Table]:
    """Every metric of a level but the paired differences, those that need no threshold first.

    Rows in which nothing is defined are left out: at patient level all of them, where everybody is diseased.
    """
    found = {name: _metrics(metrics) for name, metrics in results[level].items()}
    named = list(dict.fromkeys(metric for metrics in found.values() for metric in metrics if metric != "prevalence"))
    parts = {
        "without a threshold": [metric for metric in named if metric not in AT_THRESHOLD],
        "at the threshold from validation": [metric for metric in named if metric in AT_THRESHOLD],
    }
    return [_table(found, columns, f"{level.capitalize()} level, {part}", headline) for part, columns in parts.items()]


def differences(results: dict, headline: str, margin: float, sample: Sample) -> Table:
    """The headline score minus each baseline on the same replicates, and what the interval says of it."""
    decides = {sample.noun: sample.primary} | ({"patient": "auroc"} if "patient" in results else {})
    pairs = {level: paired(results[level][headline]) for level in decides}
    others = list(dict.fromkeys(other for found in pairs.values() for other in found))
    header = ["baseline"]
    for level, metric in decides.items():
        header += [f"{level}s: difference in {label(metric)}", "verdict"]
    rows = []
    for other in others:
        row = [label(other)]
        for level in decides:
            gap = pairs[level].get(other)
            row += [gap or UNDEFINED, verdict(gap, margin)]
        rows.append(row)
    note = (
        f"Superior: the interval lies above 0. Non-inferior: above −{margin:g}, the loss named in the config before "
        f"anything was measured. Nothing is corrected for the number of comparisons."
    )
    return Table(f"{label(headline)} minus each baseline, paired", header, rows, notes=(note,) if rows else ())


def paired(found: dict[str, dict]) -> dict[str, dict]:
    """`{baseline: difference}` among the metrics of a score."""
    return {metric.split("_minus_")[1]: gap for metric, gap in found.items() if "_minus_" in metric}


def verdict(gap: dict | None, margin: float) -> str:
    """What `non_inferiority` says of a difference; a dash where it has no interval."""
    if not gap or gap["low"] is None:
        return UNDEFINED
    return non_inferiority(Interval(gap["value"], gap["low"], gap["high"]), margin)


def best_trivial(results: dict, sample: Sample) -> tuple[str, dict] | None:
    """The trivial score that does best on test, by the metric that decides, and its interval; None if undefined."""
    found = {
        name: metrics[sample.primary]
        for name, metrics in results[sample.noun].items()
        if name.startswith(TRIVIAL) and metrics and metrics[sample.primary]["value"] is not None
    }
    return max(found.items(), key=lambda one: one[1]["value"]) if found else None


def groups(results: dict) -> list[Table]:
    """The headline score within each group of people, at its threshold, by level and column."""
    return [
        _groups(found, f"{level.capitalize()} level by {column}")
        for level, columns in results["groups"].items()
        for column, found in columns.items()
    ]


def steps(results: dict) -> Table | None:
    """What each step of post-processing does to the difference map; None without a map or a lesion."""
    if "steps" not in results:
        return None
    found = {row.replace("+", "with "): metrics for row, metrics in results["steps"].items()}
    columns = list(dict.fromkeys(metric for metrics in found.values() for metric in metrics))
    return _table(found, columns, "Difference map after each step of post-processing, with all before it", "")


def share(found: dict | None) -> dict | str:
    """Counts of `thresholds.realised` as a cell."""
    if not found or found["share"] is None:
        return UNDEFINED
    bounds = {"low": found.get("low"), "high": found.get("high")}
    return {"value": found["share"], **bounds, "count": f"{found['called']} of {found['of']}"}


def _digits(value: float) -> str:
    return np.format_float_positional(value, precision=2, fractional=False, trim="-")


def _table(found: dict[str, dict], columns: list[str], caption: str, headline: str) -> Table:
    rows = [[label(name), *(metrics.get(metric) or UNDEFINED for metric in columns)] for name, metrics in found.items()]
    defined = [row for row in rows if any(isinstance(x, dict) and x["value"] is not None for x in row)]
    reasons = [x.get("reason") for metrics in found.values() for x in metrics.values() if x["value"] is None]
    why = tuple(f"{UNDEFINED}: {reason}" for reason in dict.fromkeys(filter(None, reasons)))
    return Table(caption, ["", *map(label, columns)], defined, (label(headline), label("map")), why)


def _metrics(found: dict[str, dict]) -> dict[str, dict]:
    return {metric: values for metric, values in found.items() if "_minus_" not in metric}


def _prevalence(results: dict, level: str, metric: str, headline: str) -> str:
    found = results.get(level, {}).get("map" if level == "pixel" else headline, {})
    known = metric == "average_precision" and found.get("prevalence", {}).get("value") is not None
    return f" (prevalence {number(found['prevalence']['value'])})" if known else ""


def _groups(found: dict[str, dict], caption: str) -> Table:
    header, rows = ["group", "patients", "cases", "abnormal"], []
    about = ("patients", "cases", "abnormal", "realised")
    for group, values in found.items():
        metric = next(name for name in values if name not in about)
        rates = values["realised"] or {}
        rows.append(
            [group, *(str(values[name]) for name in about[:3]), values[metric]]
            + [share(rates.get(kind)) for kind in ("healthy_patients", "healthy_cases", "abnormal_cases")]
        )
    realised = ["healthy patients with a case called", "healthy cases called", "sensitivity"]
    return Table(caption, [*header, label(metric), *realised], rows)

"""Every number that a run is judged by: its name in files, its label, what it needs, and where it is shown.

To add one, write the function (of slices and patients in `statistics/metrics.py`) and a line here: it is then computed,
and stands in the full tables of its levels; `shown` puts it into the short ones too.
"""

from collections.abc import Callable
from typing import NamedTuple

from symnorm_jax.statistics import metrics

WITHIN = "auroc_within_position"
ALL = ("terminal", "summary", "comparison")  # the short tables
SAMPLES = ("slice", "volume", "patient")  # levels whose cases have a score; a sample is a slice or a volume


class Measure(NamedTuple):
    """A line of the list."""

    name: str  # in metrics.json
    label: str  # for readers
    of: Callable | None  # of `statistics.metrics`; None where a level computes it by itself
    needs: str  # scores, threshold, position, covariates, map, lesions or target
    shown: dict[str, tuple[str, ...]]  # {level: the short tables in which it stands}


def _everywhere(*places: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(SAMPLES, places)


MEASURES = (
    Measure(WITHIN, "AUROC within position", metrics.auroc_within, "position", {"slice": ALL}),
    Measure("auroc", "AUROC", metrics.auroc, "scores", _everywhere(*ALL) | {"pixel": ("terminal",), "class": ()}),
    Measure("auroc_delong", "AUROC, DeLong", None, "scores", _everywhere()),
    Measure("partial_auroc", "partial AUROC", metrics.partial_auroc, "scores", _everywhere()),
    Measure(
        "auroc_adjusted",
        "AUROC adjusted",
        metrics.auroc_adjusted,
        "covariates",
        {"slice": ("summary",), "volume": ("summary",)},
    ),
    Measure(
        "average_precision",
        "average precision",
        metrics.average_precision,
        "scores",
        {"slice": ALL, "volume": ALL, "patient": ("terminal", "comparison"), "pixel": ALL, "class": ()},
    ),
    Measure("prevalence", "prevalence", metrics.prevalence, "scores", _everywhere() | {"pixel": ()}),
    Measure(
        "accuracy",
        "accuracy",
        metrics.accuracy,
        "threshold",
        {"slice": (), "volume": ("terminal",), "patient": ("terminal",), "class": ()},
    ),
    Measure("sensitivity", "sensitivity", metrics.sensitivity, "threshold", _everywhere() | {"lesion": ("terminal",)}),
    Measure("specificity", "specificity", metrics.specificity, "threshold", _everywhere()),
    Measure(
        "positive_predictive_value",
        "positive predictive value",
        metrics.positive_predictive_value,
        "threshold",
        _everywhere(),
    ),
    Measure(
        "negative_predictive_value",
        "negative predictive value",
        metrics.negative_predictive_value,
        "threshold",
        _everywhere(),
    ),
    Measure("f1", "F1", metrics.f1, "threshold", _everywhere()),
    Measure("dice_oracle", "best Dice, chosen on test", None, "map", {"pixel": ()}),
    Measure("dice", "Dice", None, "threshold", {"pixel": ("terminal",)}),
    Measure("dice_at_5_fpr", "Dice at 5 % FPR of validation", None, "threshold", {"pixel": ()}),
    Measure("fpr_at_5_fpr", "FPR at that threshold", None, "threshold", {"pixel": ()}),
    Measure("froc_mean", "FROC, mean of the four", None, "map", {"lesion": ("terminal",)}),
    *(
        Measure(f"froc_{point}", f"sensitivity at {point} false positives a scan", None, "map", {"lesion": ()})
        for point in (1, 2, 4, 8)
    ),
    Measure("precision", "precision", None, "threshold", {"lesion": ()}),
    Measure("false_positives", "false positives a scan", None, "threshold", {"lesion": ("terminal",)}),
    *(
        Measure(f"sensitivity_{third}", f"sensitivity, {third}", None, "threshold", {"lesion": ()})
        for third in ("small", "middle", "large")
    ),
    Measure("mean_absolute_error", "mean absolute error", None, "target", {"number": ()}),
    Measure("rmse", "root mean squared error", None, "target", {"number": ()}),
    Measure("r2", "R²", None, "target", {"number": ()}),
    Measure("correlation", "correlation", None, "target", {"number": ()}),
    Measure("balanced_accuracy", "balanced accuracy", None, "target", {"class": ()}),
)
LABELS = {measure.name: measure.label for measure in MEASURES} | {
    "map": "difference map",
    "roc": "ROC (Youden)",
    "mean_plus_k_sd": "mean + k SD",
}


def label(name: str) -> str:
    """Give a measure, score or rule as a reader names it."""
    return LABELS[name] if name in LABELS else name.replace("_", " ")


def of_level(level: str, place: str | None = None) -> list[Measure]:
    """List the measures of a level: all, or those of one of the short tables."""
    return [one for one in MEASURES if level in one.shown and (place is None or place in one.shown[level])]

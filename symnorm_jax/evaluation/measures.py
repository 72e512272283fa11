"""Every number that a run is judged by: its name in files, its label, what it needs, and where it is shown.

To add one, write the function (of slices and patients in `statistics/metrics.py`) and a line here: it is then computed,
and stands in the full tables of its levels; `shown` puts it into the short ones too. What a sample is called is here.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.evaluation.cases import LEVELS
from symnorm_jax.statistics import metrics

WITHIN, PAIRED = "auroc_within_position", "auroc_within_person"
ALL = ("terminal", "summary", "comparison")  # the short tables
POINTS = (1, 2, 4, 8)  # mean false positives a scan at which sensitivity to lesions is read
THIRDS = ("small", "middle", "large")  # of lesions by their size
SAMPLES = ("slice", "volume", "patient")  # levels whose cases have a score; a sample is a slice or a volume


class Measure(NamedTuple):
    """A line of the list."""

    name: str  # in metrics.json
    label: str  # for readers
    of: Callable | None  # of `statistics`; None where a level computes it by itself
    needs: str  # what `of` is given: scores, labels, threshold, position, covariates, pairs or target; or else map
    shown: dict[str, tuple[str, ...]]  # {level: the short tables in which it stands}; the first of a level decides


def _at(*levels: str, places: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(levels, places)


TERMINAL, CASES = ("terminal",), _at(*SAMPLES)
ADJUSTED = _at("slice", "volume", places=("summary",))
PRECISION = _at("slice", "volume", "pixel", places=ALL) | {"patient": ("terminal", "comparison"), "class": ()}
ACCURACY = _at("slice", "class") | _at("volume", "patient", places=TERMINAL)
PPV, NPV = metrics.positive_predictive_value, metrics.negative_predictive_value
MEASURES = (
    Measure(WITHIN, "AUROC within position", metrics.auroc_within, "position", _at("slice", places=ALL)),
    Measure("auroc", "AUROC", metrics.auroc, "scores", _at(*SAMPLES, places=ALL) | {"pixel": TERMINAL, "class": ()}),
    Measure(PAIRED, "AUROC within person", metrics.auroc_within_person, "pairs", _at("volume", places=ALL)),
    Measure("auroc_delong", "AUROC, DeLong", None, "scores", CASES),
    Measure("partial_auroc", "partial AUROC", metrics.partial_auroc, "scores", CASES),
    Measure("auroc_adjusted", "AUROC adjusted", metrics.auroc_adjusted, "covariates", ADJUSTED),
    Measure("average_precision", "average precision", metrics.average_precision, "scores", PRECISION),
    Measure("prevalence", "prevalence", metrics.prevalence, "labels", _at(*SAMPLES, "pixel")),
    Measure("accuracy", "accuracy", metrics.accuracy, "threshold", ACCURACY),
    Measure("sensitivity", "sensitivity", metrics.sensitivity, "threshold", CASES | {"lesion": TERMINAL}),
    Measure("specificity", "specificity", metrics.specificity, "threshold", CASES),
    Measure("positive_predictive_value", "positive predictive value", PPV, "threshold", CASES),
    Measure("negative_predictive_value", "negative predictive value", NPV, "threshold", CASES),
    Measure("f1", "F1", metrics.f1, "threshold", CASES),
    Measure("dice_oracle", "best Dice, chosen on test", None, "map", _at("pixel")),
    Measure("dice", "Dice", None, "threshold", _at("pixel", places=("terminal", "comparison"))),
    Measure("dice_by_patient", "Dice, mean of patients", None, "threshold", _at("pixel", places=TERMINAL)),
    Measure("dice_at_5_fpr", "Dice at 5 % FPR of validation", None, "threshold", _at("pixel")),
    Measure("fpr_at_5_fpr", "FPR at that threshold", None, "threshold", _at("pixel")),
    Measure("froc_mean", "FROC, mean of the four", None, "map", _at("lesion", places=("terminal", "comparison"))),
    *(Measure(f"froc_{n}", f"sensitivity at {n} false positives a scan", None, "map", _at("lesion")) for n in POINTS),
    Measure("precision", "precision", None, "threshold", _at("lesion")),
    Measure("false_positives", "false positives a scan", None, "threshold", _at("lesion", places=TERMINAL)),
    *(Measure(f"sensitivity_{third}", f"sensitivity, {third}", None, "threshold", _at("lesion")) for third in THIRDS),
    Measure("mean_absolute_error", "mean absolute error", metrics.mean_absolute_error, "target", _at("number")),
    Measure("rmse", "root mean squared error", metrics.root_mean_squared_error, "target", _at("number")),
    Measure("r2", "R²", metrics.determination, "target", _at("number")),
    Measure("correlation", "correlation", metrics.correlation, "target", _at("number")),
    Measure("balanced_accuracy", "balanced accuracy", metrics.balanced_accuracy, "threshold", _at("class")),
)
LABELS = {"raw_map": "raw map", "highest": "20 highest pixels"}
LABELS |= {"roc": "ROC (Youden)", "mean_plus_k_sd": "mean + k SD"}
LABELS |= {measure.name: measure.label for measure in MEASURES}


def label(name: str) -> str:
    """Give a measure, score or rule as a reader names it."""
    return LABELS.get(name, name.replace("_", " "))


def of_level(level: str, place: str | None = None) -> list[Measure]:
    """List the measures of a level: all, or what one of the short tables shows."""
    return [one for one in MEASURES if level in one.shown and (place is None or place in one.shown[level])]


class Sample(NamedTuple):
    """The words for a sample; `{}` in a sentence is a setting of the run."""

    noun: str  # the level of its measures
    element: str  # what an array of it is made of
    confounds: str  # what is controlled for; bands of height
    neither: str  # which are not judged; the margin of a lesion
    unjudged: str  # the same among a model card's limits
    alike: str = ""  # what those that the primary measure compares share
    neighbours: str = ""  # why of each patient the worst sample is shown alone
    picture: str = ""  # what is drawn of it
    left_out: str = ""  # what has too little brain; how many, and mm2
    untold: tuple[str, ...] = ()  # columns that are the same for every sample

    @property
    def primary(self) -> str:
        """The measure that decides between samples."""
        return of_level(self.noun)[0].name


SLICE = Sample(
    noun="slice",
    element="pixels",
    confounds="Slice position alone can tell slices apart, so the AUROC within position compares slices of {} bands of "
    "height only with their like; the adjusted one takes position and brain area out of every score.",
    neither="show a trace of lesion, or lie within {} of one",
    unjudged="Slices next to a lesion, or with a trace of one,",
    alike=" of the same height",
    neighbours=", since neighbouring slices look alike",
    left_out=" {} slices with less than {:g} mm² of brain were left out.",
)
VOLUME = Sample(
    noun="volume",
    element="voxels",
    confounds="The adjusted AUROC takes brain area, the mean over the slices of a volume, out of every score.",
    neither="show a trace of lesion and no more",
    unjudged="Volumes with no more than a trace of lesion",
    picture=" Of a volume there is the slice with most of its lesion or, without one, the highest of its map; "
    "without a map the middle slice.",
    untold=("slice", "position"),
)


def sample_of(config: ConfigDict) -> Sample:
    """Give VOLUME where `data.size` has three sides, else SLICE: the one place that decides."""
    return VOLUME if len(config.data.size) == 3 else SLICE


def levels_of(table: pd.DataFrame, config: ConfigDict) -> dict[str, str]:
    """Name the LEVELS told of a score table; one where every judged patient is one volume with the patient's label."""
    noun, judged = sample_of(config).noun, table[table.split.isin(("val", "test"))]
    people = np.where(judged.healthy_person, "healthy", "abnormal")
    same = judged.patient.is_unique and (judged.label == people).all() and config.score.patient != "calibrated"
    return {"sample": noun} if noun == "volume" and same else dict(zip(LEVELS, (noun, "patient"), strict=True))


def named(parts: dict, levels: dict[str, str]) -> dict:
    """Name what there is of each level as people read it."""
    return {name: parts[level] for level, name in levels.items()}


def told(results: dict, levels: dict[str, str]) -> dict:
    """Give `metrics.json` with the names of `levels` in place of LEVELS."""
    found = {part: one for part, one in results.items() if part not in LEVELS} | named(results, levels)
    return found | {part: named(results[part], levels) for part in ("thresholds", "groups", "calibration")}

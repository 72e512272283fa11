"""Is a scan like those that a model was trained on? What is asked before a verdict, and the ranges of the answers.

A range goes from the 1st to the 99th percentile of the scans of training and validation, each end moved out by MARGIN
of the distance between them, and by no less than the measure's `slack`.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data import samples, store
from symnorm_jax.data.manifest import SPLITS, group_columns
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.cases import patient_cases
from symnorm_jax.evaluation.postprocess import erode
from symnorm_jax.inference import orientation, told
from symnorm_jax.inference.reading import grid_mm
from symnorm_jax.scoring.scores import ABOUT, validation

MARGIN = 0.25
SCANS = 200  # that ranges are measured on, at most
BINS = 40  # of the histogram of intensities
EDGES = {"percentiles": (0.0, samples.BRIGHTEST), "robust": (-samples.FARTHEST, samples.FARTHEST)}  # data.normalise

WHOLE = "every slice scores above the highest of healthy validation: the scan as a whole is unlike, as by another "
WHOLE += "scanner, contrast or brain mask"


class Measure(NamedTuple):
    """What is measured of a scan."""

    told: str
    slack: float
    sides: str  # low, high or both: where a scan can be out of range


MEASURES = {
    "brain_ml": Measure("ml of brain", 100.0, "both"),
    "slices": Measure("slices with brain", 2.0, "both"),
    "left_out": Measure("of the slices left out for too little brain", 0.1, "both"),
    "thickness_mm": Measure("mm along the longest edge of a voxel", 1.0, "high"),
    "tilt": Measure("degrees of tilt", 5.0, "high"),
    "mirror_similarity": Measure("correlation of the brain with its mirror image", 0.02, "low"),
    "rim": Measure("brightness of the rim of the brain mask", 0.25, "both"),
    "contrast": Measure("away from the histogram of intensities", 0.02, "high"),
    "upright": Measure("more like the mean brain than the best other way round", 0.02, "low"),
}


class Measured(NamedTuple):
    """What is measured of a scan alone; histogram and cells are held against their mean over training scans."""

    values: dict[str, float]  # of MEASURES
    histogram: np.ndarray  # [BINS]
    cells: np.ndarray  # see `orientation.cells`


def reference(rows: pd.DataFrame, table: pd.DataFrame, config: ConfigDict) -> dict:
    """Measure what new scans are compared with, of a run's manifest `rows` and its `table` of scores; plain JSON.

    `people` by split; `contrast` by names; `told` of people, see `told.people_of`; `scores`: those of healthy
    validation people, ascending, and of their slices with the positions; and `ranges_of`. Raises RunError where the
    prepared slices have gone.
    """
    counts, scores = {split: rows.patient[rows.split == split].nunique() for split in SPLITS}, scores_of(table, config)
    learned = rows[rows.split.isin(SPLITS[:2]) & (rows.healthy_person | (config.data.train_on == "lesion_free_slices"))]
    keys = np.array(sorted(learned.store.unique()))
    chosen = keys[np.linspace(0, len(keys) - 1, min(len(keys), SCANS)).astype(int)]
    parts = [of_rows(learned[learned.store == key], config) for key in chosen]
    options = told.said(" ".join(str(value) for value in config.data.options.values() if isinstance(value, str)))
    return {
        "people": counts | {"healthy validation": len(scores["people"])},
        "contrast": options or told.usual(list(learned.source.unique())),
        "told": told.people_of(learned.drop_duplicates("store")[group_columns(rows)].to_dict("records")),
        "scores": scores,
        **ranges_of(parts, config),
    }


def scores_of(table: pd.DataFrame, config: ConfigDict) -> dict:
    """List the scores of healthy validation people, ascending, and of their slices with the positions."""
    headline, healthy = config.score.headline, validation(table, "healthy")
    cases = patient_cases(table[[*ABOUT, headline]], "val", config.score.patient, config.score.top_k)
    slices = {"position": healthy.position.tolist(), "score": healthy[headline].astype(float).tolist()}
    return {"people": np.sort(cases[headline][~cases.positive].to_numpy(float)).tolist(), "slices": slices}


def ranges_of(parts: list[Measured], config: ConfigDict) -> dict:
    """Give the mean `histogram` and `cells` of scans that were measured, and the `ranges`."""
    mean = {name: np.mean([getattr(one, name) for one in parts], 0) for name in ("histogram", "cells")}
    mean = {name: values.round(4).tolist() for name, values in mean.items()}
    found = pd.DataFrame([compared(one, mean, config) for one in parts])
    ranges = {name: limits(found[name].to_numpy(float), MEASURES[name]) for name in MEASURES}
    return mean | {"ranges": ranges}


def limits(values: np.ndarray, measure: Measure) -> dict[str, float | int | None]:
    """Make the range of a measure of scans `[N]`: `low` and `high`, None where a scan cannot be out of it."""
    low, high = np.percentile(values, [1, 99])
    room = max(MARGIN * (high - low), measure.slack)
    ends = {"low": float(low - room), "high": float(high + room)}
    return {end: x if measure.sides in (end, "both") else None for end, x in ends.items()} | {"scans": len(values)}


def measured(rows: pd.DataFrame, arrays: np.ndarray, about: dict, config: ConfigDict) -> Measured:
    """Measure a scan that was cut, `[N, *S, C + 2]`."""
    planes = arrays if arrays.ndim == 4 else np.moveaxis(arrays[0], 2, 0)
    image, brain = planes[..., 0].astype(np.float32), planes[..., -2] > 0
    spacing, inside, one = config.data.spacing, image[brain], rows.iloc[0]
    step, voxel = grid_mm(rows, np.array(about["to_voxel"]), spacing)
    spread = max(float(np.subtract(*np.percentile(inside, [75, 25]))), np.finfo(np.float32).tiny)
    rim = image[brain & ~erode(brain, spacing, spacing)]
    found = {
        "brain_ml": float(brain.sum() * step.prod() / 1000),
        "slices": int(brain.any((1, 2)).sum()),
        "left_out": about["left_out"] / (len(rows) + about["left_out"]),
        "thickness_mm": float(voxel.max()),
        "tilt": float(np.hypot(one.roll, one.yaw)),
        "mirror_similarity": float(one.mirror_similarity),
        "rim": float((np.median(rim) - np.median(inside)) / spread),
    }
    counts, _ = np.histogram(inside, BINS, EDGES[config.data.normalise])
    image, brain = (np.moveaxis(x, 0, 2) for x in (image, brain))
    return Measured(found, counts / max(counts.sum(), 1), orientation.cells(image, brain))


def compared(one: Measured, mean: dict, config: ConfigDict) -> dict[str, float]:
    """Give all MEASURES of a scan: its own, and those against the `mean` of training scans."""
    contrast = apart(one.histogram, mean["histogram"], config)
    return one.values | {"contrast": contrast, "upright": orientation.upright(one.cells, mean["cells"])}


def asked(one: Measured, about: told.About, config: ConfigDict, reference: dict) -> tuple[dict, dict[str, str]]:
    """Give all MEASURES of a scan, and say in what it is unlike the training scans, `{kind: sentence}`."""
    found = compared(one, reference, config)
    return found, told.doubts(about, reference) | doubts(found, about.brain_from, config, reference)


def apart(histogram: np.ndarray, other: np.ndarray, config: ConfigDict) -> float:
    """Measure the earth mover's distance of two histograms `[BINS]`, in units of normalised intensity."""
    low, high = EDGES[config.data.normalise]
    return float(np.abs(np.cumsum(np.subtract(histogram, other))).sum() * (high - low) / BINS)


def doubts(found: dict[str, float], brain_from: str, config: ConfigDict, reference: dict) -> dict[str, str]:
    """Say which measures of a scan are not in the ranges of training, or that its mask is of another kind.

    A measure that is NaN is in no range; an end that is NaN, as where no mid-line was asked for, is none.
    """
    unlike = {}
    if (brain_from == "head") != (config.data.brain == "head"):
        unlike["mask"] = f"its brain mask is from {brain_from!r}, those of training were from {config.data.brain!r}"
    for key, measure in MEASURES.items():
        low, high = (reference["ranges"][key][end] for end in ("low", "high"))
        floor, ceiling = (end is None or np.isnan(end) for end in (low, high))  # that is not there
        if not ((floor or found[key] >= low) and (ceiling or found[key] <= high)):
            ends = " to ".join("any" if end is None else f"{end:.3g}" for end in (low, high))
            unlike[key] = f"{found[key]:.3g} {measure.told}; {ends} is the range of training"
    return unlike


def whole(slices: pd.DataFrame, config: ConfigDict, reference: dict) -> dict[str, str]:
    """Say so where every one of a scan's `slices`, with their scores, is above all healthy slices of validation."""
    highest = max(reference["scores"]["slices"]["score"], default=np.inf)
    return {"whole": WHOLE} if len(config.data.size) == 2 and slices[config.score.headline].min() > highest else {}


def of_rows(rows: pd.DataFrame, config: ConfigDict) -> Measured:
    """Measure a scan of the store, by its rows in a manifest. Raises RunError where it has gone."""
    folder, key = Path(config.data.store), rows.store.iloc[0]
    about = store.read_about(folder, key)
    if about is None:
        raise RunError(f"data.store={folder}: prepared slices of the run have gone; `symnorm train` makes them anew.")
    source = store.SampleSource(folder, rows)
    each = [source[i] for i in range(len(rows))]
    arrays = np.stack([np.concatenate([one["image"], one["brain"], one["brain"]], -1) for one in each])
    return measured(rows, arrays, about, config)

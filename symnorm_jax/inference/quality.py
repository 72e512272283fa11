"""Is a scan like those that a model was trained on? What is asked before a verdict, and the ranges of the answers.

A range goes from the 1st to the 99th percentile of the scans of training and validation, each end moved out by MARGIN
of the distance between them, and by no less than the measure's `slack`.
"""

import re
from collections import Counter
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data import samples, store
from symnorm_jax.data.manifest import SPLITS
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.cases import patient_cases
from symnorm_jax.evaluation.postprocess import erode
from symnorm_jax.inference.reading import Prepared, grid_mm
from symnorm_jax.scoring.scores import ABOUT, validation

MARGIN = 0.25
SCANS = 200  # that ranges are measured on, at most
BINS = 40  # of the histogram of intensities
EDGES = {"percentiles": (0.0, samples.BRIGHTEST), "robust": (-samples.FARTHEST, samples.FARTHEST)}  # data.normalise
WORDS = {  # of file names, in lower case, that tell a contrast
    "t1": "t1|t1w|t1n|mprage|mpr|bravo|spgr",
    "t1 after contrast": "t1c|t1ce|t1gd|gd|gadolinium|postcontrast",
    "t2": "t2|t2w|tse",
    "flair": "flair|t2f",
    "pd": "pd|pdw",
    "diffusion": "dwi|adc|dti",
    "susceptibility": "swi|t2star|t2starw",
}
HIDDEN = {"t1 after contrast": "t1", "flair": "t2"}  # names of the one often have a word of the other


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
}


def reference(rows: pd.DataFrame, table: pd.DataFrame, config: ConfigDict) -> dict:
    """Measure what new scans are compared with, of a run's manifest `rows` and its `table` of scores; plain JSON.

    `people` by split; `contrast` by names; `scores`: those of healthy validation people, ascending, and of their slices
    with the positions; `histogram` `[BINS]` and `ranges`. Raises RunError where the prepared slices have gone.
    """
    counts, scores = {split: rows.patient[rows.split == split].nunique() for split in SPLITS}, scores_of(table, config)
    learned = rows[rows.split.isin(SPLITS[:2]) & (rows.healthy_person | (config.data.train_on != "healthy_people"))]
    keys = np.array(sorted(learned.store.unique()))
    chosen = keys[np.linspace(0, len(keys) - 1, min(len(keys), SCANS)).astype(int)]
    parts = [_stored(learned[learned.store == key], config) for key in chosen]
    options = said(" ".join(str(value) for value in config.data.options.values() if isinstance(value, str)))
    return {
        "people": counts | {"healthy validation": len(scores["people"])},
        "contrast": options or _usual(learned.source.drop_duplicates()),
        "scores": scores,
        **ranges_of(parts, config),
    }


def scores_of(table: pd.DataFrame, config: ConfigDict) -> dict:
    """List the scores of healthy validation people, ascending, and of their slices with the positions."""
    headline, healthy = config.score.headline, validation(table, "healthy")
    cases = patient_cases(table[[*ABOUT, headline]], "val", config.score.patient, config.score.top_k)
    slices = {"position": healthy.position.tolist(), "score": healthy[headline].astype(float).tolist()}
    return {"people": np.sort(cases[headline][~cases.positive].to_numpy(float)).tolist(), "slices": slices}


def ranges_of(parts: list[tuple[dict, np.ndarray]], config: ConfigDict) -> dict:
    """Give the mean `histogram` `[BINS]` and the `ranges` of what `measures` has measured of scans."""
    histogram = np.mean([histogram for _, histogram in parts], 0)
    found = pd.DataFrame([of | {"contrast": apart(own, histogram, config)} for of, own in parts])
    ranges = {name: limits(found[name].to_numpy(float), MEASURES[name]) for name in MEASURES}
    return {"histogram": histogram.tolist(), "ranges": ranges}


def limits(values: np.ndarray, measure: Measure) -> dict[str, float | int | None]:
    """Make the range of a measure of scans `[N]`: `low` and `high`, None where a scan cannot be out of it."""
    low, high = np.percentile(values, [1, 99])
    room = max(MARGIN * (high - low), measure.slack)
    ends = {"low": float(low - room), "high": float(high + room)}
    return {end: x if measure.sides in (end, "both") else None for end, x in ends.items()} | {"scans": len(values)}


def measures(rows: pd.DataFrame, arrays: np.ndarray, about: dict, config: ConfigDict) -> tuple[dict, np.ndarray]:
    """Measure a scan that was cut, `[N, *S, C + 2]`: `{measure: value}`, but for the contrast, and its histogram."""
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
    return found, counts / max(counts.sum(), 1)


def asked(made: Prepared, config: ConfigDict, reference: dict) -> tuple[dict[str, float], list[str]]:
    """Measure a scan that was cut, and say in what it is unlike the training scans."""
    found, histogram = measures(made.rows, made.arrays, made.about, config)
    found["contrast"] = apart(histogram, reference["histogram"], config)
    return found, doubts(found, made.scan.location, made.brain_from, config, reference)


def apart(histogram: np.ndarray, other: np.ndarray, config: ConfigDict) -> float:
    """Measure the earth mover's distance of two histograms `[BINS]`, in units of normalised intensity."""
    low, high = EDGES[config.data.normalise]
    return float(np.abs(np.cumsum(np.subtract(histogram, other))).sum() * (high - low) / BINS)


def doubts(found: dict[str, float], name: str, brain_from: str, config: ConfigDict, reference: dict) -> list[str]:
    """Say in what a scan called `name` is unlike the training scans, a sentence each; nothing where it is like them."""
    told, contrast = [], said_of(name)
    if contrast and reference["contrast"] and not set(contrast) & set(reference["contrast"]):
        kinds = ", ".join(contrast), ", ".join(reference["contrast"])
        told.append("the name of the scan says {}, the model is of {}".format(*kinds))
    if (brain_from == "head") != (config.data.brain == "head"):
        told.append(f"its brain mask is from {brain_from!r}, those of training were from {config.data.brain!r}")
    for key, measure in MEASURES.items():
        low, high = (reference["ranges"][key][end] for end in ("low", "high"))
        if (low is not None and found[key] < low) or (high is not None and found[key] > high):
            ends = " to ".join("any" if end is None else f"{end:.3g}" for end in (low, high))
            told.append(f"{found[key]:.3g} {measure.told}; {ends} is the range of training")
    return told


def said(text: str) -> list[str]:
    """List the contrasts of which a text has a word."""
    words = re.split("[^a-z0-9]+", text.lower())
    found = {kind for kind, known in WORDS.items() if any(re.fullmatch(known, word) for word in words)}
    return sorted(found - {HIDDEN[kind] for kind in found if kind in HIDDEN})


def said_of(path: str) -> list[str]:
    """List the contrasts that the name of a file tells, or else that of its folder."""
    return said(PurePath(path).name) or said(PurePath(path).parent.name)


def _usual(sources: pd.Series) -> list[str]:
    """The contrasts that most names of training scans tell; none where most tell none."""
    counts = Counter(kind for source in sources for kind in said_of(source))
    return sorted(kind for kind, count in counts.items() if count > len(sources) / 2)


def _stored(rows: pd.DataFrame, config: ConfigDict) -> tuple[dict, np.ndarray]:
    folder, key = Path(config.data.store), rows.store.iloc[0]
    about = store.read_about(folder, key)
    if about is None:
        raise RunError(f"data.store={folder}: prepared slices of the run have gone; `symnorm train` makes them anew.")
    source = store.SampleSource(folder, rows)
    each = [source[i] for i in range(len(rows))]
    arrays = np.stack([np.concatenate([one["image"], one["brain"], one["brain"]], -1) for one in each])
    return measures(rows, arrays, about, config)

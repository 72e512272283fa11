"""The maps of a run judged by pixels and by lesions, as they are and after the field's post-processing."""

from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.evaluation.detection import of_lesions
from symnorm_jax.evaluation.pixels import MAPS, fit_pixel_thresholds, histograms, map_values, of_pixels, of_steps
from symnorm_jax.evaluation.postprocess import PostProcessing, Volume, check, known, processed, volumes
from symnorm_jax.files import load_arrays
from symnorm_jax.progress import progress
from symnorm_jax.scoring.embed import Arrays
from symnorm_jax.statistics.intervals import patient_weights

ARRAYS = ("index", "image", "map", "brain", "lesion")


def chain(config: ConfigDict) -> PostProcessing:
    """The post-processing that a config asks for. Raises ConfigError for what is not allowed."""
    asked = config.evaluation
    steps = PostProcessing(asked.postprocess, asked.erosion, asked.median, asked.smallest, config.data.spacing)
    return check(steps)


def of_maps(workdir: Path, table: pd.DataFrame, config: ConfigDict) -> dict[str, dict]:
    """`pixel`, `lesion`, `froc` and `steps` of the run's map and of trivial ones; nothing without a map or a lesion.

    `pixel` and `lesion` are `{map: {metric: ...}}`, `froc` is the curve of the run's map, and `steps` says what each
    step of post-processing does to it.
    """
    test, val = (_load(workdir, split) for split in ("test", "val"))
    if not _judgeable(test, table):
        return {}
    settings, asked = chain(config), config.evaluation
    drawn = patient_weights(_patients(test, table), asked.replicates, config.seed)
    resamples, found = (drawn.patients, drawn.patient_weight), {"pixel": {}, "lesion": {}}
    for name in progress(MAPS, "evaluating maps", len(MAPS)):
        raw = [_scans(name, arrays, table) for arrays in (test, val)]
        shown, fitting = ([processed(volume, settings) for volume in part] for part in raw)
        fitted = fit_pixel_thresholds(fitting, settings)
        found["pixel"][name] = of_pixels(shown, fitted, settings, *resamples)
        about = of_lesions(shown, fitted["dice"], settings, asked.smallest_lesion, *resamples)
        found["lesion"][name] = about.pop("metrics")
        if name == "map":
            found |= {"froc": about, "pixel_thresholds": fitted}
            found["steps"] = of_steps(*raw, settings, *resamples, found["pixel"]["map"])
    return found


def pixel_histograms(
    workdir: Path, table: pd.DataFrame, config: ConfigDict
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`{map: (patients [P], counts [P, 2, bins])}` of the processed test split; nothing without a map or a lesion.

    `histograms.measures` makes metrics of the counts, so that runs can be compared on the same draws of patients.
    """
    test = _load(workdir, "test")
    if not _judgeable(test, table):
        return {}
    settings, patients = chain(config), np.unique(_patients(test, table))
    shown = {name: [processed(volume, settings) for volume in _scans(name, test, table)] for name in MAPS}
    return {name: (patients, histograms(volumes, patients)) for name, volumes in shown.items()}


def _load(workdir: Path, split: str) -> Arrays:
    return load_arrays(workdir / "embeddings" / f"{split}.npz", *ARRAYS)


def _judgeable(arrays: Arrays, table: pd.DataFrame) -> bool:
    """Whether there is a map, and a lesion in a slice whose truth is known."""
    return "map" in arrays and bool(arrays["lesion"][known(table.loc[arrays["index"]])].any())


def _patients(arrays: Arrays, table: pd.DataFrame) -> np.ndarray:
    return table.patient.loc[arrays["index"]].to_numpy(object)


def _scans(name: str, arrays: Arrays, table: pd.DataFrame) -> list[Volume]:
    """The scans of a split with one of MAPS as their values; none where the split has no maps."""
    if "map" not in arrays:
        return []
    return volumes(arrays, table.loc[arrays["index"]], np.asarray(map_values(name, arrays), np.float16))

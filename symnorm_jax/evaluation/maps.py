"""The maps of a run judged by pixels and by lesions, as they are or after the field's post-processing."""

from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.evaluation.detection import of_lesions
from symnorm_jax.evaluation.pixels import MAPS, fit_pixel_thresholds, histograms, map_values, of_pixels
from symnorm_jax.evaluation.postprocess import MapStack, PostProcessing, check, known, processed, stacks
from symnorm_jax.files import load_arrays
from symnorm_jax.progress import progress
from symnorm_jax.scoring.embed import Arrays
from symnorm_jax.statistics.intervals import patient_weights

ARRAYS = ("index", "image", "map", "brain", "lesion")


def chain(config: ConfigDict) -> PostProcessing:
    """Give the post-processing that a config asks for. Raises ConfigError for what is not allowed."""
    steps, *sizes = (config.evaluation[key] for key in ("postprocess", "erosion", "median", "smallest"))
    return check(PostProcessing(steps, *sizes, config.data.spacing))


def of_maps(workdir: Path, table: pd.DataFrame, config: ConfigDict) -> dict[str, dict]:
    """Judge the run's map and trivial ones; nothing without a map or a lesion.

    `pixel` and `lesion` are `{map: {measure: values}}`. Of the run's map `froc` is the curve, see `of_lesions`, and
    `pixel_thresholds` are those of `fit_pixel_thresholds`.
    """
    test, val = (_load(workdir, split) for split in ("test", "val"))
    if not _judgeable(test, table):
        return {}
    settings, asked = chain(config), config.evaluation
    drawn = patient_weights(_patients(test, table), asked.replicates, config.seed)
    found = {"pixel": {}, "lesion": {}}
    for name in progress(MAPS, "evaluating maps", len(MAPS)):
        shown, fitting = (_processed(name, arrays, table, settings) for arrays in (test, val))
        fitted = fit_pixel_thresholds(fitting, settings)
        found["pixel"][name] = of_pixels(shown, fitted, settings, drawn)
        about = of_lesions(shown, fitted["dice"], settings, asked.smallest_lesion, drawn)
        found["lesion"][name] = about.pop("metrics")
        if name == "map":
            found |= {"froc": about, "pixel_thresholds": fitted}
    return found


def pixel_histograms(workdir: Path, table: pd.DataFrame, config: ConfigDict) -> dict[str, tuple]:
    """Count the pixels of the processed test split: `{map: (patients [P], counts [P, 2, bins])}`.

    `histograms.measures` takes the counts, to compare runs on the same draws of patients. Nothing without a map or a
    lesion.
    """
    test = _load(workdir, "test")
    if not _judgeable(test, table):
        return {}
    settings, patients = chain(config), np.unique(_patients(test, table))
    return {name: (patients, histograms(_processed(name, test, table, settings), patients)) for name in MAPS}


def _load(workdir: Path, split: str) -> Arrays:
    return load_arrays(workdir / "embeddings" / f"{split}.npz", *ARRAYS)


def _judgeable(arrays: Arrays, table: pd.DataFrame) -> bool:
    """Whether there is a map, and a lesion in a slice whose truth is known."""
    return "map" in arrays and bool(arrays["lesion"][known(table.loc[arrays["index"]])].any())


def _patients(arrays: Arrays, table: pd.DataFrame) -> np.ndarray:
    return table.patient.loc[arrays["index"]].to_numpy(object)


def _processed(name: str, arrays: Arrays, table: pd.DataFrame, settings: PostProcessing) -> list[MapStack]:
    """The processed scans of a split with one of MAPS as their values; none where the split has no maps."""
    if "map" not in arrays:
        return []
    made = stacks(arrays, table.loc[arrays["index"]], np.asarray(map_values(name, arrays), np.float16))
    return [processed(stack, settings) for stack in made]

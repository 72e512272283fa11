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
    (test, rows), val = (_load(workdir, split, table) for split in ("test", "val"))
    if not _judgeable(test, rows):
        return {}
    settings, asked, found = chain(config), config.evaluation, {"pixel": {}, "lesion": {}}
    drawn = patient_weights(rows.patient.to_numpy(object), asked.replicates, config.seed)
    for name in progress(MAPS, "evaluating maps", len(MAPS)):
        shown, fitting = (_processed(name, *part, settings) for part in ((test, rows), val))
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
    test, rows = _load(workdir, "test", table)
    if not _judgeable(test, rows):
        return {}
    settings, patients = chain(config), np.unique(rows.patient.to_numpy(object))
    return {name: (patients, histograms(_processed(name, test, rows, settings), patients)) for name in MAPS}


def _load(workdir: Path, split: str, table: pd.DataFrame) -> tuple[Arrays, pd.DataFrame]:
    """The arrays of a split, and their rows of the score table."""
    arrays = load_arrays(workdir / "embeddings" / f"{split}.npz", *ARRAYS)
    return arrays, table.loc[arrays["index"]]


def _judgeable(arrays: Arrays, rows: pd.DataFrame) -> bool:
    """Whether there is a map, and a lesion in a slice whose truth is known."""
    return "map" in arrays and bool(arrays["lesion"][known(rows)].any())


def _processed(name: str, arrays: Arrays, rows: pd.DataFrame, settings: PostProcessing) -> list[MapStack]:
    """The processed scans of a split with one of MAPS as their values; none where the split has no maps."""
    if "map" not in arrays:
        return []
    made = stacks(arrays, rows, np.asarray(map_values(name, arrays), np.float16))
    return [processed(stack, settings) for stack in made]

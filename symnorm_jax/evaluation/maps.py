"""The maps of a run judged by pixels and by lesions, as they are and after the field's post-processing."""

from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.evaluation.intervals import patient_weights
from symnorm_jax.evaluation.lesions import of_lesions
from symnorm_jax.evaluation.pixels import MAPS, fit_pixel_thresholds, map_values, of_pixels, of_steps
from symnorm_jax.evaluation.postprocess import PostProcessing, Volume, check, processed, volumes
from symnorm_jax.files import load_arrays
from symnorm_jax.scoring.embed import Arrays
from symnorm_jax.training.runlog import progress

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
    arrays = {split: load_arrays(workdir / "embeddings" / f"{split}.npz", *ARRAYS) for split in ("val", "test")}
    if "map" not in arrays["test"]:
        return {}
    settings = chain(config)
    raw = {name: [_scans(name, arrays[split], table) for split in ("test", "val")] for name in MAPS}
    if not any((volume.lesion & volume.known[:, None, None]).any() for volume in raw["map"][0]):
        return {}
    drawn = patient_weights([scan.patient for scan in raw["map"][0]], config.evaluation.replicates, config.seed)
    found = {"pixel": {}, "lesion": {}}
    for name, scans in progress(raw.items(), "evaluating maps", len(raw)):
        test, val = ([processed(volume, settings) for volume in part] for part in scans)
        fitted = fit_pixel_thresholds(val, settings)
        found["pixel"][name] = of_pixels(test, fitted, settings, drawn.patients, drawn.patient_weight)
        about = of_lesions(
            test, fitted["dice"], settings, config.evaluation.smallest_lesion, drawn.patients, drawn.patient_weight
        )
        found["lesion"][name] = about.pop("metrics")
        if name == "map":
            found |= {"froc": about, "pixel_thresholds": fitted}
    found["steps"] = of_steps(*raw["map"], chain(config), drawn.patients, drawn.patient_weight)
    return found


def _scans(name: str, arrays: Arrays, table: pd.DataFrame) -> list[Volume]:
    """The scans of a split with one of MAPS as their values; none where the split has no maps."""
    if "map" not in arrays:
        return []
    return volumes(arrays, table.loc[arrays["index"]], np.asarray(map_values(name, arrays), np.float32))

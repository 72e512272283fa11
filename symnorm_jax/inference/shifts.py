"""A finished run on its own people seen in other contrasts, by the fixed curves of `systems/contrast.py`.

Truth, networks, healthy maps, Gaussian and thresholds stay what they are: nothing is fitted. A changed scan is scaled
as `data.normalise` scales any, so that what is measured is the contrast and no gain. Intensities beyond
`data.percentiles` are cut, as a curve from 0 to 1 asks.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.checks import checked
from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.data.samples import NORMALISE
from symnorm_jax.data.store import SampleSource
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.cases import sample_cases
from symnorm_jax.evaluation.levels import resamples, separations
from symnorm_jax.evaluation.measures import WITHIN
from symnorm_jax.evaluation.pixels import TRIVIAL_MAPS, map_values, maps_in, pixel_metrics
from symnorm_jax.evaluation.postprocess import chain, processed, stacks
from symnorm_jax.files import read_json
from symnorm_jax.rundir import METRICS
from symnorm_jax.scoring import scores
from symnorm_jax.scoring.embed import Arrays, Embedder
from symnorm_jax.standardise import scans_of
from symnorm_jax.statistics.intervals import Metric, Resamples, Values, as_json, difference, interval
from symnorm_jax.systems.contrast import FIXED
from symnorm_jax.training.passes import healthy_of
from symnorm_jax.training.sharding import make_mesh
from symnorm_jax.training.transfer import restored, shapes_of

UNCHANGED = "unchanged"
SHOWN = ("average_precision", WITHIN)  # of pixels, and of slices by the headline score; Dice is in the file

Judged = tuple[Metric, Resamples]


def shifts(workdir: Path, config: ConfigDict, split: str = "test") -> dict[str, dict[str, Values]]:
    """Judge a run on a split under each fixed change: `{change: {measure: values}}`, from `UNCHANGED` on.

    `<measure>_minus_unchanged` is the paired difference; 95 % intervals are over the same replicates of people. Maps
    that take no network are judged beside the system's, by their average precision.
    Raises RunError for a run without maps or drawn lesions.
    """
    rows = read_manifest(workdir / "manifest.csv")
    own, fitted = rows[rows.split == split], read_json(workdir / METRICS)
    if "pixel_thresholds" not in fitted:
        raise RunError(f"{workdir}: has no map of slices, or no drawn lesion, by which a shift could be judged.")
    embedder, held, first, found = _embedder(workdir, config), _held(own, config), {}, {}
    for name, curve in {UNCHANGED: None, **FIXED}.items():
        seen = held if curve is None else changed(held, own, curve, config.data)
        judged = _judged(workdir, split, embedder.whole(own, name, held=seen), rows, fitted, config)
        first = first or judged
        found[name] = {measure: as_json(interval(of, drawn.patient_weight)) for measure, (of, drawn) in judged.items()}
        for measure, (of, drawn) in judged.items() if curve else ():
            less = difference(of, first[measure][0], drawn.patient_weight)
            found[name][f"{measure}_minus_{UNCHANGED}"] = as_json(less)
    return found


def measure_of(measure: str, map_name: str) -> str:
    """Name the measure of a map: of the system's by itself, of one that takes no network with the name of that."""
    return measure if map_name == "map" else f"{measure}_{map_name}"


def changed(held: np.ndarray, rows: pd.DataFrame, curve: Callable, data: ConfigDict) -> np.ndarray:
    """Send each contrast of whole scans, samples `[N, X, Y, C + 2]` of `rows`, through a `curve`; masks stay."""
    made = held.copy()
    for place in scans_of(rows):
        brain = held[place][..., -2] > 0
        for channel in range(held.shape[-1] - 2):
            image = held[place][..., channel].astype(np.float32)
            low, high = np.percentile(image[brain], data.percentiles)
            new = curve(np.clip((image - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1))
            made[place, ..., channel] = NORMALISE[data.normalise](new, new[brain], data.percentiles) * brain
    return made


def _embedder(workdir: Path, config: ConfigDict) -> Embedder:
    system = checked(config)
    variables = restored(str(workdir), system, shapes_of(system, config))
    return Embedder(system, config, variables, healthy_of(workdir, config), make_mesh(config.sharding.fsdp))


def _held(rows: pd.DataFrame, config: ConfigDict) -> np.ndarray:
    source = SampleSource(config.data.store, rows)
    each = (source[i] for i in range(len(source)))
    parts = [np.concatenate([one["image"], one["brain"], one["lesion"][..., None]], -1) for one in each]
    return np.stack(parts).astype(np.float16)


def _judged(workdir: Path, split: str, arrays: Arrays, rows: pd.DataFrame, fitted: dict, config) -> dict[str, Judged]:
    """Make the measures of the embedded samples of a split, each with its resamples of patients."""
    moments, fitting = scores.moments_of(str(workdir)), scores.validation_of(str(workdir))
    table = scores.score_table(rows, {split: arrays}, scores.gaussian_of(str(workdir)), moments, fitting)
    cases, settings = sample_cases(table, split), chain(config)
    drawn, everyone = resamples(cases, config), resamples(table, config)
    slices = separations(cases, config.score.headline, config, drawn)[WITHIN]
    made = {WITHIN: (slices, drawn)}
    for name in ("map", *maps_in(arrays, TRIVIAL_MAPS)):
        shown = [processed(stack, settings) for stack in stacks(arrays, table, map_values(name, arrays))]
        at = fitted["pixel_thresholds"]["dice"] if name == "map" else {"value": None}
        of = pixel_metrics(shown, at, settings, everyone.patients)
        made |= {measure_of(measure, name): (value, everyone) for measure, value in of.items()}
    return made

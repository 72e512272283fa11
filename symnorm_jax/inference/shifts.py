"""Finished runs on their own people seen in other contrasts, by the fixed curves of `systems/contrast.py`.

Truth, networks, healthy maps, Gaussian and thresholds stay what they are: nothing is fitted. A changed scan is scaled
as `data.normalise` scales any, so that what is measured is the contrast and no gain. Intensities beyond
`data.percentiles` are cut, as a curve from 0 to 1 asks.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.checks import checked
from symnorm_jax.compare.entries import Steps, config_with, over_parts
from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.data.samples import NORMALISE
from symnorm_jax.data.store import SampleSource
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.cases import sample_cases
from symnorm_jax.evaluation.evaluate import pixel_thresholds, read_scores
from symnorm_jax.evaluation.levels import Metrics, separations
from symnorm_jax.evaluation.measures import WITHIN, label
from symnorm_jax.evaluation.pixels import TRIVIAL_MAPS, map_values, maps_in, pixel_metrics
from symnorm_jax.evaluation.postprocess import chain, processed, stacks
from symnorm_jax.files import read_json
from symnorm_jax.report.table import Table
from symnorm_jax.rundir import MANIFEST, METRICS
from symnorm_jax.scoring import scores
from symnorm_jax.scoring.embed import Arrays, Embedder
from symnorm_jax.standardise import scans_of
from symnorm_jax.statistics.intervals import Resamples, Values, as_json, difference, interval, patient_weights
from symnorm_jax.systems.contrast import FIXED
from symnorm_jax.training.passes import healthy_of
from symnorm_jax.training.sharding import make_mesh
from symnorm_jax.training.transfer import restored, shapes_of

UNCHANGED = "unchanged"
LESS = f"_minus_{UNCHANGED}"
SHOWN = ("average_precision", "dice", WITHIN)  # of pixels, and of slices by the headline score


class Part(NamedTuple):
    """What is measured of one run, for weights `[R, P]` of its patients."""

    patients: np.ndarray  # [P] sorted, of the split
    changes: dict[str, Metrics]  # {change: {measure: metric}}, from UNCHANGED on


def shifts(runs: list[Path], split: str = "test", steps: Steps = None) -> dict[str, dict[str, Values]]:
    """Judge runs, folds or seeds of one method, on a split under fixed changes: `{change: {measure: values}}`.

    Values are means over the runs; 95 % intervals are over everybody in them. `<measure>_minus_unchanged` is the paired
    difference. Maps are post-processed by `steps` or, where these are None, by those of each run's config, and maps
    that take no network are judged beside the system's. Raises RunError for a run without maps or drawn lesions.
    """
    parts, asked = [_part(run, config_with(run, steps), split) for run in runs], config_with(runs[0], steps)
    everybody = np.concatenate([part.patients for part in parts])
    drawn = patient_weights(everybody, asked.evaluation.replicates, asked.seed)
    columns, weights = [np.searchsorted(drawn.patients, part.patients) for part in parts], drawn.patient_weight
    measures = {name: over_parts([part.changes[name] for part in parts], columns) for name in parts[0].changes}
    found, first = {}, measures[UNCHANGED]
    for name, each in measures.items():
        found[name] = {measure: as_json(interval(of, weights)) for measure, of in each.items()}
        for measure, of in each.items() if name != UNCHANGED else ():
            found[name][measure + LESS] = as_json(difference(of, first[measure], weights))
    return found


def measure_of(measure: str, map_name: str) -> str:
    """Name the measure of a map: of the system's by itself, of one that takes no network with the name of that."""
    return measure if map_name == "map" else f"{measure}_{map_name}"


def lines_of(who: str, found: dict[str, dict[str, Values]], plain: bool) -> list[list]:
    """Make a line of each change of what `shifts` found and, where `plain`, of each map that takes no network."""
    lines = []
    for name in ("map", *(TRIVIAL_MAPS if plain else ())):
        columns = [measure_of(measure, name) + less for measure in SHOWN for less in ("", LESS)]
        if columns[0] in found[UNCHANGED]:
            title = who if name == "map" else label(name)
            lines += [[title, change, *map(of.get, columns)] for change, of in found.items()]
    return lines


def table_of(lines: list[list], split: str) -> Table:
    """Make the table of the lines of methods on a split."""
    titles = [f"{label(measure)}{less}" for measure in SHOWN for less in ("", f" minus {UNCHANGED}")]
    return Table(f"Contrast shift, {split} split", ["run", "change", *titles], lines).dense()


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


def _part(run: Path, config: ConfigDict, split: str) -> Part:
    if "pixel_thresholds" not in read_json(run / METRICS):
        raise RunError(f"{run}: has no map of slices, or no drawn lesion, by which a shift could be judged.")
    rows = read_manifest(run / MANIFEST)
    own, embedder = rows[rows.split == split], _embedder(run, config)
    held, fit = _held(own, config), cache(pixel_thresholds(run, read_scores(run, rows), config))
    patients, changes = np.unique(own.patient.to_numpy(object)), {}
    for name, curve in {UNCHANGED: None, **FIXED}.items():
        seen = held if curve is None else changed(held, own, curve, config.data)
        arrays = embedder.whole(own, f"{run.name}, {name}", held=seen)
        maps = _of_maps(arrays, own.loc[arrays["index"]], fit, patients, config)
        changes[name] = maps | _of_slices(run, split, arrays, rows, patients, config)
    return Part(patients, changes)


def _embedder(workdir: Path, config: ConfigDict) -> Embedder:
    system = checked(config)
    variables = restored(str(workdir), system, shapes_of(system, config))
    return Embedder(system, config, variables, healthy_of(workdir, config), make_mesh(config.sharding.fsdp))


def _held(rows: pd.DataFrame, config: ConfigDict) -> np.ndarray:
    source = SampleSource(config.data.store, rows)
    each = (source[i] for i in range(len(source)))
    parts = [np.concatenate([one["image"], one["brain"], one["lesion"][..., None]], -1) for one in each]
    return np.stack(parts).astype(np.float16)


def _of_maps(arrays: Arrays, rows: pd.DataFrame, fit: Callable, patients: np.ndarray, config: ConfigDict) -> Metrics:
    """Make the measures of the maps of a split, at the thresholds that `fit` gives of each."""
    settings, found = chain(config), {}
    for name in ("map", *maps_in(arrays, TRIVIAL_MAPS)):
        shown = [processed(stack, settings) for stack in stacks(arrays, rows, map_values(name, arrays))]
        of = pixel_metrics(shown, fit(name)["dice"], settings, patients)
        found |= {measure_of(measure, name): metric for measure, metric in of.items()}
    return found


def _of_slices(run: Path, split: str, arrays: Arrays, rows: pd.DataFrame, patients: np.ndarray, config) -> Metrics:
    """Make the measure of a run's headline score, by all that it has fitted."""
    moments, fitting = scores.moments_of(str(run)), scores.validation_of(str(run))
    table = scores.score_table(rows, {split: arrays}, scores.gaussian_of(str(run)), moments, fitting)
    cases = sample_cases(table, split)
    among = Resamples(patients, np.searchsorted(patients, cases.patient), np.empty((0, len(patients))))
    return {WITHIN: separations(cases, config.score.headline, config, among)[WITHIN]}

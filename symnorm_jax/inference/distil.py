"""From a run's directory to a model: what scores a scan is kept, pictures, names and paths are not."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax import rundir
from symnorm_jax.channels import channels_of
from symnorm_jax.data.manifest import read_manifest, read_table
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation import pixels
from symnorm_jax.evaluation.cases import LEVELS
from symnorm_jax.evaluation.postprocess import chain, processed, stacks
from symnorm_jax.files import load_arrays, read_json
from symnorm_jax.inference import quality, shipped
from symnorm_jax.inference.model import WEIGHTS, Model, of_folder
from symnorm_jax.scoring import mahalanobis
from symnorm_jax.systems import BUILD
from symnorm_jax.training import passes
from symnorm_jax.training.transfer import FINISHED, restored, shapes_of

OURS = {"data.root": None, "data.store": "", "init_from": None, "train.profile": ""}  # what names a place, or a run


def read(path: Path) -> Model:
    """Read the folder of a model, a run's, or a model that comes along by its name.

    Raises RunError for what is none of them, is not finished, or was changed.
    """
    path = shipped.found(path)
    return of_folder(path) if (path / WEIGHTS).exists() else of_run(path)


def of_run(workdir: Path) -> Model:
    """Make a model of a finished run. Raises RunError where it is not, or its store of prepared slices has gone."""
    config = rundir.read_config(workdir)
    rundir.refuse_judge(workdir, "--run")
    needed = (*FINISHED, rundir.SCORES, rundir.CALIBRATION, rundir.EMBEDDINGS)
    if lost := [name for name in needed if not (workdir / name).exists()]:
        raise RunError(f"{workdir}: not a finished run, {lost[0]} is missing; see it through with `symnorm train`.")
    rows, table = read_manifest(workdir / rundir.MANIFEST), read_table(workdir / rundir.SCORES)
    system, headline = BUILD[config.system](config), config.score.headline
    of_validation = (rundir.THRESHOLDS, rundir.CALIBRATION, rundir.METRICS)
    fitted, calibrated, metrics = (_without_paths(read_json(workdir / name), config) for name in of_validation)
    healthy = passes.healthy_of(workdir, config) if system.residual else None
    found = metrics["pixel_thresholds"] if "pixel_thresholds" in metrics else _pixels(workdir, table, config)
    reference = quality.reference(rows, table, config) | {"results": _results(metrics, headline)}
    notes = rundir.unaudited([workdir]) + rundir.weakly_supervised({"this model": config})
    reference["notes"] = _without_paths(notes, config)
    plain = config.copy_and_resolve_references()
    with plain.unlocked():
        plain.data.options = ConfigDict({name: x for name, x in config.data.options.items() if name == "channel"})
        plain.update_from_flattened_dict(OURS)
    return Model(
        plain.lock(),
        restored(str(workdir), system, shapes_of(system, config)),
        healthy and healthy._replace(maps={name: healthy.maps[name] for name in channels_of(config)}),
        mahalanobis.load(workdir / rundir.GAUSSIAN),
        {"moments": fitted["moments"], "pixel": found} | {level: fitted[level][headline] for level in LEVELS},
        {level: calibrated[level][headline] for level in LEVELS},
        reference,
    )


def _pixels(workdir: Path, table: pd.DataFrame, config: ConfigDict) -> pixels.Thresholds:
    """Fit the thresholds of maps to validation, which the evaluation did not: nobody in test has a lesion."""
    arrays = load_arrays(workdir / rundir.EMBEDDINGS / "val.npz", "index", "brain", "lesion", "map")
    if "map" not in arrays:
        return pixels.fit_pixel_thresholds([], chain(config))
    made = stacks(arrays, table.loc[arrays["index"]], arrays["map"])
    return pixels.fit_pixel_thresholds([processed(stack, chain(config)) for stack in made], chain(config))


def _results(metrics: dict, headline: str) -> dict[str, Any]:
    """Give what the card says of quality: of the headline score, by level, with intervals."""
    names = ("auroc", "average_precision", "sensitivity", "specificity")
    found = {level: metrics[level][headline] for level in LEVELS if headline in metrics[level]}
    return {level: {name: of[name] for name in names if name in of} for level, of in found.items()}


def _without_paths(content: Any, config: ConfigDict) -> Any:
    """Take the paths of the runs before out of where thresholds come from, and of what is told of people."""
    text = json.dumps(content)
    before = {config.init_from, *rundir.lineage(config.init_from, lost=True)} - {None, ""}
    for run in sorted(before, key=len, reverse=True):  # one may begin as another does
        text = text.replace(json.dumps(run)[1:-1], "the run it started from")
    return json.loads(text)

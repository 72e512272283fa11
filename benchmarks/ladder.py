"""What each step of the map adds, on the validation people of a finished run, whose networks stay as they are.

python benchmarks/ladder.py --run=runs/ixi --output=ladder.csv

The steps are `differences()` of configs/sweeps.py. For each of them mean and spread of the healthy are measured anew on
the raw maps of training, which the run keeps. The last lines take no network. AUROC within position is that of the mean
of a slice's 20 highest pixels; 95 % intervals are over patients.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from configs.sweeps import differences
from symnorm_jax.checks import checked
from symnorm_jax.cli import parsed
from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.data.targets import training_rows
from symnorm_jax.errors import reported
from symnorm_jax.evaluation.cases import sample_cases
from symnorm_jax.evaluation.levels import resamples, separations
from symnorm_jax.evaluation.measures import WITHIN
from symnorm_jax.evaluation.pixels import pixel_metrics
from symnorm_jax.evaluation.postprocess import chain, processed, stacks
from symnorm_jax.files import write_text
from symnorm_jax.report.table import Table
from symnorm_jax.rundir import MANIFEST, MAPS, RAW, read_config
from symnorm_jax.scoring.embed import HIGHEST, Arrays, Embedder, maps_of_scans
from symnorm_jax.statistics.intervals import as_json, interval
from symnorm_jax.training.passes import Pass, healthy_of
from symnorm_jax.training.sharding import make_mesh, share_cores
from symnorm_jax.training.transfer import restored, shapes_of

OPTIONS = {
    "--run": {"required": True, "type": Path, "help": "the run directory"},
    "--output": {"type": Path, "help": "a .csv file for the numbers"},
}
WITHOUT = ("trivial_intensity", "trivial_intensity_by_position", "trivial_asymmetry")  # a network


def judged(made: Arrays, name: str, rows: pd.DataFrame, config: ConfigDict) -> dict[str, dict]:
    """Measure one of the maps in `made`, of validation `rows`, and the score that is made of it."""
    score = HIGHEST if name == "map" else name
    cases = sample_cases(rows.assign(**{score: made[f"score.{score}"]}), "val")
    drawn, settings = resamples(cases, config), chain(config)
    within = separations(cases, score, config, drawn)[WITHIN]
    shown = [processed(stack, settings) for stack in stacks(made, rows, made[name])]
    patients = np.unique(rows.patient.to_numpy(object))
    precision = pixel_metrics(shown, {"value": None}, settings, patients)["average_precision"]
    weights = resamples(rows, config).patient_weight
    found = {
        "pixels, AP": interval(precision, weights),
        "AUROC within position": interval(within, drawn.patient_weight),
    }
    return {measure: as_json(value) for measure, value in found.items()}


def ladder(run: Path, config: ConfigDict) -> dict[str, dict[str, dict]]:
    """Judge the map at each point, and last the maps that take no network: `{what: {measure: values}}`."""
    system, rows = checked(config), read_manifest(run / MANIFEST)
    variables = restored(str(run), system, shapes_of(system, config))
    val, embedder = rows[rows.split == "val"], Embedder(system, config, variables, healthy_of(run, config), make_mesh())
    made, found = embedder.whole(val, "validation"), {}
    for point in differences():
        changed = config.copy_and_resolve_references()
        changed.update_from_flattened_dict(point)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / MAPS).mkdir()
            (Path(folder) / MAPS / RAW).symlink_to((run / MAPS / RAW).absolute())
            Pass(system, changed, training_rows(rows, config), Path(folder)).differences(variables)
            _, maps = maps_of_scans(val, made, healthy_of(folder, changed), changed)
        what = ", ".join(f"{key.removeprefix('difference.')}={value}" for key, value in point.items())
        found[what or "as configured"] = judged(made | maps, "map", val, config)
    return found | {name: judged(made, name, val, config) for name in WITHOUT}


def main(arguments: list[str]) -> int:
    args = parsed("benchmarks/ladder.py", __doc__, OPTIONS, arguments)
    config = read_config(args.run).unlock()
    share_cores(config, None)
    found = ladder(args.run, config)
    Table("Ladder", ["map", *next(iter(found.values()))], [[what, *of.values()] for what, of in found.items()]).print()
    if args.output:
        rows = pd.json_normalize([{"map": what} | of for what, of in found.items()])
        write_text(args.output, rows.to_csv(index=False))
    return 0


if __name__ == "__main__":
    with reported():
        sys.exit(main(sys.argv[1:]))

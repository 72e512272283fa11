"""What a network that is shown the lesions finds, on the test people of each fold of a finished study: the ceiling.

python benchmarks/ceiling.py --runs=runs/ixi_folds/symnorm --output=ceiling.csv --workdir=runs/ixi_ceiling

For each fold symnorm's U-Net, with the image alone as input, learns the lesions of everybody else, half of its slices
with one, from the same slices and for as many steps. Measures are means over the folds, as in `symnorm compare`, of
whose methods none is shown a lesion; 95 % intervals are over patients.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.cli import parsed
from symnorm_jax.data.manifest import SPLITS, read_manifest
from symnorm_jax.data.pipeline import scoring_batches, training_batches
from symnorm_jax.data.store import SampleSource
from symnorm_jax.errors import reported
from symnorm_jax.evaluation.cases import LEVELS, cases_at
from symnorm_jax.evaluation.levels import primary, resamples, separations
from symnorm_jax.evaluation.pixels import pixel_metrics
from symnorm_jax.evaluation.postprocess import chain, processed, stacks
from symnorm_jax.files import write_text
from symnorm_jax.losses import weighted_mean
from symnorm_jax.models.unet import UNet
from symnorm_jax.report.table import Table
from symnorm_jax.rundir import MANIFEST, read_config
from symnorm_jax.scoring.embed import HIGHEST, highest
from symnorm_jax.scoring.scores import ABOUT
from symnorm_jax.statistics.intervals import Metric, as_json, averaged, interval
from symnorm_jax.systems.contract import Aux, Stage, System
from symnorm_jax.training.sharding import share_cores
from symnorm_jax.training.train import train

OPTIONS = {
    "--runs": {"required": True, "type": Path, "help": "the folder of a study's folds of one system of slices"},
    "--workdir": {"required": True, "type": Path, "help": "where networks are kept; the same command goes on"},
    "--output": {"type": Path, "help": "a .csv file for the numbers"},
}
NET = "unet"


def supervised(config: ConfigDict) -> tuple[System, Callable]:
    """Make a system of one stage that learns the lesion of a pixel, and its answer `[B, X, Y, 1]`, a logit."""
    net = UNet(**{name: config.unet[name] for name in ("widths", "depth", "stem")})

    def loss(variables, batch, key):
        logits, lesion = net.apply({"params": variables["params"][NET]}, batch["image"]), batch["lesion"][..., None]
        entropy = weighted_mean(optax.sigmoid_binary_cross_entropy(logits, lesion), batch["brain"]).mean()
        found, lesion = jax.nn.sigmoid(logits) * batch["brain"], lesion * batch["brain"]
        dice = (2 * (found * lesion).sum() + 1) / (found.sum() + lesion.sum() + 1)
        return entropy + 1 - dice, Aux({"dice": dice}, variables["stats"])

    def init(key, batch):
        return {"params": {NET: net.init(key, batch["image"])["params"]}, "stats": {}}

    stages = {NET: Stage((NET,), loss)}
    return System(init, stages, embed=None), jax.jit(lambda params, image: net.apply({"params": params}, image))


def halves(rows: pd.DataFrame) -> pd.DataFrame:
    """Repeat the slices that show a lesion until they are half of all."""
    shown = rows[rows.lesion_mm2 > 0]
    return pd.concat([rows, *[shown] * ((len(rows) - len(shown)) // len(shown) - 1)])


def answers(run: Path, workdir: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Train on everybody but the test people of a run, and give their rows, and `map`, `brain`, `lesion` of each."""
    config, rows = read_config(run).unlock(), read_manifest(run / MANIFEST)
    config.data.flip, config.sharding.fsdp = True, 1
    others, tested = halves(rows[rows.split.isin(SPLITS[:2])]), rows[rows.split == "test"]
    system, ask = supervised(config)
    source = partial(SampleSource, config.data.store)
    batches = lambda size, start: training_batches(source(others), config, size, start, ("lesion",))  # noqa: E731
    params = train(system, config, batches, workdir)["params"][NET]
    made = {"map": [], "brain": [], "lesion": []}
    for batch in scoring_batches(source(tested), config.score.batch_size):
        there = batch | {"map": np.asarray(ask(params, batch["image"]))[..., 0], "brain": batch["brain"][..., 0] > 0}
        for name, parts in made.items():
            parts.append(there[name][batch["valid"]])
    return tested, {name: np.concatenate(parts) for name, parts in made.items()}


def measures(rows: pd.DataFrame, made: dict[str, np.ndarray], patients: np.ndarray, config: ConfigDict) -> dict:
    """Measure a fold's maps: `{measure: metric}`, for weights of all `patients`."""
    table = rows[[*ABOUT]].assign(**{HIGHEST: highest(made["map"], made["brain"])})
    found, settings, own = {}, chain(config), np.unique(rows.patient.to_numpy(object))
    for level in LEVELS:
        cases = cases_at(level, table, "test", config.score.patient, config.score.top_k)
        among = resamples(cases, config)
        if 0 < cases.positive.sum() < len(cases):
            among = among._replace(index=np.searchsorted(patients, cases.patient.to_numpy()))
            metric = primary(cases, config) if level == "sample" else "auroc"
            found[f"{level}s, {metric}"] = separations(cases, HIGHEST, config, among)[metric]
    shown = [processed(stack, settings) for stack in stacks(made, rows, made["map"].astype(np.float16))]
    precision: Metric = pixel_metrics(shown, {"value": None}, settings, own)["average_precision"]
    place = np.searchsorted(patients, own)
    return found | {"pixels, AP": lambda weights: precision(weights[:, place])}


def main(arguments: list[str]) -> int:
    args = parsed("benchmarks/ceiling.py", __doc__, OPTIONS, arguments)
    runs = sorted(path.parent for path in args.runs.glob(f"*/{MANIFEST}"))
    config = read_config(runs[0]).unlock()
    share_cores(config, None)
    folds = [answers(run, args.workdir / run.name) for run in runs]
    drawn = resamples(pd.concat([rows for rows, _ in folds]), config)
    each = [measures(*fold, drawn.patients, config) for fold in folds]
    found = {name: averaged([one[name] for one in each]) for name in each[0]}
    lines = [[name, as_json(interval(metric, drawn.patient_weight))] for name, metric in found.items()]
    Table(f"Ceiling, {len(runs)} folds, {len(drawn.patients)} people", ["measure", "value"], lines).print()
    if args.output:
        rows = pd.DataFrame([{"measure": name} | value for name, value in lines])
        write_text(args.output, rows.to_csv(index=False))
    return 0


if __name__ == "__main__":
    with reported():
        sys.exit(main(sys.argv[1:]))

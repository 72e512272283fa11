"""What is tried downstream of pre-training: probes, fine-tuning, training from scratch, and what a ruler tells.

Every method predicts the same test people, from as many labelled people drawn by the same seeds. Fewer of them are
always among more.
"""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.checks import checked
from symnorm_jax.compare.downstream import Outcome
from symnorm_jax.data import manifest, targets
from symnorm_jax.data.store import SampleSource
from symnorm_jax.downstream import morphometry, probe
from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.files import load_arrays, write_text
from symnorm_jax.progress import progress
from symnorm_jax.run import Run
from symnorm_jax.rundir import claimed, open_run, read_config
from symnorm_jax.scoring.predictions import SAME, known_rows
from symnorm_jax.systems.encoder import FINETUNE

PRETRAINED = ("simclr", "mae")  # systems that are worth fine-tuning: the untrained one is `supervised`
SCRATCH = {  # what is trained with labels alone
    "supervised": {"system": "supervised", "encoder": "resnet"},
    "cnn": {"system": "supervised", "encoder": "cnn"},
}
LEAST = 2  # people to learn from


def target_settings(text: str) -> dict[str, str]:
    """The section `target` for `age`, a number, or `sex=F`, a class.

    Raises ConfigError for anything else, and for a column that cannot name a file.
    """
    column, is_class, positive = text.partition("=")
    if not column or (is_class and not positive) or Path(column).name != column:
        raise ConfigError(f"--targets={text}: a column, as age, or a column and its class, as sex=F, is allowed.")
    kind = "class" if is_class else "number"
    return {"target.column": column, "target.kind": kind, "target.positive": positive}


def with_settings(config: ConfigDict, settings: dict) -> ConfigDict:
    """Another config with some values changed; the splits stay what they are.

    Raises RunError for a config that lacks one of them.
    """
    changed = ConfigDict(json.loads(config.to_json()))
    splits = config.seed if config.data.split_seed is None else config.data.split_seed
    try:
        changed.update_from_flattened_dict({"data.split_seed": splits} | settings)
    except KeyError as error:
        raise RunError(f"a run's config is of another version of symnorm_jax: {error.args[0]}") from None
    return changed.lock()


def counts(run: Path, target: dict, fractions: list[float]) -> dict[float, int]:
    """How many of a run's training people, of those whose target is known, make each fraction."""
    config, rows = with_settings(read_config(run), target), manifest.read_manifest(run / "manifest.csv")
    people = targets.training_rows(rows, config).patient.nunique()
    for split in manifest.SPLITS[1:]:
        healthy = rows[(rows.split == split) & (rows.label == "healthy")]
        if not np.isfinite(targets.values(healthy, config.target)).any():
            raise ConfigError(f"target.column={config.target.column!r}: of nobody healthy in {split} is it known.")
    return {fraction: min(max(round(fraction * people), LEAST), people) for fraction in fractions}


def probes(run: Path, target: dict, shares: dict[float, int], draws: int) -> Iterator[Outcome]:
    """Linear probes of a run's embeddings."""
    features = {split: load_arrays(run / "embeddings" / f"{split}.npz", "index", "z") for split in manifest.SPLITS}
    yield from _probed(run.name, "probe", run, features, target, shares, draws)


def rulers(run: Path, target: dict, shares: dict[float, int], draws: int) -> Iterator[Outcome]:
    """The same of what can be measured without a network: size of the brain, and its share of fluid beside it."""
    config, rows = read_config(run), manifest.read_manifest(run / "manifest.csv")
    size, both = {}, {}
    for split in manifest.SPLITS:
        arrays = load_arrays(run / "embeddings" / f"{split}.npz", "index", "score.trivial_fluid")
        source = SampleSource(config.data.store, rows.loc[arrays["index"]])
        x = morphometry.measured(source, config.data.spacing)
        size[split] = {"index": arrays["index"], "z": x}
        both[split] = {"index": arrays["index"], "z": np.column_stack([x, arrays["score.trivial_fluid"]])}
    yield from _probed("brain size", "ruler", run, size, target, shares, draws)
    yield from _probed("brain size and fluid", "ruler", run, both, target, shares, draws)


def _probed(
    name: str, how: str, run: Path, features: dict, target: dict, shares: dict[float, int], draws: int
) -> Iterator[Outcome]:
    config, rows = with_settings(read_config(run), target), manifest.read_manifest(run / "manifest.csv")
    known = {split: known_rows(rows, arrays, config) for split, arrays in features.items()}
    known["val"] = known["val"][known["val"].population == SAME]  # chosen by people like those who teach
    pairs = {split: (features[split]["z"][part.place], part.target.to_numpy()) for split, part in known.items()}
    for fraction, patients in shares.items():
        tables = []
        seeds = range(1 if fraction == 1 else draws)
        for seed in progress(seeds, f"{name}, {patients} people", len(seeds)):
            chosen = manifest.few(known["train"], patients, seed, "--fractions").place
            inside = known["train"].place.isin(chosen).to_numpy()
            taught = tuple(x[inside] for x in pairs["train"])
            answer = probe.predict(taught, pairs["val"], pairs["test"][0], config.target.kind)
            tables.append(known["test"].drop(columns="place").assign(predicted=answer))
        yield Outcome(name, how, fraction, patients, tables)


def finetunings(runs: list[Path], target: dict, shares: dict[float, int], seeds: int, folder: Path) -> list:
    """What is to be trained, dearest last: functions that give an Outcome, with a sentence of what each does."""
    sources = [run for run in runs if read_config(run).system in PRETRAINED]
    tasks = [(run.name, "fine-tuned", run, {"init_from": str(run), "finetune.kind": FINETUNE}) for run in sources]
    tasks += [(name, "from scratch", runs[0], settings | {"init_from": None}) for name, settings in SCRATCH.items()]
    found = []
    for fraction, patients in shares.items():
        for name, how, run, settings in tasks:
            key = "finetune.patients" if how == "fine-tuned" else "train.patients"
            config = with_settings(read_config(run), target | settings | {key: patients})
            points = [
                (with_settings(config, {"seed": seed}), folder / f"{name}_{100 * fraction:g}_{seed}")
                for seed in range(seeds)
            ]
            checked(config)
            what = f"{name}, {how} on {patients} people" + f", {seeds} times" * (seeds > 1)
            found.append((what, partial(_trained, Outcome(name, how, fraction, patients, []), points, run)))
    return found


def _trained(outcome: Outcome, points: list[tuple[ConfigDict, Path]], like: Path) -> Outcome:
    return outcome._replace(tables=[_test_of(config, workdir, like) for config, workdir in points])


def _test_of(config: ConfigDict, workdir: Path, like: Path) -> pd.DataFrame:
    """Test predictions of a run as far as these, which goes on where it stands; its people are those of run `like`.

    Its checkpoints, of which there would be one for each table cell, are removed then.
    """
    run = Run(config, workdir)
    with claimed(workdir):
        open_run(workdir, config, {})
        if not (workdir / "predictions.csv").exists():
            write_text(workdir / "manifest.csv", (like / "manifest.csv").read_text())
            run.check_devices()
            run.prepare()
            run.train_and_embed()
            run.predict()
        shutil.rmtree(workdir / FINETUNE / "ckpt", ignore_errors=True)
    table = manifest.read_table(workdir / "predictions.csv")
    return table[table.split == "test"]

"""What is tried downstream of pre-training: probes, fine-tuning, training from scratch, and measures by ruler.

Every method predicts the same test people, from as many labelled people drawn by the same seeds. Fewer of them are
always among more.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax import notebooks
from symnorm_jax.checks import checked
from symnorm_jax.compare.downstream import Outcome
from symnorm_jax.data import manifest, targets
from symnorm_jax.data.store import SampleSource
from symnorm_jax.downstream import morphometry, probe
from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.evaluation.prediction import SAME, known_rows
from symnorm_jax.files import load_arrays, read_json, write_text
from symnorm_jax.progress import progress
from symnorm_jax.run import Run
from symnorm_jax.rundir import claimed, open_run, read_config
from symnorm_jax.settings import flat
from symnorm_jax.systems.encoder import FINETUNE

PRETRAINED = ("simclr", "mae")  # systems that are worth fine-tuning: the untrained one is `supervised`
SCRATCH = ("supervised", "cnn")  # presets of what is trained with labels alone
LEAST = 2  # people to learn from


def with_settings(config: ConfigDict, settings: dict) -> ConfigDict:
    """Copy a config with some values changed; the splits stay what they are.

    Raises RunError for a config that lacks one of them.
    """
    changed = ConfigDict(json.loads(config.to_json()))
    splits = config.seed if config.data.split_seed is None else config.data.split_seed
    try:
        changed.update_from_flattened_dict({"data.split_seed": splits} | settings)
    except KeyError as error:
        raise RunError(f"a run's config is of another version of symnorm_jax: {error.args[0]}") from None
    return changed.lock()


def rival_config(run: Path, preset: str) -> ConfigDict:
    """Read the notebook of a run with another preset, and give the keys that both have the values of the run.

    Raises RunError for a run that does not say which notebook it was begun with.
    """
    begun, own = read_json(run / "overrides.json").get("config"), flat(read_config(run))
    if not begun:
        raise RunError(f"{run}: its overrides.json names no notebook; begin it with `symnorm train`.")
    path, _, size = begun.partition(":")
    config = notebooks.read(f"{path}:{size.partition(',')[0] or 'full'},{preset}").config
    shared = own.keys() & flat(config).keys() - {"system", "encoder"}
    config.update_from_flattened_dict({key: own[key] for key in shared})
    return config


def counts(run: Path, target: dict, fractions: list[float]) -> dict[float, int]:
    """Count how many of a run's training people, of those whose target is known, make each fraction."""
    config, rows = with_settings(read_config(run), target), manifest.read_manifest(run / "manifest.csv")
    people = targets.training_rows(rows, config).patient.nunique()
    for split in manifest.SPLITS[1:]:
        healthy = rows[(rows.split == split) & (rows.label == "healthy")]
        if not np.isfinite(targets.values(healthy, config.target)).any():
            raise ConfigError(f"target.column={config.target.column!r}: of nobody healthy in {split} is it known.")
    return {fraction: min(max(round(fraction * people), LEAST), people) for fraction in fractions}


def probes(run: Path, target: dict, shares: dict[float, int], draws: int) -> Iterator[Outcome]:
    """Probe a run's embeddings by linear models."""
    features = {split: load_arrays(run / "embeddings" / f"{split}.npz", "index", "z") for split in manifest.SPLITS}
    yield from _probed(run.name, "probe", run, features, target, shares, draws)


def rulers(run: Path, target: dict, shares: dict[float, int], draws: int) -> Iterator[Outcome]:
    """Probe what needs no network: the size of the brain, and its share of fluid beside it."""
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


def trainings(runs: list[Path], target: dict, shares: dict[float, int], seeds: int, folder: Path) -> Iterator[Outcome]:
    """Fine-tune runs and train rivals from scratch on each share, dearest last, `seeds` times each.

    Every config is checked before the first is trained. Raises ConfigError for one that is not allowed.
    """
    tuned = [run for run in runs if read_config(run).system in PRETRAINED]
    kinds = [(run.name, "fine-tuned", run, {"init_from": str(run), "finetune.kind": FINETUNE}) for run in tuned]
    kinds += [(preset, "from scratch", runs[0], {"init_from": None}) for preset in SCRATCH]
    planned = []
    for fraction, patients in shares.items():
        for name, how, run, settings in kinds:
            tune = how == "fine-tuned"
            few = {f"{'finetune' if tune else 'train'}.patients": patients}
            config = with_settings(read_config(run) if tune else rival_config(run, name), target | settings | few)
            checked(config)
            planned.append((Outcome(name, how, fraction, patients, []), config, run))
    for place, (one, config, run) in enumerate(planned, start=1):
        what = f"{folder.name}: {one.method}, {one.how} on {one.patients} people" + f", {seeds} times" * (seeds > 1)
        print(f"{what}; {place} of {len(planned)}", flush=True)
        workdirs = [folder / f"{one.method}_{100 * one.fraction:g}_{seed}" for seed in range(seeds)]
        configs = [with_settings(config, {"seed": seed}) for seed in range(seeds)]
        yield one._replace(tables=[_test_of(*pair, run) for pair in zip(configs, workdirs, strict=True)])


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

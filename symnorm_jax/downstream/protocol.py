"""What is tried downstream of pre-training: probes, fine-tuning, training from scratch, and measures by ruler.

What is asked for is refused before anything is tried. Every method predicts the same test people, from as many labelled
people drawn by the same seeds. Fewer of them are always among more.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax import notebooks
from symnorm_jax.checks import checked
from symnorm_jax.compare.downstream import Outcome
from symnorm_jax.data import manifest, targets
from symnorm_jax.data.store import SampleSource
from symnorm_jax.downstream import probe
from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.evaluation.prediction import SAME, known_rows
from symnorm_jax.files import load_arrays, read_json, write_text
from symnorm_jax.paths import check_place
from symnorm_jax.progress import progress
from symnorm_jax.run import Run
from symnorm_jax.rundir import MANIFEST, METRICS, OVERRIDES, PREDICTIONS, claimed, open_run, read_config
from symnorm_jax.settings import flat, value_of
from symnorm_jax.systems.encoder import FINETUNE

PRETRAINED = ("simclr", "mae", "saca")  # systems that are worth fine-tuning: the untrained one is `supervised`
SCRATCH = ("supervised", "cnn")  # presets of what is trained with labels alone
LEAST = 2  # people to learn from
LIKE = ("data.size", "data.spacing", "data.held_out", "data.train_on")  # what runs that are compared share
TAUGHT = ("target.column", "train.patients", "finetune.patients")  # what a run has that is no mere pre-training


def target_settings(text: str) -> dict[str, str]:
    """Read the section `target` of a number, `age`, or a class, `sex=F` or `label=abnormal`, else ConfigError."""
    column, is_class, positive = text.partition("=")
    if not column or (is_class and not positive) or Path(column).name != column:  # which names files
        raise ConfigError(f"--targets={text}: a column, as age, or a column and its class, as sex=F, is allowed.")
    return {"target.column": column, "target.kind": "class" if is_class else "number", "target.positive": positive}


def check(args) -> None:
    """Raise ConfigError or RunError unless the options of `symnorm study downstream` go together."""
    columns = [target_settings(text)["target.column"] for text in args.targets]
    if len(set(columns)) < len(columns):
        raise ConfigError(f"--targets={','.join(args.targets)}: a column can be a target once.")
    for option, texts in (("fractions", args.fractions), ("finetune", args.finetune)):
        for text in texts:
            if not re.fullmatch(r"\d*\.?\d+", text) or not 0 < float(text) <= 1:
                raise ConfigError(f"--{option}={','.join(texts)}: {text!r} is not a share above 0, up to 1.")
    if not args.fractions and not args.finetune:
        raise ConfigError("--fractions= and --finetune=: there is nothing to do; one share of either is needed.")
    check_place(args.output)


def check_runs(runs: list[Path], columns: list[str]) -> None:
    """Raise RunError unless all runs are finished, of volumes, told apart by their names, and of the same people.

    These lie in the same splits and order and have the same labels and target `columns`.
    """
    if len({run.name for run in runs}) < len(runs):
        raise RunError(f"--runs={','.join(map(str, runs))}: runs are told apart by their names, which must differ.")
    people, data = [], []
    for run in runs:
        config = read_config(run)
        if len(config.data.size) != 3:
            raise RunError(f"{run}: is a run of slices; runs of volumes, as of simclr, are allowed.")
        if not (run / METRICS).exists():
            raise RunError(f"{run}: not a finished run; see it through with `symnorm train` first.")
        taught = {key: value_of(config, key) for key in TAUGHT}
        if any(taught.values()):
            raise RunError(f"{run}: saw labels, or a part of the people alone, {taught}; others are allowed.")
        data.append({key: value_of(config, key) for key in LIKE})
        if data[-1] != data[0]:
            raise RunError(f"{run}: has {data[-1]}, {runs[0]} has {data[0]}; what is compared must have the same.")
        rows = manifest.read_manifest(run / MANIFEST)
        known = dict.fromkeys(["patient", "session", "split", "label", *(name for name in columns if name in rows)])
        people.append(rows.loc[rows.split.isin(manifest.SPLITS), list(known)].reset_index(drop=True))
        if not people[-1].equals(people[0]):
            what = f"its people, their splits, labels or {', '.join(columns)} are not those of {runs[0]}"
            raise RunError(f"{run}: {what}; give them the same data and seed.")


def with_settings(config: ConfigDict, settings: dict) -> ConfigDict:
    """Copy a config with some values changed; the splits stay what they are."""
    changed = ConfigDict(json.loads(config.to_json()))
    splits = config.seed if config.data.split_seed is None else config.data.split_seed
    changed.update_from_flattened_dict({"data.split_seed": splits} | settings)
    return changed.lock()


def _rival_config(run: Path, preset: str) -> ConfigDict:
    """Read the notebook of a run with another preset, and give the keys that both have the values of the run."""
    begun, own = read_json(run / OVERRIDES).get("config"), flat(read_config(run))
    if not begun:
        raise RunError(f"{run}: its overrides.json names no notebook; begin it with `symnorm train`.")
    path, _, size = begun.partition(":")
    config = notebooks.read(f"{path}:{size.partition(',')[0] or 'full'},{preset}").config
    shared = own.keys() & flat(config).keys() - {"system", "encoder", "score.headline"}
    config.update_from_flattened_dict({key: own[key] for key in shared})
    return config


def counts(run: Path, target: dict, fractions: Iterable[float]) -> dict[float, int]:
    """Count how many of a run's training people, of those whose target is known, make each fraction."""
    config, rows = with_settings(read_config(run), target), manifest.read_manifest(run / MANIFEST)
    people = targets.training_rows(rows, config).patient.nunique()
    for split in manifest.SPLITS[1:]:
        alike = rows[(rows.split == split) & manifest.like_trained(rows, config.data.train_on)]
        if not np.isfinite(targets.values(alike, config.target)).any():
            told = f"of nobody in {split} who is like those trained on is it known"
            raise ConfigError(f"target.column={config.target.column!r}: {told}.")
    return {fraction: min(max(round(fraction * people), LEAST), people) for fraction in fractions}


def probes(run: Path, target: dict, shares: dict[float, int], draws: int) -> Iterator[Outcome]:
    """Probe a run's embeddings by linear models."""
    yield from _probed(run.name, "probe", run, _embedded(run, "z"), target, shares, draws)


def rulers(run: Path, target: dict, shares: dict[float, int], draws: int) -> Iterator[Outcome]:
    """Probe what needs no network: the size of the brain, and its share of fluid beside it."""
    config, rows = read_config(run), manifest.read_manifest(run / MANIFEST)
    size, both = {}, {}
    for split, arrays in _embedded(run, "score.trivial_fluid").items():
        source = SampleSource(config.data.store, rows.loc[arrays["index"]])
        size[split] = arrays | {"z": (x := probe.measured(source, config.data.spacing))}
        both[split] = arrays | {"z": np.column_stack([x, arrays["score.trivial_fluid"]])}
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
            config = with_settings(read_config(run) if tune else _rival_config(run, name), target | settings | few)
            checked(config)
            planned.append((Outcome(name, how, fraction, patients, []), config, run))
    for place, (one, config, run) in enumerate(planned, start=1):
        what = f"{folder.name}: {one.method}, {one.how} on {one.patients} people" + f", {seeds} times" * (seeds > 1)
        print(f"{what}; {place} of {len(planned)}", flush=True)
        for seed in range(seeds):
            workdir = folder / f"{one.method}_{100 * one.fraction:g}_{seed}"
            one.tables.append(_test_of(with_settings(config, {"seed": seed}), workdir, run))
        yield one


def _embedded(run: Path, name: str) -> dict[str, dict[str, np.ndarray]]:
    return {split: load_arrays(run / "embeddings" / f"{split}.npz", "index", name) for split in manifest.SPLITS}


def _probed(name: str, how: str, run: Path, x: dict, target: dict, shares: dict, draws: int) -> Iterator[Outcome]:
    config, rows = with_settings(read_config(run), target), manifest.read_manifest(run / MANIFEST)
    known = {split: known_rows(rows, arrays, config) for split, arrays in x.items()}
    known["val"] = known["val"][known["val"].population == SAME]  # chosen by people like those who teach
    pairs = {split: (x[split]["z"][part.place], part.target.to_numpy()) for split, part in known.items()}
    for fraction, patients in shares.items():
        tables, times = [], 1 if fraction == 1 else draws
        for seed in progress(range(times), f"{name}, {patients} people", times):
            chosen = manifest.few(known["train"], patients, seed, "--fractions").place
            taught = tuple(one[known["train"].place.isin(chosen).to_numpy()] for one in pairs["train"])
            answer = probe.predict(taught, pairs["val"], pairs["test"][0], config.target.kind)
            tables.append(known["test"].drop(columns="place").assign(predicted=answer))
        yield Outcome(name, how, fraction, patients, tables)


def _test_of(config: ConfigDict, workdir: Path, like: Path) -> pd.DataFrame:
    """Take a run as far as its test predictions, from where it stands; it has the people of run `like`."""
    run = Run(config, workdir)
    with claimed(workdir):
        open_run(workdir, config, {})
        if not (workdir / PREDICTIONS).exists():
            write_text(workdir / MANIFEST, (like / MANIFEST).read_text(encoding="utf-8"))
            run.check_devices()
            run.prepare()
            run.train_and_embed()
            run.predict()
        shutil.rmtree(workdir / FINETUNE / "ckpt", ignore_errors=True)  # there would be one for each table cell
    table = manifest.read_table(workdir / PREDICTIONS)
    return table[table.split == "test"]

"""What a downstream study is asked for, refused before anything is tried: targets, shares of labels, and runs."""

import re
from pathlib import Path

from symnorm_jax.data.manifest import SPLITS, read_manifest
from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.rundir import read_config
from symnorm_jax.settings import value_of

LIKE = ("data.size", "data.spacing", "data.held_out", "data.train_on")  # what runs that are compared share
TAUGHT = ("target.column", "train.patients", "finetune.patients")  # what a run has that is no mere pre-training


def target_settings(text: str) -> dict[str, str]:
    """Read the section `target` of `age`, a number, or `sex=F`, a class. Raises ConfigError for anything else."""
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
    if args.output.exists() and not args.output.is_dir():
        raise RunError(f"--output={args.output}: is a file; a folder is needed.")


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
        if not (run / "metrics.json").exists():
            raise RunError(f"{run}: not a finished run; see it through with `symnorm train` first.")
        taught = {key: value_of(config, key) for key in TAUGHT}
        if any(taught.values()):
            raise RunError(f"{run}: saw labels, or a part of the people alone, {taught}; others are allowed.")
        data.append({key: value_of(config, key) for key in LIKE})
        if data[-1] != data[0]:
            raise RunError(f"{run}: has {data[-1]}, {runs[0]} has {data[0]}; what is compared must have the same.")
        rows = read_manifest(run / "manifest.csv")
        known = ["patient", "session", "split", "label", *(name for name in columns if name in rows)]
        people.append(rows.loc[rows.split.isin(SPLITS), known].reset_index(drop=True))
        if not people[-1].equals(people[0]):
            what = f"its people, their splits, labels or {', '.join(columns)} are not those of {runs[0]}"
            raise RunError(f"{run}: {what}; give them the same data and seed.")

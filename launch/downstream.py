"""Predict age, sex or anything else that is known of people from pre-trained encoders, and from their rivals.

python launch/train.py --config=configs/simclr.py:cpu --config.data.root=/data/ixi --workdir=runs/simclr
python launch/train.py --config=configs/simclr.py:cpu,mae --config.data.root=/data/ixi --workdir=runs/mae
python launch/train.py --config=configs/simclr.py:cpu,untrained --config.data.root=/data/ixi --workdir=runs/untrained
python launch/downstream.py --runs=runs/simclr,runs/mae,runs/untrained --targets=age,sex=F --output=runs/downstream

Every run is probed, runs of simclr and mae are fine-tuned, and the same encoder and a small CNN are trained from
scratch. The people who are trained on, chosen by and tested are those of the runs, whose splits must be the same. A
target is a column of their manifests: a number, or with `=F` the class F. The same command goes on where it stopped.
"""

from pathlib import Path

from absl import app, flags, logging

from symnorm_jax.compare import downstream as tables
from symnorm_jax.data.manifest import SPLITS, read_manifest
from symnorm_jax.downstream import protocol
from symnorm_jax.errors import ConfigError, RunError, reported
from symnorm_jax.lineage import unaudited
from symnorm_jax.rundir import read_config
from symnorm_jax.settings import value_of

_RUNS = flags.DEFINE_list("runs", None, "Finished runs of systems of volumes, the reference first.", required=True)
_TARGETS = flags.DEFINE_list(
    "targets", None, "What is predicted: a number, as age, or a class, as sex=F.", required=True
)
_FRACTIONS = flags.DEFINE_list("fractions", ["0.05", "0.1", "0.2", "0.5", "1"], "Shares of the labels for probes.")
_FINETUNE = flags.DEFINE_list("finetune", ["0.05", "0.1", "0.2", "0.5", "1"], "The same for training; empty for none.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Trainings of each kind, with other people and weights.", lower_bound=1)
_DRAWS = flags.DEFINE_integer("draws", 20, "Probes of each kind, with other people drawn.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", "runs/downstream", "The folder to write to.")
LIKE = ("data.size", "data.spacing", "data.held_out", "data.train_on")  # what runs that are compared share
TAUGHT = ("target.column", "train.patients", "finetune.patients")  # what a run has that is no mere pre-training


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)  # libraries tell long stories
    runs, folder = [Path(run) for run in _RUNS.value], Path(_OUTPUT.value)
    with reported():
        for name, values in (("fractions", _FRACTIONS.value), ("finetune", _FINETUNE.value)):
            _check_shares(name, values)
        settings = {text: protocol.target_settings(text) for text in _TARGETS.value}
        if len({target["target.column"] for target in settings.values()}) < len(_TARGETS.value):
            raise ConfigError(f"--targets={','.join(_TARGETS.value)}: a column can be a target once.")
        if not _FRACTIONS.value and not _FINETUNE.value:
            raise ConfigError("--fractions= and --finetune=: there is nothing to do; one share of either is needed.")
        if folder.exists() and not folder.is_dir():
            raise RunError(f"--output={folder}: is a file; a folder is needed.")
        check_runs(runs, [target["target.column"] for target in settings.values()])
        for target in settings.values():  # before the first of them takes its hours
            protocol.counts(runs[0], target, [1.0])
        for text, target in settings.items():
            _of_target(runs, text, target, folder)


def _of_target(runs: list[Path], text: str, target: dict, folder: Path) -> None:
    name, kind = target["target.column"], target["target.kind"]
    shares = protocol.counts(runs[0], target, [float(one) for one in _FRACTIONS.value])
    outcomes = [one for run in runs for one in protocol.probes(run, target, shares, _DRAWS.value)]
    outcomes += protocol.rulers(runs[0], target, shares, _DRAWS.value)
    shares = protocol.counts(runs[0], target, [float(one) for one in _FINETUNE.value])
    tasks = protocol.finetunings(runs, target, shares, _SEEDS.value, folder / name)
    for place, (what, task) in enumerate(tasks, start=1):
        print(f"{text}: {what}; {place} of {len(tasks)}", flush=True)
        outcomes.append(task())
    config = protocol.with_settings(read_config(runs[0]), target)
    lines, notes = tables.summary(outcomes, config), unaudited(runs)
    paths = tables.write(lines, notes, name, kind, folder)
    tables.table(lines, kind).print()
    print("\n".join([*notes, f"{name}: {', '.join(map(str, paths))}"]))


def check_runs(runs: list[Path], columns: list[str]) -> None:
    """Raise RunError unless all runs are finished, of volumes, told apart by their names, and of the same people.

    These lie in the same splits and order and have the same labels and target `columns`.
    """
    if len({run.name for run in runs}) < len(runs):
        raise RunError(f"--runs={','.join(map(str, runs))}: runs are told apart by their names, which must differ.")
    people, data = [], []
    for run in runs:
        if len(read_config(run).data.size) != 3:
            raise RunError(f"{run}: is a run of slices; runs of volumes, as of configs/simclr.py, are allowed.")
        if not (run / "metrics.json").exists():
            raise RunError(f"{run}: not a finished run; see it through with launch/train.py first.")
        taught = {key: value_of(read_config(run), key) for key in TAUGHT}
        if any(taught.values()):
            raise RunError(f"{run}: saw labels, or a part of the people alone, {taught}; others are allowed.")
        data.append({key: value_of(read_config(run), key) for key in LIKE})
        if data[-1] != data[0]:
            raise RunError(f"{run}: has {data[-1]}, {runs[0]} has {data[0]}; what is compared must have the same.")
        rows = read_manifest(run / "manifest.csv")
        told = ["patient", "session", "split", "label", *(name for name in columns if name in rows)]
        people.append(rows.loc[rows.split.isin(SPLITS), told].reset_index(drop=True))
        if not people[-1].equals(people[0]):
            raise RunError(
                f"{run}: its people, their splits, labels or {', '.join(columns)} are not those of {runs[0]}; "
                "give them the same data and seed."
            )


def _check_shares(name: str, values: list[str]) -> None:
    for one in values:
        try:
            sound = 0 < float(one) <= 1
        except ValueError:
            sound = False
        if not sound:
            raise ConfigError(f"--{name}={','.join(values)}: {one!r} is not a share above 0, up to 1.")


if __name__ == "__main__":
    app.run(main)

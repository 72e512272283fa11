"""Train one config at many points, a run each, and put the finished ones in one table.

python launch/sweep.py --config=configs/mets.py --config.data.root=/data/brainmetshare-3 --output=runs/mets_sweep
python launch/sweep.py --config=configs/demo.py --points= --config.seed=0,1,2 --config.mask.kind=exclusive,paired \
    --output=runs/demo_seeds --jobs=2

The points are those of the config's `sweep()`, or of another function that `--points` names. Further `--config.*`
settings go to every point; one with several values, between commas, is crossed with the points. The value of a key that
is a list stands in brackets, and a comma after a backslash separates nothing. The same command continues where it
stopped, and with more values adds to the sweep.

`--how=local` runs them here, `slurm` submits one array of jobs, `print` writes one command a line, and `table` makes
the table of what is finished.
"""

import importlib.util
import math
import shlex
import signal
import sys
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict
from rich.console import Console

from configs import sweeps
from symnorm_jax.checks import checked
from symnorm_jax.compare import sweep as table
from symnorm_jax.errors import ConfigError, RunError, reported
from symnorm_jax.run import Run
from symnorm_jax.sweeps import local, points, slurm
from symnorm_jax.training.transfer import check_source, schedule

_CONFIG = flags.DEFINE_string("config", None, "A file of configs/, perhaps with :tiny; not needed for --how=table.")
_OUTPUT = flags.DEFINE_string("output", None, "The folder of all runs.", required=True)
_POINTS = flags.DEFINE_string(
    "points", "sweep", "The function of the config, or of configs/sweeps.py, that lists the points; empty for none."
)
_HOW = flags.DEFINE_enum("how", "local", ["local", "slurm", "print", "table"], "What is done with the points.")
_JOBS = flags.DEFINE_integer("jobs", 1, "local: runs at a time; with GPUs, each has one of them.", lower_bound=1)
_SLURM = flags.DEFINE_list("slurm", [], "slurm: sbatch's parameters, as partition=gpu,time=240,gpus_per_node=1.")
TRAIN = Path(__file__).parent / "train.py"


def main(arguments: list[str]) -> None:
    logging.set_verbosity(logging.WARNING)  # libraries tell long stories
    folder, failed = Path(_OUTPUT.value), []
    with reported():
        chosen = points.recorded(folder) if _HOW.value == "table" else _planned(folder, arguments[1:])
        runs = _checked(chosen, folder)
        if _HOW.value == "print":
            print(*(shlex.join(_command(point, folder, "python", "launch/train.py")) for point in chosen), sep="\n")
            return
        if _HOW.value != "table":
            _check_sources([run for run in runs if not run.finished])
            points.record(folder, chosen)
        if _HOW.value == "slurm":
            _submit(folder, [point for point, run in zip(chosen, runs, strict=True) if not run.finished])
            return
        failed = _run(folder, chosen, runs) if _HOW.value == "local" else []
        if not failed or any(run.finished for run in runs):
            _tabulate(folder, chosen, [point for point, run in zip(chosen, runs, strict=True) if run.finished])
    if failed:
        sys.exit(f"error: {len(failed)} of {len(chosen)} points failed: {', '.join(failed)}; the same command goes on.")


def _planned(folder: Path, arguments: list[str]) -> list[points.Point]:
    """The points that are asked for, in the order of the sweep."""
    if not _CONFIG.value:
        raise ConfigError("--config: a file of configs/ is needed, as configs/demo.py; only --how=table goes without.")
    settings = points.several(_CONFIG.value, points.given(arguments))
    listed = _listed(_CONFIG.value.partition(":")[0])
    if listed is None and all(len(values) == 1 for values in settings.values()):
        raise ConfigError(
            f"{_CONFIG.value}: nothing to sweep; give the config a function sweep(), --points one of "
            f"{_functions()}, or a setting several values, as --config.seed=0,1,2."
        )
    return points.planned(folder, _CONFIG.value, points.crossed(listed or [{}], settings))


def _listed(path: str) -> list[dict] | None:
    """What the function `--points` gives; None without one, or where the config has no `sweep()`."""
    if not _POINTS.value:
        return None
    spec = importlib.util.spec_from_file_location("swept_config", path)
    config = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(config)
    found = getattr(config, _POINTS.value, getattr(sweeps, _POINTS.value, None))
    if found is None and _POINTS.value != "sweep":
        raise ConfigError(f"--points={_POINTS.value}: one of {_functions()} or a function of {path} is allowed.")
    return found and found()


def _functions() -> list[str]:
    return [name for name in ("ablations", "masks", "differences", "transfers") if hasattr(sweeps, name)]


def _checked(chosen: list[points.Point], folder: Path) -> list[Run]:
    """The runs of points, whose configs are allowed."""
    configs = [points.config_of(point.config, point.settings) for point in chosen]
    jax.config.update("jax_platforms", "cpu")  # the devices are for the runs
    jax.config.update("jax_num_cpu_devices", _devices(configs))
    points.check(chosen, configs)
    return [Run(config, folder / point.label) for point, config in zip(chosen, configs, strict=True)]


def _devices(configs: list[ConfigDict]) -> int:
    """How many devices a run of the sweep will have; where nobody knows yet, the fewest that its sharding allows."""
    if _HOW.value == "slurm":
        asked = slurm.settings_of(_SLURM.value)
        known = asked.get("nodes", 1) * asked.get("gpus_per_node", 0)
    else:
        known = min(len(local.gpus()), 1 if _JOBS.value > 1 else sys.maxsize) if _HOW.value == "local" else 0
    return known or math.lcm(*(max(config.sharding.fsdp, 1) for config in configs))


def _check_sources(runs: list[Run]) -> None:
    for run in runs:
        if run.config.init_from:
            check_source(run.config, checked(run.config))


def _command(point: points.Point, folder: Path, *train: str) -> list[str]:
    return [*train, *point.arguments, f"--workdir={folder / point.label}"]


def _run(folder: Path, chosen: list[points.Point], runs: list[Run]) -> list[str]:
    """Run what is not finished; the labels of those that failed. Ends the program where it is told to."""
    tasks = []
    for point, run in zip(chosen, runs, strict=True):
        steps = {name: stage.steps for name, stage in schedule(run.config, checked(run.config)).items()}
        command = _command(point, folder, sys.executable, str(TRAIN))
        log, finished = folder / f"{point.label}.log", lambda run=run: run.finished
        tasks.append(local.Task(point.label, command, run.workdir, log, finished, steps))
    try:
        with local.shown(Console()) as show:
            states = local.run_all(tasks, local.lanes(_JOBS.value), show)
    except local.Stopped as stopped:
        print(f"stopped by {signal.Signals(stopped.number).name}: the same command continues.", file=sys.stderr)
        sys.exit(128 + stopped.number)
    return [label for label, state in states.items() if state.name == local.FAILED]


def _submit(folder: Path, waiting: list[points.Point]) -> None:
    if not waiting:
        print(f"{folder}: nothing is left to do; --how=table makes the table.")
        return
    executor = slurm.executor(folder / "slurm", slurm.settings_of(_SLURM.value))
    jobs = slurm.submit(executor, [_command(point, folder, sys.executable, str(TRAIN)) for point in waiting])
    for point, job in zip(waiting, jobs, strict=True):
        print(f"{job.job_id} {point.label}")
    print(f"logs: {folder / 'slurm'}")


def _tabulate(folder: Path, chosen: list[points.Point], finished: list[points.Point]) -> None:
    if not chosen:
        raise RunError(f"{folder} holds no sweep: there is no {points.FILE}; begin one with --config.")
    found, sentences, paths = table.write(folder, chosen, finished)
    found.print()
    print(*sentences, sep="\n")
    print(f"sweep: {', '.join(map(str, paths))}")


if __name__ == "__main__":
    app.run(main, flags_parser=lambda arguments: flags.FLAGS(arguments, known_only=True))

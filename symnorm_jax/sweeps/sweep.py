"""See a sweep through: plan its points, refuse what would fail, run or submit what is not finished, and tabulate."""

import math
import shlex
import sys
from pathlib import Path

import jax
from rich.console import Console

from symnorm_jax.checks import checked
from symnorm_jax.compare import sweep as table
from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.run import Run
from symnorm_jax.sweeps import local, points, slurm
from symnorm_jax.sweeps.process import TRAIN
from symnorm_jax.training.transfer import check_source, schedule


def sweep(args) -> None:
    """Do what `symnorm study sweep` is asked for: `args` has its options and `settings`.

    Raises ConfigError and RunError for what cannot be run, and SystemExit where points failed or a signal came.
    """
    folder, failed = args.output, []
    chosen = points.recorded(folder) if args.how == "table" else _planned(args)
    runs = _checked(chosen, args)
    if args.how == "print":
        commands = [_command(*one, ["symnorm", "train"]) for one in zip(chosen, runs, strict=True)]
        return print(*map(shlex.join, commands), sep="\n")
    waiting = [(point, run) for point, run in zip(chosen, runs, strict=True) if not run.finished]
    if args.how != "table":
        for _, run in waiting:
            if run.config.init_from:
                check_source(run.config, checked(run.config))
        points.record(folder, chosen)
    if args.how == "slurm":
        return _submit(folder, waiting, args.slurm)
    if args.how == "local":
        failed = _run(chosen, runs, args.jobs)
    finished = [point for point, run in zip(chosen, runs, strict=True) if run.finished]
    if finished or not failed:
        _tabulate(folder, chosen, finished)
    if failed:
        sys.exit(f"error: {len(failed)} of {len(chosen)} points failed: {', '.join(failed)}; the same command goes on.")


def _planned(args) -> list[points.Point]:
    """List the points that are asked for, in the order of the sweep."""
    if not args.config:
        raise ConfigError("--config: a notebook is needed, as demo; only --how=table goes without.")
    listed, settings = points.listed(args.config, args.points), points.several(args.config, points.given(args.settings))
    if listed is None and all(len(values) == 1 for values in settings.values()):
        wanted = f"a function sweep(), --points one of {points.packaged()}, or a setting several values"
        raise ConfigError(f"{args.config}: nothing to sweep; give the config {wanted}, as --config.seed=0,1,2.")
    return points.planned(args.output, args.config, points.crossed(listed or [{}], settings))


def _checked(chosen: list[points.Point], args) -> list[Run]:
    """Make the runs of points, whose configs are allowed on the devices that a run will have."""
    configs = [points.config_of(point.config, point.settings) for point in chosen]
    devices = 0
    if args.how == "slurm":
        asked = slurm.settings_of(args.slurm)
        devices = asked.get("nodes", 1) * asked.get("gpus_per_node", 0)
    elif args.how == "local":
        devices = min(len(local.gpus()), 1 if args.jobs > 1 else sys.maxsize)
    # Where nobody knows yet, the fewest that sharding allows.
    devices = devices or math.lcm(*(max(config.sharding.fsdp, 1) for config in configs))
    jax.config.update("jax_platforms", "cpu")  # the devices are for the runs
    jax.config.update("jax_num_cpu_devices", devices)
    points.check(chosen, configs)
    return [Run(config, args.output / point.label) for point, config in zip(chosen, configs, strict=True)]


def _command(point: points.Point, run: Run, train: list[str]) -> list[str]:
    return [*train, *point.arguments, f"--workdir={run.workdir}"]


def _run(chosen: list[points.Point], runs: list[Run], jobs: int) -> list[str]:
    """Run what is not finished; the labels of those that failed. Raises SystemExit where a signal stops it."""
    tasks = []
    for point, run in zip(chosen, runs, strict=True):
        steps = {name: stage.steps for name, stage in schedule(run.config, checked(run.config)).items()}
        tasks.append(local.Task(run.workdir, _command(point, run, TRAIN), lambda run=run: run.finished, steps))
    with local.shown(Console()) as show:
        states = local.run_all(tasks, local.lanes(jobs), show)
    return [label for label, state in states.items() if state.name == local.FAILED]


def _submit(folder: Path, waiting: list[tuple[points.Point, Run]], asked: list[str]) -> None:
    if not waiting:
        return print(f"{folder}: nothing is left to do; --how=table makes the table.")
    executor = slurm.executor(folder / "slurm", slurm.settings_of(asked))
    jobs = slurm.submit(executor, [_command(*one, TRAIN) for one in waiting])
    print(*(f"{job.job_id} {run.workdir.name}" for job, (_, run) in zip(jobs, waiting, strict=True)), sep="\n")
    print(f"logs: {folder / 'slurm'}")


def _tabulate(folder: Path, chosen: list[points.Point], finished: list[points.Point]) -> None:
    if not chosen:
        raise RunError(f"{folder} holds no sweep: there is no {points.FILE}; begin one with --config.")
    found, sentences, paths = table.write(folder, chosen, finished)
    found.print()
    print(*sentences, f"sweep: {', '.join(map(str, paths))}", sep="\n")

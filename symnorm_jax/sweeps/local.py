"""Runs of a sweep on this machine, a few at a time, and a table of how far each has come."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import joblib
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from symnorm_jax.rundir import LOG, read_metrics
from symnorm_jax.sweeps.process import start, stop, sweep_away

WAITING, RUNNING, FINISHED, FAILED = "waiting", "running", "finished", "failed"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHARE = 0.9  # of a GPU's memory that the processes on it take together
LONGEST = 200  # letters of a log that are repeated


class Task(NamedTuple):
    """A command to run, and how it is known to have gone through. Its label is the name of the run directory."""

    workdir: Path
    command: list[str]
    finished: Callable[[], bool]
    steps: dict[str, int]  # of each training stage

    @property
    def log(self) -> Path:
        return self.workdir.with_name(f"{self.workdir.name}.log")


class State(NamedTuple):
    name: str  # waiting, running, finished or failed
    detail: str = ""


Show = Callable[[dict[str, State]], None]  # of states by the labels of their tasks


def run_all(tasks: list[Task], lanes: list[dict[str, str]], show: Show, pause: float = 0.5) -> dict[str, State]:
    """Run tasks in order, as many at a time as there are `lanes`, each with the environment of its lane.

    Finished tasks are skipped, and one that fails stops no other. `show` gets all states every `pause` seconds. Raises
    SystemExit on SIGINT, SIGTERM and SIGHUP, once what runs has been told to end and has.
    """
    free, waiting, running = [*lanes], [*tasks], {}
    states = {task.workdir.name: State(WAITING) for task in tasks}
    with _noted() as received:
        try:
            while (waiting or running) and not received:
                while waiting and free:
                    task = waiting.pop(0)
                    if task.finished():
                        states[task.workdir.name] = State(FINISHED)
                    else:
                        running[task.workdir.name] = task, _started(task, free[0]), free.pop(0)
                for label, (task, process, lane) in [*running.items()]:
                    states[label] = _state(task, process)
                    if states[label].name != RUNNING:
                        del running[label]
                        free.append(lane)
                show(states)
                time.sleep(pause if running else 0)
        finally:
            stop([process for _, process, _ in running.values()])
    if received:
        print(f"stopped by {signal.Signals(received[0]).name}: the same command continues.", file=sys.stderr)
        sys.exit(128 + received[0])
    return states


def lanes(jobs: int) -> list[dict[str, str]]:
    """Give each of `jobs` runs at a time what it adds to its environment.

    One run has every device. Several have one GPU each, in turn; those that share a GPU share its memory. Without GPUs
    they share the cores.
    """
    devices = gpus()
    if jobs == 1:
        return [{}]
    if not devices:
        return [{"LOKY_MAX_CPU_COUNT": str(max(joblib.cpu_count() // jobs, 1))}] * jobs  # which joblib counts by
    on_one = -(-jobs // len(devices))
    memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{SHARE / on_one:.3f}"} if on_one > 1 else {}
    return [memory | {"CUDA_VISIBLE_DEVICES": devices[job % len(devices)]} for job in range(jobs)]


def gpus() -> list[str]:
    """List the NVIDIA GPUs that CUDA_VISIBLE_DEVICES allows, or else all, without JAX, which would take them."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return list(takewhile(lambda one: one and one != "-1", allowed.split(",")))  # after -1 CUDA sees none
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, encoding="utf-8", errors="replace", check=False)
    return found.stdout.split() if found.returncode == 0 else []


def reached(workdir: Path, steps: dict[str, int]) -> str:
    """Name the stage and step that a run has come to, from its `<stage>/metrics.jsonl`."""
    begun = [stage for stage in steps if (workdir / stage / LOG).exists()]
    if not begun:
        return "preparing"
    stage = begun[-1]
    try:
        lines = read_metrics(workdir / stage / LOG)
    except ValueError:  # a line that is being written
        return stage
    step = lines[-1]["step"] if lines else 0
    return "scoring" if stage == list(steps)[-1] and step >= steps[stage] else f"{stage} {step} of {steps[stage]}"


@contextmanager
def shown(console: Console) -> Iterator[Show]:
    """Give a function that shows states: a live table on a terminal; elsewhere a line for each change."""
    told = set()

    def draw(states: dict[str, State]) -> None:
        table = Table("point", "state", "")
        for label, state in states.items():
            table.add_row(*map(Text, (label, *state)))
        live.update(table, refresh=True)

    def tell(states: dict[str, State]) -> None:
        for label, state in states.items():
            if (label, state.name) not in told:
                console.print(Text(": ".join(filter(None, (label, *state)))), soft_wrap=True)
                told.add((label, state.name))

    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield draw
    else:
        yield tell


def _started(task: Task, lane: dict[str, str]) -> subprocess.Popen:
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with task.log.open("ab") as log:
        return start(task.command, log, lane)


def _state(task: Task, process: subprocess.Popen) -> State:
    status = process.poll()
    if status is None:
        return State(RUNNING, reached(task.workdir, task.steps))
    if status == 0 and task.finished():
        return State(FINISHED)
    sweep_away(process)
    lines = task.log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    readable = ("".join(filter(str.isprintable, line)).strip() for line in reversed(lines))  # progress bars are not
    said = next(filter(None, readable), "")[:LONGEST] or "nothing was said"
    return State(FAILED, f"status {status}: {said} ({task.log})")


@contextmanager
def _noted() -> Iterator[list[int]]:
    """List the signals received so far; while it is open they end nothing by themselves."""
    received = []
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

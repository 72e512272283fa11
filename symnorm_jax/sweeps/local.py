"""Runs of a sweep on this machine, a few at a time, and a table of how far each has come."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from symnorm_jax.rundir import read_metrics
from symnorm_jax.sweeps.process import last_line, start, stop, sweep_away

WAITING, RUNNING, FINISHED, FAILED = "waiting", "running", "finished", "failed"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHARE = 0.9  # of a GPU's memory that the processes on it take together


class Task(NamedTuple):
    """What is to be run: a command, and how it is known to have gone through."""

    label: str
    command: list[str]
    workdir: Path
    log: Path
    finished: Callable[[], bool]
    steps: dict[str, int]  # of each training stage


class State(NamedTuple):
    name: str  # waiting, running, finished or failed
    detail: str = ""


class Stopped(Exception):
    """The sweep was asked to end by the signal `number`; its runs have ended."""

    def __init__(self, number: int):
        self.number = number


def run_all(
    tasks: list[Task], lanes: list[dict[str, str]], show: Callable[[dict[str, State]], None], pause: float = 0.5
) -> dict[str, State]:
    """Run tasks in order, as many at a time as there are `lanes`, each with the environment of its lane.

    Finished tasks are skipped, and one that fails stops no other. `show` is told the state of each every `pause`
    seconds. Raises Stopped on SIGINT, SIGTERM and SIGHUP, once what runs has been told to end and has.
    """
    states = {task.label: State(FINISHED if task.finished() else WAITING) for task in tasks}
    waiting = [task for task in tasks if states[task.label].name == WAITING]
    running: dict[int, tuple[Task, subprocess.Popen]] = {}
    with _noted() as received:
        try:
            while (waiting or running) and not received:
                for lane in [one for one in range(len(lanes)) if one not in running][: len(waiting)]:
                    task = waiting.pop(0)
                    running[lane] = task, _begun(task, lanes[lane])
                time.sleep(pause)
                for lane, (task, process) in list(running.items()):
                    states[task.label] = _state(task, process)
                    if states[task.label].name != RUNNING:
                        del running[lane]
                show(states)
        finally:
            stop([process for _, process in running.values()])
    if received:
        raise Stopped(received[0])
    show(states)
    return states


def lanes(jobs: int) -> list[dict[str, str]]:
    """What each of `jobs` runs at a time adds to its environment.

    One run has every device. Several have one GPU each, in turn; those that share a GPU share its memory.
    """
    devices = gpus()
    if jobs == 1 or not devices:
        return [{}] * jobs
    on_one = -(-jobs // len(devices))
    memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{SHARE / on_one:.3f}"} if on_one > 1 else {}
    return [memory | {"CUDA_VISIBLE_DEVICES": devices[job % len(devices)]} for job in range(jobs)]


def gpus() -> list[str]:
    """The NVIDIA GPUs that CUDA_VISIBLE_DEVICES allows, or else all; found without JAX, which would take them."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [one for one in allowed.split(",") if one]
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    return found.stdout.split() if found.returncode == 0 else []


def reached(workdir: Path, steps: dict[str, int]) -> str:
    """The stage and step that a run has come to, from its `<stage>/metrics.jsonl`."""
    logs = [(workdir / stage / "metrics.jsonl", stage) for stage in steps]
    begun = [(path, stage) for path, stage in logs if path.exists()]
    if not begun:
        return "preparing"
    path, stage = begun[-1]
    try:
        lines = read_metrics(path)
    except ValueError:  # a line that is being written
        return stage
    step = lines[-1]["step"] if lines else 0
    return "scoring" if stage == list(steps)[-1] and step >= steps[stage] else f"{stage} {step} of {steps[stage]}"


@contextmanager
def shown(console: Console) -> Iterator[Callable[[dict[str, State]], None]]:
    """A function that shows states: a live table on a terminal; elsewhere a line for each change."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda states: live.update(_table(states), refresh=True)
        return
    before: dict[str, str] = {}

    def tell(states: dict[str, State]) -> None:
        for label, state in states.items():
            if before.get(label) != state.name:
                console.print(Text(": ".join(filter(None, (label, state.name, state.detail)))), soft_wrap=True)
                before[label] = state.name

    yield tell


def _table(states: dict[str, State]) -> Table:
    table = Table("point", "state", "")
    for label, state in states.items():
        table.add_row(*map(Text, (label, *state)))
    return table


def _begun(task: Task, environment: dict[str, str]) -> subprocess.Popen:
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with task.log.open("ab") as log:
        return start(task.command, log, environment)


def _state(task: Task, process: subprocess.Popen) -> State:
    status = process.poll()
    if status is None:
        return State(RUNNING, reached(task.workdir, task.steps))
    if status == 0 and task.finished():
        return State(FINISHED)
    sweep_away(process)
    return State(FAILED, f"status {status}: {last_line(task.log) or 'nothing was said'} ({task.log})")


@contextmanager
def _noted() -> Iterator[list[int]]:
    """The signals received so far; while it is open they end nothing by themselves."""
    received: list[int] = []
    before = {number: signal.signal(number, lambda number, _: received.append(number)) for number in SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

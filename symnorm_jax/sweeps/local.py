"""Runs of a sweep on this machine, a few at a time, and a table of how far each has come."""

import os
import queue
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from symnorm_jax.rundir import LOG, read_metrics
from symnorm_jax.sweeps.process import start, stop, sweep_away

WAITING, RUNNING, FINISHED, FAILED = "waiting", "running", "finished", "failed"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST = 200  # letters of a log that are repeated
SHARE = 0.9  # of a GPU's memory that the processes on it take together


class Task(NamedTuple):
    """A command to run, and how it is known to have gone through. Its label is the name of the run directory."""

    workdir: Path
    command: list[str]
    finished: Callable[[], bool]
    steps: dict[str, int]  # of each training stage


class State(NamedTuple):
    name: str  # waiting, running, finished or failed
    detail: str = ""


Show = Callable[[dict[str, State]], None]  # of states by the labels of their tasks


def run_all(tasks: list[Task], lanes: list[dict[str, str]], show: Show, pause: float = 0.5) -> dict[str, State]:
    """Run tasks in order, as many at a time as there are `lanes`, each with the environment of its lane.

    Finished tasks are skipped, and one that fails stops no other. `show` gets all states every `pause` seconds. Raises
    SystemExit on SIGINT, SIGTERM and SIGHUP, once what runs has been told to end and has.
    """
    free, running = queue.SimpleQueue(), {}
    for lane in lanes:
        free.put(lane)
    pool = ThreadPoolExecutor(len(lanes))
    with _noted() as received:
        outcomes = [pool.submit(_outcome, task, free, running) for task in tasks]
        try:
            waiting = True
            while waiting and not received:
                waiting = wait(outcomes, pause).not_done
                pairs = zip(tasks, outcomes, strict=True)
                states = {task.workdir.name: _state(task, outcome, running) for task, outcome in pairs}
                show(states)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(outcome.done() for outcome in outcomes):  # one may have started just now
                stop([*running.values()])
                time.sleep(0.01)
    if received:
        print(f"stopped by {signal.Signals(received[0]).name}: the same command continues.", file=sys.stderr)
        sys.exit(128 + received[0])
    return states


def lanes(jobs: int) -> list[dict[str, str]]:
    """Give each of `jobs` runs at a time what it adds to its environment.

    One run has every device. Several have one GPU each, in turn; those that share a GPU share its memory.
    """
    devices = gpus()
    if jobs == 1 or not devices:
        return [{}] * jobs
    on_one = -(-jobs // len(devices))
    memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{SHARE / on_one:.3f}"} if on_one > 1 else {}
    return [memory | {"CUDA_VISIBLE_DEVICES": devices[job % len(devices)]} for job in range(jobs)]


def gpus() -> list[str]:
    """List the NVIDIA GPUs that CUDA_VISIBLE_DEVICES allows, or else all, without JAX, which would take them."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [one for one in allowed.split(",") if one]
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
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


def _outcome(task: Task, lanes: queue.SimpleQueue, running: dict[Path, subprocess.Popen]) -> State:
    """Run a task to its end on a free lane, in this thread: on Linux the process ends with it."""
    if task.finished():
        return State(FINISHED)
    lane, path = lanes.get(), task.workdir.with_name(f"{task.workdir.name}.log")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as log:
            process = running[task.workdir] = start(task.command, log, lane)
        status = process.wait()
    finally:
        running.pop(task.workdir, None)
        lanes.put(lane)
    if status == 0 and task.finished():
        return State(FINISHED)
    sweep_away(process)
    return State(FAILED, f"status {status}: {_last_line(path) or 'nothing was said'} ({path})")


def _last_line(log: Path) -> str:
    """Read the last line that is not empty, cut short; control letters of progress bars are left out."""
    lines = log.read_text(errors="replace").replace("\r", "\n").splitlines()
    readable = ("".join(filter(str.isprintable, line)).strip() for line in reversed(lines))
    return next(filter(None, readable), "")[:LONGEST]


def _state(task: Task, outcome: Future, running: dict[Path, subprocess.Popen]) -> State:
    if outcome.done():
        return outcome.result()
    return State(RUNNING, reached(task.workdir, task.steps)) if task.workdir in running else State(WAITING)


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

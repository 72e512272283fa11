"""Kills runs at random instants, and compares what the same command then makes of them with a run left alone.

Every kill has a run directory, a store and a compile cache of its own; of the cache one file is cut short, as a kill
while XLA writes it would leave it. A run that did not end as it should stays in the output folder.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orbax.checkpoint as ocp
from jax.tree_util import keystr, tree_leaves_with_path

from symnorm_jax.files import load_arrays
from symnorm_jax.training.checkpoint import KEEP

ROOT = Path(__file__).parents[1]
STEPS, EVERY, NETS = 30, 10, ("unet", "vae")
QUICK = {"train.unet.steps": STEPS, "train.vae.steps": STEPS, "train.checkpoint_every": EVERY}
QUICK |= {"data.midline": "centred", "data.options.healthy": 10, "data.options.patients": 6}
QUICK |= {"evaluation.replicates": 20, "evaluation.interval": "percentile"}
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
# A place of a run, and the file that stands once the run is there; of training, the last whole checkpoint.
PLACES = {"starting": "", "preparing": "config.json", "unet 0": "manifest.csv"}
PLACES |= {f"unet {step}": f"unet/ckpt/{step}/commit_success.txt" for step in range(EVERY, STEPS, EVERY)}
PLACES |= {"pass": f"unet/ckpt/{STEPS}/commit_success.txt", "standardising": "maps/raw.npy"}
PLACES |= {"vae 0": "maps/difference.npy"}
PLACES |= {f"vae {step}": f"vae/ckpt/{step}/commit_success.txt" for step in range(EVERY, STEPS, EVERY)}
PLACES |= {"embedding": f"vae/ckpt/{STEPS}/commit_success.txt", "cost": "embeddings/test.npz", "fitting": "cost.json"}
PLACES |= {"scoring": "gaussian.npz", "evaluating": "calibration.json", "reporting": "metrics.json"}
PLACES |= {"ending": "report.html"}
SAME_BYTES = ("scores.csv", "thresholds.json", "calibration.json", "metrics.json", "manifest.csv")
SAME_ARRAYS = (*(f"embeddings/{split}.npz" for split in ("train", "val", "test")), "gaussian.npz", "maps/healthy.npz")
STOPPED = re.compile(r"stopped at step (\d+) of \d+ of (\w+)")
PATIENCE = 1800  # seconds, for a machine with other work


class Instant(NamedTuple):
    """A moment of a run: seconds after it came to a place, or when it leaves that place if this is sooner."""

    place: str
    seconds: float


def start(folder: Path, workers: int = 1, **settings) -> subprocess.Popen:
    """The command, for `<folder>/run`, in a process group of its own; `<folder>/log` has what it says."""
    command = [sys.executable, "launch/train.py", "--config=configs/demo.py:tiny", f"--workdir={folder / 'run'}"]
    given = QUICK | {"data.store": folder / "store", "data.workers": workers} | settings
    command += [f"--config.{key}={value}" for key, value in given.items()]
    environment = os.environ | ENVIRONMENT | {"JAX_COMPILATION_CACHE_DIR": str(folder / "xla")}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=log
        )


def finish(folder: Path, workers: int = 1) -> str:
    """See the run through; what is wrong with how it ended, or nothing."""
    status = start(folder, workers).wait(PATIENCE)
    return f"status {status}: {(folder / 'log').read_text().strip()[-300:]}" if status else ""


def place(run: Path) -> str:
    """How far a run directory has come."""
    return [name for name, sign in PLACES.items() if (run / sign).exists() or not sign][-1]


def timed(folder: Path) -> dict[str, float]:
    """A run that nobody disturbs: the seconds it spends at each place. Raises RuntimeError where it fails."""
    run, spent, since = start(folder), dict.fromkeys(PLACES, 0.0), time.monotonic()
    while run.poll() is None:
        time.sleep(0.01)
        now = time.monotonic()
        spent[place(folder / "run")] += now - since
        since = now
    if run.returncode:
        raise RuntimeError((folder / "log").read_text())
    return spent


def drawn(rng: np.random.Generator, spent: dict[str, float], kills: int) -> Iterator[Instant]:
    """Instants, every second one uniform over the whole run, the others uniform within each place in turn."""
    names, seconds = list(spent), np.array(list(spent.values()))
    ends = seconds.cumsum()
    for i in range(kills):
        at = rng.uniform(0, ends[-1])
        where = int(np.searchsorted(ends, at, "right")) if i % 2 else i // 2 % len(names)
        yield Instant(names[where], rng.uniform(0, seconds[where]))


def strike(folder: Path, instant: Instant, number: signal.Signals = signal.SIGKILL, workers: int = 1) -> int:
    """Start the command, send it a signal at an instant, and return its exit status once its workers are gone."""
    run, names = start(folder, workers), list(PLACES)
    while run.poll() is None and names.index(place(folder / "run")) < names.index(instant.place):
        time.sleep(0.005)
    end = time.monotonic() + instant.seconds
    while run.poll() is None and time.monotonic() < end and place(folder / "run") == instant.place:
        time.sleep(0.005)
    run.send_signal(number)
    status, end = run.wait(PATIENCE), time.monotonic() + 60
    while group(run.pid):
        if time.monotonic() > end:
            raise RuntimeError(f"a worker outlives the command: {group(run.pid)}")
        time.sleep(0.05)
    return status


def group(leader: int) -> list[str]:
    """The processes of a process group that still run."""
    listed = subprocess.run(["ps", "-wweo", "pgid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [what for leads, state, *what in lines if int(leads) == leader and not state.startswith("Z")]


def cut_cache(folder: Path, rng: np.random.Generator) -> None:
    """Cut one file of the compile cache at a random place."""
    files = sorted((folder / "xla").glob("*-cache"))
    if files:
        path = files[rng.integers(len(files))]
        os.truncate(path, int(rng.integers(path.stat().st_size)))


def stopped(folder: Path) -> tuple[str, int] | None:
    """Stage and step at which training says that it stopped."""
    found = STOPPED.search((folder / "log").read_text())
    return found and (found[2], int(found[1]))


def unexpected(folder: Path, status: int, number: signal.Signals) -> list[str]:
    """What is wrong with how a signal ended the command, if anything; 0 where it came too late."""
    if status in (0, -number):
        return []
    stop = stopped(folder)
    saved = stop and (folder / "run" / stop[0] / "ckpt" / str(stop[1]) / "commit_success.txt").exists()
    return [] if number == signal.SIGTERM and status == 143 and saved else [f"status {status} after {number.name}"]


def differences(whole: Path, folder: Path, stop: tuple[str, int] | None = None) -> list[str]:
    """What a run has that the undisturbed one has not, or has otherwise; `stop` as SIGTERM stopped it."""
    names = [set(listed(one)) for one in (whole, folder)]
    if names[0] != names[1]:
        other = sorted(names[0] ^ names[1])
        return [f"only in one: {name}" for name in other[:5]] + [f"{len(other)} such files"]
    pairs = [(whole / "run" / name, folder / "run" / name) for name in SAME_BYTES]
    pairs += [(path, folder / "store" / path.name) for path in sorted((whole / "store").iterdir())]
    found = [one.name for one, other in pairs if one.read_bytes() != other.read_bytes()]
    found += [name for name in SAME_ARRAYS if bits(whole / "run" / name) != bits(folder / "run" / name)]
    for net in NETS:
        steps, stops = kept(whole, net), {step for name, step in [stop or ("", 0)] if name == net}
        if kept(folder, net) != sorted({*steps, *stops})[-KEEP:]:
            found.append(f"{net} keeps the checkpoints {kept(folder, net)}")
        if state(whole, net) != state(folder, net):
            found.append(f"the last checkpoint of {net}")
        lines, expected = logged(folder, net), logged(whole, net)
        if lines != sorted(set(lines)) or {step for step, _ in lines} != {step for step, _ in expected} | stops:
            found.append(f"the steps of {net}/metrics.jsonl")
        if not set(expected) <= set(lines):
            found.append(f"the keys of {net}/metrics.jsonl")
    costs = [json.loads((one / "run" / "cost.json").read_text()).keys() for one in (whole, folder)]
    return found + (["the keys of cost.json"] if costs[0] != costs[1] else [])


def listed(folder: Path) -> Iterator[str]:
    """Files and folders of a run and its store; names that Orbax draws, and steps of checkpoints, as a star."""
    for path in (path for part in ("run", "store") for path in (folder / part).rglob("*")):
        name = re.sub(r"/d/[0-9a-f]{32}$", "/d/*", str(path.relative_to(folder)))
        yield re.sub(r"/ckpt/\d+(?=/|$)", "/ckpt/*", name)


def bits(path: Path) -> dict[str, tuple]:
    """The arrays of an npz file, by which NaN equals NaN and 0 is not -0."""
    return {name: (x.dtype, x.shape, x.tobytes()) for name, x in load_arrays(path).items()}


def kept(folder: Path, net: str) -> list[int]:
    return sorted(int(path.name) for path in (folder / "run" / net / "ckpt").iterdir() if path.name.isdecimal())


def state(folder: Path, net: str) -> dict[str, tuple]:
    """Weights, measured statistics and optimizer in the last checkpoint of a stage."""
    items = ocp.args.Composite(variables=ocp.args.StandardRestore(), opt=ocp.args.StandardRestore())
    options = ocp.CheckpointManagerOptions(create=False)
    with ocp.CheckpointManager((folder / "run" / net / "ckpt").absolute(), options=options) as manager:
        found = manager.restore(manager.latest_step(), args=items)
    leaves = tree_leaves_with_path({name: found[name] for name in ("variables", "opt")})
    return {keystr(path): (str(x.dtype), x.shape, np.asarray(x).tobytes()) for path, x in leaves}


def logged(folder: Path, net: str) -> list[tuple[int, tuple[str, ...]]]:
    lines = (folder / "run" / net / "metrics.jsonl").read_text().splitlines()
    return [(line["step"], tuple(sorted(line))) for line in map(json.loads, lines)]


def one_kill(whole: Path, folder: Path, instant: Instant, number: signal.Signals, rng, workers: int) -> str:
    """Kill a new run at an instant and see it through; what is wrong, or nothing, and then its folder goes."""
    shutil.copytree(whole / "xla", folder / "xla")
    status = strike(folder, instant, number, workers)
    fell, stop, wrong = place(folder / "run"), stopped(folder), unexpected(folder, status, number)
    cut_cache(folder, rng)
    failed = finish(folder, workers)
    wrong += [failed] if failed else differences(whole, folder, stop)
    if not wrong:
        shutil.rmtree(folder)
    return f"{folder}, {instant}, killed at {fell}: {'; '.join(wrong)}" if wrong else ""


def chaos(output: Path, kills: int, seed: int, number: signal.Signals) -> list[str]:
    """What went wrong with each kill that changed anything. Raises RuntimeError where two undisturbed runs differ."""
    rng, whole, twin = np.random.default_rng(seed), output / "whole", output / "twin"
    timed(whole)
    shutil.copytree(whole / "xla", twin / "xla")
    spent = timed(twin)  # compiled before, as in the runs to come
    if wrong := differences(whole, twin):
        raise RuntimeError(f"two undisturbed runs differ: {wrong}")
    found = []
    for i, instant in enumerate(drawn(rng, spent, kills)):
        found.append(one_kill(whole, output / f"kill{i}", instant, number, rng, workers=1 + i % 2))
        print(i, instant, found[-1] or "identical", flush=True)
    return [one for one in found if one]

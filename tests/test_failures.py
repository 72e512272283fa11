"""Full disks, read-only folders, clocks that go back, two processes at once, damaged checkpoints.

Each ends in one sentence that names a file or a folder, and the same command goes on once the cause is gone.
"""

import errno
import gc
import itertools
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import chaos
import numpy as np
import pytest
from commands import symnorm
from test_training import batches, config, line_fitter, values

from symnorm_jax.data import store
from symnorm_jax.errors import RunError, reported
from symnorm_jax.files import read_json, save_arrays, write_json
from symnorm_jax.rundir import claimed, metrics_writer, read_metrics
from symnorm_jax.training.train import train

DEMO = ("--config=configs/demo.py:tiny", "--config.data.workers=1", "--config.data.midline=centred")
DEMO += ("--config.data.options.healthy=8", "--config.data.options.patients=4")

unread = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax leaves futures unread


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """What Orbax leaves unread when a checkpoint is damaged complains here, and not in a test that comes later."""
    yield
    gc.collect()


def stopped_after(workdir: Path, step: int) -> None:
    """Train the first stage up to this step, and no further."""

    def failing(size, start):
        for t, batch in enumerate(batches(size, start), start):
            if t == step:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        train(line_fitter(), config(), failing, workdir)


def sentence_of(call, *arguments) -> str:
    """What the program says as it ends with status 1, in one line."""
    with pytest.raises(SystemExit) as end, reported():
        call(*arguments)
    assert isinstance(end.value.code, str) and "\n" not in end.value.code  # a text means status 1
    return end.value.code


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, float]:
    return values(train(line_fitter(), config(), batches, tmp_path_factory.mktemp("whole")))


def trained(workdir: Path) -> dict[str, float]:
    return values(train(line_fitter(), config(), batches, workdir))


def mount(folder: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting a small file system is not permitted here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small file system."""
    if not shutil.which("mount") or sys.platform != "linux":
        pytest.skip("needs mount and tmpfs of Linux")
    (tmp_path / "disk").mkdir()
    mount(tmp_path / "disk", "size=2m")
    yield tmp_path / "disk"
    subprocess.run(["umount", "--lazy", str(tmp_path / "disk")], check=True)


def fill(disk: Path, free: int = 0) -> None:
    """Leave no more than some free bytes."""
    with (disk / "ballast").open("wb", buffering=0) as file:
        file.write(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - free))


@unread
def test_a_disk_that_is_full_when_a_checkpoint_is_written(disk, whole):
    workdir = disk / "run"

    def filling(size, start):
        for t, batch in enumerate(batches(size, start), start + 1):
            if t == 7:
                while not (workdir / "first" / "ckpt" / "4" / "commit_success.txt").exists():
                    time.sleep(0.01)
                fill(disk)
            yield batch

    said = sentence_of(train, line_fitter(), config(), filling, workdir)
    assert said.startswith(f"error: {workdir}/first/ckpt: a checkpoint could not be written, those before it stay")
    (disk / "ballast").unlink()
    assert trained(workdir) == whole
    assert sorted(path.name for path in (workdir / "first" / "ckpt").iterdir()) == ["12", "8"]


def test_a_disk_that_is_full_when_a_file_is_written(disk):
    arrays, long = {"x": np.random.default_rng(0).random(10_000)}, list(range(10_000))
    write_json(disk / "a.json", {"before": 1})
    fill(disk, free=8192)
    slices = np.random.default_rng(0).random((9, 32, 32, 3)).astype(np.float16)
    writing = {"a.json": (write_json, disk / "a.json", long), "a.npz": (save_arrays, disk / "a.npz", arrays)}
    writing["key.array_record"] = (store.write, disk, "key", slices, {})
    for name, call in writing.items():
        expected = f"error: {disk / name}: No space left on device; what is finished stays, and the same command"
        assert sentence_of(*call).startswith(expected)
    assert read_json(disk / "a.json") == {"before": 1}
    assert sorted(path.name for path in disk.iterdir()) == ["a.json", "ballast"]


def test_a_disk_that_is_full_of_metrics(disk):
    write, path = metrics_writer(disk / "metrics.jsonl", 0), disk / "metrics.jsonl"
    fill(disk, free=4096)
    said = sentence_of(lambda: [write(step, {"loss": 1.0}) for step in range(1, 1000)])
    assert said.startswith(f"error: {path}: No space left on device; what is finished stays")
    (disk / "ballast").unlink()
    whole_lines = path.read_text().count("\n")
    metrics_writer(path, 1000)(1000, {"loss": 2.0})
    assert [line["step"] for line in read_metrics(path)] == [*range(1, whole_lines + 1), 1000] and whole_lines > 100


def test_a_disk_that_is_full_of_slices(disk, tmp_path):
    """In processes of their own the scans are prepared; what one of them says comes through."""
    fill(disk, free=300_000)
    given = [*DEMO, f"--config.data.store={disk / 'store'}", f"--workdir={tmp_path / 'run'}"]
    done = symnorm("check", *given, "--config.data.workers=2")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(f"^error: {disk}/store/[0-9a-f]+.(array_record|json): No space left on device;", done.stderr, re.M)
    assert list((disk / "store").glob("*.json")) and not (tmp_path / "run" / "manifest.csv").exists()
    (disk / "ballast").unlink()
    assert symnorm("check", *given).returncode == 0
    elsewhere = [*DEMO, f"--config.data.store={tmp_path / 'store'}", f"--workdir={tmp_path / 'other'}"]
    assert symnorm("check", *elsewhere).returncode == 0
    assert (tmp_path / "run" / "manifest.csv").read_bytes() == (tmp_path / "other" / "manifest.csv").read_bytes()
    stored = [{path.name for path in (folder / "store").iterdir()} for folder in (disk, tmp_path)]
    assert stored[0] == stored[1]


def test_a_run_directory_that_is_read_only(disk, whole):
    workdir = disk / "run"
    stopped_after(workdir, 5)
    mount(disk, "remount,ro")
    said = sentence_of(trained, workdir)
    assert re.match(f"error: {workdir}/first/.*: Read-only file system;", said)
    done = symnorm("train", *DEMO, f"--workdir={workdir}")
    goes_on = "what is finished stays, and the same command goes on from it.\n"
    assert done.returncode == 1 and done.stderr == f"error: {workdir}/.lock: Read-only file system; {goes_on}"
    mount(disk, "remount,rw")
    assert trained(workdir) == whole


def test_a_clock_and_dates_of_files_that_go_back(tmp_path, whole, monkeypatch):
    """By their dates the checkpoints stand in the reverse order; the last is taken all the same."""
    hours, starts = itertools.count(0, -3600), []
    monkeypatch.setattr(time, "time", lambda: 1.8e9 + next(hours))
    stopped_after(tmp_path, 9)
    for path in sorted(tmp_path.rglob("*"), key=lambda path: path.stat().st_ctime_ns):
        os.utime(path, (date := 1.8e9 + next(hours), date))

    def noted(size, start):
        starts.append(start)
        return batches(size, start)

    assert values(train(line_fitter(), config(), noted, tmp_path)) == whole
    assert starts == [0, 8, 0]  # the shapes, then each stage


HOLDER = """
import sys, time
from pathlib import Path
import joblib
from symnorm_jax.data.parallel import in_parallel
from symnorm_jax.rundir import claimed
with claimed(Path(sys.argv[1])):
    list(in_parallel([joblib.delayed(time.sleep)(600) for _ in range(2)], 2))
"""


@contextmanager
def holding(workdir: Path) -> Iterator[subprocess.Popen]:
    """A process that holds a run directory while two workers of it sleep; afterwards all of them are gone."""
    environment = os.environ | {"PYTHONPATH": str(chaos.ROOT), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", HOLDER, str(workdir)]
    first = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: len(workers_of(first.pid)) == 2, 600), chaos.group(first.pid)
        yield first
    finally:
        with suppress(ProcessLookupError):
            os.killpg(first.pid, signal.SIGKILL)
        first.wait()


def until(true: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is true, but no longer than this; whether it is."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return true()


def workers_of(leader: int) -> list[int]:
    listed = subprocess.run(["ps", "-wweo", "pid=,pgid=,args="], capture_output=True, text=True, check=True).stdout
    lines = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [int(pid) for pid, leads, what in lines if int(leads) == leader and "LokyProcess" in what]


def test_a_second_process_is_refused_and_the_lock_of_a_killed_one_is_free_though_its_workers_live(tmp_path):
    with holding(tmp_path / "run") as first:
        done = symnorm("train", *DEMO, f"--workdir={tmp_path / 'run'}")
        expected = f"error: {tmp_path}/run is in use by another process; wait for its end, or choose another --workdir."
        assert done.returncode == 1 and done.stderr.strip() == expected
        assert list((tmp_path / "run").iterdir()) == [tmp_path / "run" / ".lock"]
        workers = workers_of(first.pid)
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        first.kill()
        first.wait()
        with claimed(tmp_path / "run"):
            assert workers_of(first.pid) == workers
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
        assert until(lambda: not chaos.group(first.pid), 600), "a worker outlives the command"


def test_a_file_system_without_locks_ends_in_a_sentence(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    expected = f"^error: {tmp_path}/run/.lock: No locks available; "
    with pytest.raises(SystemExit, match=expected), reported(), claimed(tmp_path / "run"):
        raise AssertionError("claimed without a lock")


def data_of(step: Path) -> list[Path]:
    """The files with the values of the model; which of them a checkpoint still refers to is for Orbax to know."""
    return [path for path in (step / "variables").rglob("d/*") if path.stat().st_size]


def truncate(step: Path) -> None:
    for path in data_of(step):
        os.truncate(path, path.stat().st_size // 2)


def lose(step: Path) -> None:
    for path in data_of(step):
        path.unlink()


def flip(step: Path) -> None:
    for path in data_of(step):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def unmark(step: Path) -> None:
    for name in ("commit_success.txt", "_CHECKPOINT_METADATA"):
        (step / name).unlink()


@unread
@pytest.mark.parametrize("damage", [truncate, lose, flip, unmark])
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(tmp_path, whole, damage, caplog):
    stopped_after(tmp_path, 9)
    damage(tmp_path / "first" / "ckpt" / "8")
    assert trained(tmp_path) == whole
    ours = [record for record in caplog.records if "symnorm_jax" in record.pathname]
    told = [record.getMessage() for record in ours if record.levelno >= logging.WARNING]
    expected = "was not written to its end and is removed" if damage is unmark else "is damaged and removed, step 4 is"
    assert len(told) == 1 and expected in told[0]


@unread
def test_where_all_checkpoints_are_damaged_nothing_is_removed(tmp_path):
    stopped_after(tmp_path, 9)
    for step in ("4", "8"):
        truncate(tmp_path / "first" / "ckpt" / step)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "first").rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=f"^{tmp_path}/first/ckpt: no checkpoint can be read, remove it to begin anew: "):
        trained(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "first").rglob("*") if path.is_file()} == before
    shutil.rmtree(tmp_path / "first" / "ckpt")

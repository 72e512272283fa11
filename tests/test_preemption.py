"""SIGTERM and Ctrl-C: training ends at the next step with a checkpoint, and goes on; `test_chaos.py` has the CLI."""

import os
import signal
import subprocess
import sys
import threading
import time

import chaos
import pytest
from test_training import batches, config, line_fitter, values

from symnorm_jax.errors import INTERRUPTED, Preempted, reported
from symnorm_jax.training.checkpoint import Checkpoints
from symnorm_jax.training.train import train, warned


@pytest.fixture(autouse=True)
def heard():
    """What a shell that starts its jobs in the background has tests ignore, too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def warning_at(workdir, stage: str, step: int, number: int = signal.SIGTERM):
    """Batches of which the one for this step comes with a signal; the second stage has begun once it has a folder."""

    def warned(size, start):
        for t, batch in enumerate(batches(size, start), start + 1):
            if t == step and stage == ("second" if (workdir / "second").exists() else "first"):
                os.kill(os.getpid(), number)
            yield batch

    return warned


def steps(folder) -> list[int]:
    with Checkpoints(folder) as checkpoints:
        return [checkpoints.latest(), *sorted(int(path.name) for path in folder.iterdir())]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("stage, step, kept", [("first", 6, [6, 4, 6]), ("second", 11, [11, 8, 11])])
def test_training_stops_at_that_step_with_a_checkpoint_and_goes_on_to_the_same_bits(
    tmp_path, stage, step, kept, number
):
    before = signal.getsignal(number)
    whole, workdir = train(line_fitter(), config(), batches, tmp_path / "whole"), tmp_path / "stopped"
    said = f"stopped at step {step} of 12 of {stage}, which is saved; the same command"
    with pytest.raises(Preempted, match=said) as end:
        train(line_fitter(), config(), warning_at(workdir, stage, step, number), workdir)
    assert end.value.status == 128 + number and signal.getsignal(number) == before
    assert steps(workdir / stage / "ckpt") == kept
    assert values(train(line_fitter(), config(), batches, workdir)) == values(whole)


class Ended(BaseException):
    """The end of the program, as far as a test can have it."""


def test_a_warning_at_the_last_step_of_a_stage_is_not_forgotten(tmp_path):
    def end(*_):
        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    try:
        with pytest.raises(Ended):
            train(line_fitter(), config(), warning_at(tmp_path, "first", 12), tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert steps(tmp_path / "first" / "ckpt")[0] == 12 and not (tmp_path / "second").exists()


def test_where_no_handler_can_be_set_nothing_stops():
    told = []

    def ask():
        with warned() as should_stop:
            told.append(should_stop(1))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert told == [0]


def test_a_second_ctrl_c_is_not_held_back():
    with pytest.raises(KeyboardInterrupt), warned() as should_stop:
        assert not should_stop(1)
        signal.raise_signal(signal.SIGINT)
        assert should_stop(1) == signal.SIGINT and signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_elsewhere_is_a_sentence_too(capsys):
    with pytest.raises(SystemExit) as end, reported():
        raise KeyboardInterrupt
    assert end.value.code == INTERRUPTED == 130
    assert (
        capsys.readouterr().err == "stopped by Ctrl-C; what is finished stays, and the same command goes on from it.\n"
    )


PREPARING = """
import sys, time
import joblib
from symnorm_jax.cli import terminal
from symnorm_jax.data.parallel import in_parallel
from symnorm_jax.errors import reported
terminal.prepare()
with reported():
    for one in in_parallel([joblib.delayed(time.sleep)(60 * (i > 1)) for i in range(4)], 2):
        print("one", flush=True)
"""


def test_ctrl_c_of_a_terminal_ends_workers_without_a_word_of_theirs():
    environment = os.environ | {"PYTHONPATH": str(chaos.ROOT), "JAX_PLATFORMS": "cpu"}
    command, pipe = [sys.executable, "-c", PREPARING], subprocess.PIPE
    with subprocess.Popen(command, env=environment, start_new_session=True, stdout=pipe, stderr=pipe) as process:
        assert process.stdout.readline() == b"one\n"
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=50)[1].decode()  # the sleeping workers are not waited for
    assert process.returncode == INTERRUPTED
    assert said == "stopped by Ctrl-C; what is finished stays, and the same command goes on from it.\n"
    for _ in range(50):  # workers that have ended are there until somebody has noticed
        if not chaos.group(process.pid):
            return
        time.sleep(0.1)
    pytest.fail(f"these go on: {chaos.group(process.pid)}")

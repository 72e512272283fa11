"""SIGTERM: training ends at the next step with a checkpoint, and goes on from it; `test_chaos.py` has the command."""

import os
import signal
import threading

import pytest
from test_training import batches, config, line_fitter, values

from symnorm_jax.errors import Preempted
from symnorm_jax.training.checkpoint import Checkpoints
from symnorm_jax.training.train import train, warned


def warning_at(workdir, stage: str, step: int):
    """Batches of which the one for this step comes with a SIGTERM; the second stage has begun once it has a folder."""

    def warned(size, start):
        for t, batch in enumerate(batches(size, start), start + 1):
            if t == step and stage == ("second" if (workdir / "second").exists() else "first"):
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    return warned


def steps(folder) -> list[int]:
    with Checkpoints(folder) as checkpoints:
        return [checkpoints.latest(), *sorted(int(path.name) for path in folder.iterdir())]


@pytest.mark.parametrize("stage, step, kept", [("first", 6, [6, 4, 6]), ("second", 11, [11, 8, 11])])
def test_training_stops_at_that_step_with_a_checkpoint_and_goes_on_to_the_same_bits(tmp_path, stage, step, kept):
    before = signal.getsignal(signal.SIGTERM)
    whole, workdir = train(line_fitter(), config(), batches, tmp_path / "whole"), tmp_path / "stopped"
    with pytest.raises(Preempted, match=f"stopped at step {step} of 12 of {stage}, which is saved; the same command"):
        train(line_fitter(), config(), warning_at(workdir, stage, step), workdir)
    assert steps(workdir / stage / "ckpt") == kept and signal.getsignal(signal.SIGTERM) == before
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
    assert told == [False]

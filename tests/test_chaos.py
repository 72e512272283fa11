"""Killed without a chance to clean up, wherever it stood, the same command ends in the same bits."""

import json
import shutil
import signal
import time
from pathlib import Path

import chaos
import jax
import numpy as np
import pod_worker
import pytest

from symnorm_jax.errors import PREEMPTED
from symnorm_jax.files import load_arrays
from symnorm_jax.systems import BUILD
from symnorm_jax.training.checkpoint import Checkpoints
from symnorm_jax.training.train import train


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    spent = chaos.timed(folder)
    assert spent.keys() == chaos.PLACES.keys() and all(spent[name] > 0 for name in ("preparing", "evaluating"))
    return folder


@pytest.mark.parametrize("places", [("vae 10",), pytest.param(("vae 10", "evaluating"), marks=pytest.mark.long)])
def test_killed_in_places_in_turn_the_same_command_ends_in_the_same_bits(whole, tmp_path, rng, places):
    shutil.copytree(whole / "xla", tmp_path / "xla")
    for place, seconds in zip(places, (0.0, 0.1), strict=False):
        assert chaos.strike(tmp_path, chaos.Instant(place, seconds)) == -signal.SIGKILL
        assert not (tmp_path / "run" / "report.html").exists()
    chaos.cut_cache(tmp_path, rng)
    assert chaos.finish(tmp_path) == ""
    assert chaos.differences(whole, tmp_path) == []


@pytest.mark.long  # what it does to training, test_preemption.py asks within one process
def test_sigterm_ends_the_command_at_once_or_with_a_checkpoint_and_status_143(whole, tmp_path):
    """Once in preparing and once in training, which has no end that could come before the signal."""
    shutil.copytree(whole / "xla", tmp_path / "xla")
    run = tmp_path / "run"
    assert chaos.strike(tmp_path, chaos.Instant("preparing", 0.2), signal.SIGTERM) == -signal.SIGTERM
    assert not (run / "manifest.csv").exists()
    shutil.rmtree(run)
    endless = chaos.start(tmp_path, **{"train.unet.steps": 1_000_000, "train.checkpoint_every": 1_000_000})
    while endless.poll() is None and not (run / "unet" / "metrics.jsonl").exists():
        time.sleep(0.02)
    endless.send_signal(signal.SIGTERM)
    assert endless.wait(chaos.PATIENCE) == PREEMPTED == 143
    stage, step = chaos.stopped(tmp_path)
    assert stage == "unet" and chaos.kept(tmp_path, "unet") == [step]
    said = f"stopped at step {step} of 1000000 of unet, which is saved; the same command goes on."
    assert said in (tmp_path / "log").read_text().splitlines()  # libraries may add to it at the exit


@pytest.mark.long
@pytest.mark.usefixtures("quick_compilation")
def test_saca_cut_off_in_each_stage_ends_in_the_same_bits(tmp_path):
    """Within one process: pre-training, marking, and then the prediction of age."""
    steps = {"pretrain": 10, "segment": 15, "finetune": 20}  # so that each has a batch that none before it asks for
    changes = {f"train.{stage}.steps": count for stage, count in steps.items()}
    config = pod_worker.tiny("saca", **changes, **{"segment.crop": 6})  # windows are drawn, by the step
    system = BUILD["saca"](config)
    assert [*system.stages] == [*steps]

    def trained(name: str, stop: int | None = None):
        return train(system, config, pod_worker.batches(config, stop), tmp_path / name)

    for stage, stop, last in (("pretrain", 7, 5), ("segment", 13, 10), ("finetune", 17, 15)):
        with pytest.raises(KeyboardInterrupt):
            trained("cut", stop)
        with Checkpoints(tmp_path / "cut" / stage / "ckpt") as checkpoints:
            assert checkpoints.latest() == last
    jax.tree.map(np.testing.assert_array_equal, trained("cut"), trained("whole"))


@pytest.fixture
def other(whole, tmp_path) -> Path:
    """A copy of the undisturbed run, to be changed."""
    for part in ("run", "store"):
        shutil.copytree(whole / part, tmp_path / part)
    return tmp_path


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_the_comparison_sees_other_contents(whole, other):
    run = other / "run"
    arrays = load_arrays(run / "embeddings" / "val.npz")
    arrays["z"][0, 0] = np.nextafter(arrays["z"][0, 0], 1)
    np.savez(run / "embeddings" / "val.npz", **arrays)
    flip(run / "scores.csv")
    slices = min((other / "store").glob("*.array_record"))
    flip(slices)
    lines = (run / "unet" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "unet" / "metrics.jsonl").write_text("".join(lines[1:]))
    (run / "cost.json").write_text(json.dumps(json.loads((run / "cost.json").read_text()) | {"more": 1}))
    expected = ["scores.csv", slices.name, "embeddings/val.npz", "the steps of unet/metrics.jsonl"]
    expected += ["the keys of unet/metrics.jsonl", "the keys of cost.json"]
    assert chaos.differences(whole, other) == expected


def test_the_comparison_sees_other_checkpoints(whole, other):
    """In one stage the checkpoint before the last under the name of the last, in the other one too many."""
    folder = other / "run" / "unet" / "ckpt"
    shutil.rmtree(folder / "30")
    shutil.copytree(folder / "20", folder / "30")
    (other / "run" / "vae" / "ckpt" / "10").mkdir()
    expected = ["the last checkpoint of unet", "vae keeps the checkpoints [10, 20, 30]"]
    assert chaos.differences(whole, other) == expected


def test_the_comparison_sees_files_that_are_gone_or_too_many(whole, other):
    (other / "run" / "calibration.json").unlink()
    (other / "run" / ".partial.0.metrics.json").touch()
    (other / "store" / ".partial.0.json").touch()
    names = ["run/.partial.0.metrics.json", "run/calibration.json", "store/.partial.0.json"]
    assert chaos.differences(whole, other) == [*(f"only in one: {name}" for name in names), "3 such files"]


def test_instants_fall_everywhere():
    spent = {"starting": 5.0, "preparing": 3.0, "unet 0": 0.5, "ending": 2.0}
    instants = list(chaos.drawn(np.random.default_rng(0), spent, 400))
    assert all(0 <= instant.seconds <= spent[instant.place] for instant in instants)
    counts = {name: sum(instant.place == name for instant in instants) for name in spent}
    expected = {name: 200 / 4 + 200 * seconds / 10.5 for name, seconds in spent.items()}
    assert all(abs(counts[name] - expected[name]) < 4 * expected[name] ** 0.5 for name in spent)
    assert list(chaos.drawn(np.random.default_rng(0), spent, 400)) == instants


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["KILL", "TERM"])
def test_fifty_times(tmp_path, number):
    assert chaos.chaos(tmp_path, 50, 0, number) == []

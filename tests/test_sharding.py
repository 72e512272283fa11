"""One program on any number of devices and processes: the same losses, the same weights, the same moments.

Processes of their own run `pod_worker.py`, because the number of devices is settled when JAX starts.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError
from symnorm_jax.rundir import read_metrics
from symnorm_jax.scoring.moments import update, zeros
from symnorm_jax.systems import BUILD
from symnorm_jax.training.optim import make_optimizer
from symnorm_jax.training.sharding import check_batch_size, check_sharding, created, layout, make_mesh, replicated

ROOT = Path(__file__).parents[1]
SMALLEST = 64
QUICK = {"sharding.fsdp": 2, "sharding.smallest": 64, "data.midline": "centred", "data.workers": 1}
QUICK |= {"data.options.healthy": 14, "data.options.patients": 8}


def start(devices: int, *command: str, **streams) -> subprocess.Popen:
    """A process with so many CPU devices."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, text=True, **streams)


def finish(*processes: subprocess.Popen) -> None:
    """Wait for processes that run together; none outlives the test."""
    try:
        for process in processes:
            assert process.wait(timeout=560) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()


def worker(task: str, output: Path, devices: int, **settings) -> subprocess.Popen:
    return start(devices, "tests/pod_worker.py", task, str(output), json.dumps(settings))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def losses_of(systems: tuple[str, ...], meshes: tuple[str, ...], folder: Path) -> dict[str, dict[str, list[float]]]:
    """`{mesh: {system/stage: losses}}`."""
    meshes = dict.fromkeys(meshes, systems)
    finish(worker("losses", folder / "losses.json", 8, meshes=meshes, config={}))
    return json.loads((folder / "losses.json").read_text())


@pytest.mark.parametrize(
    "systems, meshes",
    [
        (("symnorm",), ("8", "4x2")),
        (("simclr",), ("8",)),
        pytest.param(tuple(name for name in BUILD if name != "symnorm"), ("8", "4x2"), marks=pytest.mark.long),
    ],
    ids=["symnorm", "simclr", "others"],
)
def test_losses_do_not_depend_on_the_mesh(systems, meshes, tmp_path):
    """Over 20 steps; on 4x2 every array of the model that divides lies on two devices.

    Other batches or keys change a loss by more than a thousandth; what rounding adds up to, by much less.

    In simclr every example is compared with those on other devices, and normalised with them.
    """
    found = losses_of(systems, ("1", *meshes), tmp_path)
    assert {name.partition("/")[0] for name in found["1"]} == set(systems)
    for mesh, name in ((mesh, name) for mesh in meshes for name in found["1"]):
        assert len(found["1"][name]) == 20
        np.testing.assert_allclose(found[mesh][name], found["1"][name], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def moved(tmp_path_factory) -> dict:
    """A run on two processes, cut off, gone on with on two devices, cut off, and ended on four; and one on eight."""
    folder = tmp_path_factory.mktemp("moved")
    settings = {"config": {"sharding.fsdp": 2, "train.log_every": 1}, "folder": str(folder / "cut")}
    address = f"127.0.0.1:{free_port()}"
    pods = [worker("trained", folder / "pod", 4, **settings, stop=8, pod=[address, 2, i]) for i in range(2)]
    finish(*pods)
    finish(worker("trained", folder / "two", 2, **settings, stop=13))
    finish(worker("trained", folder / "four", 4, **settings, stop=None))
    finish(worker("trained", folder / "whole", 8, **settings | {"folder": str(folder / "uncut")}, stop=None))
    found = {name: json.loads((folder / name).read_text()) for name in ("pod", "two", "four", "whole")}
    return found | {"cut": folder / "cut", "uncut": folder / "uncut"}


def test_a_run_may_change_hosts_devices_and_layout(moved):
    assert [moved[name]["devices"] for name in ("pod", "two", "four", "whole")] == [8, 2, 4, 8]
    assert moved["pod"]["weights"] is None and moved["two"]["weights"] is None  # they were cut off
    for stage in ("unet", "vae"):
        cut, uncut = (read_metrics(moved[run] / stage / "metrics.jsonl") for run in ("cut", "uncut"))
        assert [line["step"] for line in cut] == [line["step"] for line in uncut] == list(range(1, 21))
        np.testing.assert_allclose([line["loss"] for line in cut], [line["loss"] for line in uncut], rtol=1e-3)
    np.testing.assert_allclose(moved["four"]["weights"], moved["whole"]["weights"], rtol=1e-3)


@pytest.mark.parametrize("devices", ["pod", "two", "whole"])
def test_moments_of_many_devices_are_those_of_one(moved, devices):
    z = np.random.default_rng(0).normal(3, 1, (700, 24))  # as in the worker
    one = zeros(24)
    for rows in np.split(z, range(64, len(z), 64)):
        one = update(one, jnp.asarray(rows, jnp.float32), jnp.ones(len(rows), bool))
    n, mean, m2, lost, *_ = (np.asarray(x, float) for x in moved[devices]["moments"])
    assert n == 700
    for found, expected in ((mean, one.mean), (m2 + lost, np.asarray(one.m2, float) + np.asarray(one.lost, float))):
        assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)


def params() -> dict[str, np.ndarray]:
    """Arrays that are to be shared, by either axis, and others: a small one, and one of odd sides."""
    shapes = {"long": (3, 3, 8, 64), "first": (96, 7), "odd": (9, 11), "small": (62,), "edge": (SMALLEST,), "one": ()}
    return {name: np.ones(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("fsdp", [1, 2])
def test_large_arrays_are_shared_and_others_are_whole_on_each_device(fsdp):
    mesh = make_mesh(fsdp)
    for name, x in created(lambda: jax.tree.map(jnp.asarray, params()), (), mesh, SMALLEST).items():
        shared = fsdp if x.size >= SMALLEST and any(side % fsdp == 0 for side in x.shape) else 1
        assert {shard.data.nbytes for shard in x.addressable_shards} == {x.nbytes // shared}, name


def test_the_longest_axis_that_divides_is_cut():
    mesh = make_mesh(2)
    found = {
        name: sharding.shard_shape(params()[name].shape) for name, sharding in layout(params(), mesh, SMALLEST).items()
    }
    assert found == {
        "long": (3, 3, 8, 32),
        "first": (48, 7),
        "odd": (9, 11),
        "small": (62,),
        "edge": (SMALLEST // 2,),
        "one": (),
    }


def test_moments_of_the_optimizer_lie_like_their_parameters():
    mesh = make_mesh(2)
    optimizer = make_optimizer(steps=10, learning_rate=0.1, warmup_steps=1, weight_decay=0.1, clip_norm=1.0)
    trained = created(lambda: jax.tree.map(jnp.asarray, params()), (), mesh, SMALLEST)
    opt = created(optimizer.init, (trained,), mesh, SMALLEST)
    for moment in ("mu", "nu"):
        for name, x in optax.tree.get(opt, moment).items():
            assert x.sharding.is_equivalent_to(trained[name].sharding, x.ndim), (moment, name)
    assert not trained["long"].sharding.is_equivalent_to(replicated(mesh), 4)


def test_each_part_of_a_batch_must_divide():
    check_batch_size("train.unet.batch_size", 8, parts=4)
    sentence = "train.unet.batch_size=6; a positive multiple of the 2 devices times train.accumulate=2 is allowed."
    with pytest.raises(ConfigError, match=sentence):
        check_batch_size("train.unet.batch_size", 6, parts=2)
    with pytest.raises(ConfigError, match="score.batch_size=0; a positive multiple of the 2 devices is allowed."):
        check_batch_size("score.batch_size", 0)


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ((3, 1), "sharding.fsdp=3; a divisor of the 2 devices is allowed."),
        ((0, 1), "sharding.fsdp=0; a divisor of the 2 devices is allowed."),
        ((2, 0), "sharding.smallest=0; a positive number is allowed."),
    ],
)
def test_devices_that_cannot_share_a_model_are_refused(settings, sentence):
    check_sharding(ConfigDict({"fsdp": 2, "smallest": 1}))
    with pytest.raises(ConfigError, match=sentence):
        check_sharding(ConfigDict(dict(zip(("fsdp", "smallest"), settings, strict=True))))


def launched(folder: Path, devices: int, *pod: str, **streams) -> subprocess.Popen:
    """`launch/train.py`, as a shell would start it."""
    given = [f"--config.{key}={value}" for key, value in (QUICK | {"data.store": folder.parent / "store"}).items()]
    given += ["--config=configs/demo.py:tiny", f"--workdir={folder}", *pod]
    return start(devices, "launch/train.py", *given, **streams)


@pytest.mark.long
def test_two_processes_end_in_the_report_of_one(tmp_path):
    finish(launched(tmp_path / "one", 8, stdout=subprocess.DEVNULL))
    pod = ("--pod", f"--coordinator=127.0.0.1:{free_port()}", "--processes=2")
    with (tmp_path / "0").open("w") as first, (tmp_path / "1").open("w") as second:
        both = [
            launched(tmp_path / "two", 4, *pod, f"--process={i}", stdout=out) for i, out in enumerate((first, second))
        ]
        finish(*both)
    one, two = (read_metrics(tmp_path / run / "unet" / "metrics.jsonl") for run in ("one", "two"))
    np.testing.assert_allclose([line["loss"] for line in two], [line["loss"] for line in one], rtol=1e-5)
    one, two = (pd.read_csv(tmp_path / run / "scores.csv", index_col=0) for run in ("one", "two"))
    pd.testing.assert_frame_equal(two, one, rtol=1e-3)
    assert (tmp_path / "two" / "report.html").exists()
    assert "training unet" in (tmp_path / "0").read_text() and not (tmp_path / "1").read_text()

"""One program on any number of devices and processes: the same losses, the same weights, the same moments.

Processes of their own run `pod_worker.py`, because the number of devices is settled when JAX starts.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pod_worker
import pytest
from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError
from symnorm_jax.rundir import read_metrics
from symnorm_jax.scoring.moments import update, zeros
from symnorm_jax.systems import BUILD
from symnorm_jax.training.sharding import check_batch_size, check_sharding, created, layout, make_mesh, replicated
from symnorm_jax.training.step import make_optimizer

ROOT = Path(__file__).parents[1]
SMALLEST = 64
COURSE = 1e-3  # relative difference of losses and weights that rounding may make in 20 steps
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


@contextmanager
def pod_address() -> Iterator[str]:
    """A port of this machine that only those who mean to share it can take, as the coordinator of a pod does."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))  # without listening: whoever listens has all the calls
        yield f"127.0.0.1:{held.getsockname()[1]}"


def assert_same_course(found: list[float], expected: list[float], name: str = "") -> None:
    """Losses agree, the first to the rounding of a sum; each later step multiplies what rounding has left."""
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-7, err_msg=name)
    np.testing.assert_allclose(found, expected, rtol=COURSE, atol=1e-6, err_msg=name)


def losses_of(systems: tuple[str, ...], meshes: tuple[str, ...], folder: Path) -> dict[str, dict[str, list[float]]]:
    """`{mesh: {system/stage: losses}}`."""
    meshes = dict.fromkeys(meshes, systems)
    finish(worker("losses", folder / "losses.json", 8, meshes=meshes, config={}))
    return json.loads((folder / "losses.json").read_text())


@pytest.mark.parametrize(
    "systems, meshes",
    [
        (("symnorm",), ("4x2",)),
        pytest.param(tuple(BUILD), ("8", "4x2"), marks=pytest.mark.long),
    ],
    ids=["symnorm", "all"],
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
        assert_same_course(found[mesh][name], found["1"][name], name)


# Each part of a run has hosts, devices of each, and the batch at which it is cut off; then the devices of a whole one.
CHAINS = {"short": ([(2, 2, 8), (1, 2, None)], 2), "long": ([(2, 4, 8), (1, 2, 13), (1, 4, None)], 8)}


def part_of_run(said: Path, hosts: int, devices: int, **settings) -> dict:
    """What a part of a run says: of one host with as many devices as here from this process, else from new ones."""
    if (hosts, devices) == (1, jax.device_count()):
        return pod_worker.trained(settings)
    with pod_address() as address:
        pods = [[address, hosts, i] if hosts > 1 else None for i in range(hosts)]
        finish(*(worker("trained", said, devices, **settings, pod=pod) for pod in pods))
    return json.loads(said.read_text())


@pytest.fixture(scope="module", params=["short", pytest.param("long", marks=pytest.mark.long)])
def moved(request, tmp_path_factory) -> dict:
    """A run that is cut off and goes on with other hosts and devices, and a whole one; both share models over two."""
    folder, (chain, devices) = tmp_path_factory.mktemp("moved"), CHAINS[request.param]
    settings = {"config": {"sharding.fsdp": 2, "train.log_every": 1}}
    whole = part_of_run(folder / "said", 1, devices, **settings, folder=str(folder / "uncut"), stop=None)
    settings["folder"] = str(folder / "cut")
    parts = [part_of_run(folder / "said", hosts, each, **settings, stop=stop) for hosts, each, stop in chain]
    return {"chain": chain, "parts": parts, "whole": whole, "cut": folder / "cut", "uncut": folder / "uncut"}


@pytest.mark.two_devices
def test_a_run_may_change_hosts_devices_and_layout(moved):
    parts = moved["parts"]
    assert [part["devices"] for part in parts] == [hosts * each for hosts, each, _ in moved["chain"]]
    assert all(part["weights"] is None for part in parts[:-1])  # they were cut off
    for stage in ("unet", "vae"):
        cut, uncut = (read_metrics(moved[run] / stage / "metrics.jsonl") for run in ("cut", "uncut"))
        assert [line["step"] for line in cut] == [line["step"] for line in uncut] == list(range(1, 21))
        assert_same_course([line["loss"] for line in cut], [line["loss"] for line in uncut])
    np.testing.assert_allclose(parts[-1]["weights"], moved["whole"]["weights"], rtol=COURSE)


@pytest.mark.two_devices
def test_moments_of_many_devices_are_those_of_one(moved):
    z = np.random.default_rng(0).normal(3, 1, (700, 24))  # as in the worker
    one = zeros(24)
    for rows in np.split(z, range(64, len(z), 64)):
        one = update(one, jnp.asarray(rows, jnp.float32), jnp.ones(len(rows), bool))
    for part in (*moved["parts"], moved["whole"]):
        n, mean, m2, lost, *_ = (np.asarray(x, float) for x in part["moments"])
        assert n == 700
        for found, expected in ((mean, one.mean), (m2 + lost, np.asarray(one.m2, float) + np.asarray(one.lost, float))):
            assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)


def params() -> dict[str, np.ndarray]:
    """Arrays that are to be shared, by either axis, and others: a small one, and one of odd sides."""
    shapes = {"long": (3, 3, 8, 64), "first": (96, 7), "odd": (9, 11), "small": (62,), "edge": (SMALLEST,), "one": ()}
    return {name: np.ones(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("fsdp", [1, pytest.param(2, marks=pytest.mark.two_devices)])
def test_large_arrays_are_shared_and_others_are_whole_on_each_device(fsdp):
    mesh = make_mesh(fsdp)
    for name, x in created(lambda: jax.tree.map(jnp.asarray, params()), (), mesh, SMALLEST).items():
        shared = fsdp if x.size >= SMALLEST and any(side % fsdp == 0 for side in x.shape) else 1
        assert {shard.data.nbytes for shard in x.addressable_shards} == {x.nbytes // shared}, name


@pytest.mark.two_devices
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


@pytest.mark.two_devices
def test_moments_of_the_optimizer_lie_like_their_parameters():
    mesh = make_mesh(2)
    optimizer = make_optimizer(steps=10, learning_rate=0.1, warmup_steps=1, weight_decay=0.1, clip_norm=1.0)
    trained = created(lambda: jax.tree.map(jnp.asarray, params()), (), mesh, SMALLEST)
    opt = created(optimizer.init, (trained,), mesh, SMALLEST)
    for moment in ("mu", "nu"):
        for name, x in optax.tree.get(opt, moment).items():
            assert x.sharding.is_equivalent_to(trained[name].sharding, x.ndim), (moment, name)
    assert not trained["long"].sharding.is_equivalent_to(replicated(mesh), 4)


@pytest.mark.two_devices
def test_each_part_of_a_batch_must_divide():
    check_batch_size("train.unet.batch_size", 8, parts=4)
    sentence = "train.unet.batch_size=6; a positive multiple of the 2 devices times train.accumulate=2 is allowed."
    with pytest.raises(ConfigError, match=sentence):
        check_batch_size("train.unet.batch_size", 6, parts=2)
    with pytest.raises(ConfigError, match="score.batch_size=0; a positive multiple of the 2 devices is allowed."):
        check_batch_size("score.batch_size", 0)


@pytest.mark.two_devices
@pytest.mark.parametrize(
    "settings, sentence",
    [
        ((3, 1), "sharding.fsdp=3; a divisor of the 2 devices is allowed."),
        ((0, 1), "sharding.fsdp=0; a divisor of the 2 devices is allowed."),
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
    outputs = [tmp_path / "0", tmp_path / "1"]
    with pod_address() as address, outputs[0].open("w") as first, outputs[1].open("w") as second:
        pod = ("--pod", f"--coordinator={address}", "--processes=2")
        both = [
            launched(tmp_path / "two", 4, *pod, f"--process={i}", stdout=out) for i, out in enumerate((first, second))
        ]
        finish(*both)
    one, two = (read_metrics(tmp_path / run / "unet" / "metrics.jsonl") for run in ("one", "two"))
    assert_same_course([line["loss"] for line in two], [line["loss"] for line in one])
    one, two = (pd.read_csv(tmp_path / run / "scores.csv", index_col=0) for run in ("one", "two"))
    pd.testing.assert_frame_equal(two, one, rtol=1e-3)
    assert (tmp_path / "two" / "report.html").exists()
    assert "training unet" in (tmp_path / "0").read_text() and not (tmp_path / "1").read_text()


DEVICES = """
import jax, joblib
from configs import demo
from symnorm_jax.training.sharding import share_cores
joblib.cpu_count = lambda: 6
config = demo.get_config("tiny")
config.train.accumulate = {accumulate}
share_cores(config, {begun})
print(jax.device_count())
"""


@pytest.mark.parametrize(
    ("accumulate", "begun", "environment", "count"),
    [(1, None, {}, 4), (8, None, {}, 2), (1, 3, {}, 3), (1, None, {"JAX_NUM_CPU_DEVICES": "1"}, 1)],
)
def test_a_cpu_has_a_device_a_core_as_far_as_batches_divide(accumulate, begun, environment, count):
    script = DEVICES.format(accumulate=accumulate, begun=begun)
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"} | environment
    done = subprocess.run([sys.executable, "-c", script], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout == f"{count}\n"

"""Checkpoints: what is read is what was written, bit for bit, or it is known to be damaged."""

import gc
import logging
import os
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from symnorm_jax.errors import RunError
from symnorm_jax.training.checkpoint import KEEP, Checkpoints, fingerprint, restore_last
from symnorm_jax.training.sharding import make_mesh

HEX = re.compile(r"[0-9a-f]{32}")  # in names that Orbax draws

SHAPES = [(), (1,), (7,), (3, 5), (2, 3, 4), (3, 3, 8, 16), (2, 2, 1, 3, 2)]


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """What Orbax leaves unread when a checkpoint is damaged complains here, and not in a test that comes later."""
    yield
    gc.collect()


def of_bytes(rng, shape, dtype) -> np.ndarray:
    """Any bits, so NaN, infinities and subnormal numbers too."""
    dtype = np.dtype(dtype)
    return np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)


def one_bit_other(rng, x: np.ndarray) -> np.ndarray:
    data = bytearray(x.tobytes())
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return np.frombuffer(bytes(data), x.dtype).reshape(x.shape)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.int8])
@pytest.mark.parametrize("shape", SHAPES)
def test_any_one_bit_changes_the_fingerprint(rng, shape, dtype):
    for _ in range(8):
        x = of_bytes(rng, shape, dtype)
        before = np.asarray(fingerprint({"x": x}))
        assert all((np.asarray(fingerprint({"x": one_bit_other(rng, x)})) != before).all() for _ in range(8))


@pytest.mark.parametrize("bit", range(32))
def test_no_bit_of_a_word_is_lost_by_the_sum(bit):
    x = np.zeros((3, 4), np.uint32)
    other = x.copy()
    other[2, 3] = 1 << bit
    assert fingerprint([x]) != fingerprint([other])


def test_values_that_change_places_change_the_fingerprint(rng):
    kernel = of_bytes(rng, (4, 4, 4, 4), np.float32)
    for first, second in ((0, 1), (1, 2), (2, 3), (0, 3)):
        assert fingerprint([kernel]) != fingerprint([np.ascontiguousarray(kernel.swapaxes(first, second))])


@pytest.mark.two_devices
def test_the_fingerprint_does_not_depend_on_how_arrays_lie(rng):
    x = rng.normal(size=(4, 6, 2)).astype(np.float32)
    mesh = make_mesh(fsdp=2)
    for spec in ((), ("fsdp",), (None, "fsdp"), (None, None, "fsdp")):
        laid = jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec)))
        assert fingerprint([laid]) == fingerprint([x])


def variables(rng) -> dict:
    values = {"kernel": of_bytes(rng, (3, 3, 2, 4), np.float32), "half": of_bytes(rng, (5,), jnp.bfloat16)}
    odd = np.array([-0.0, np.nan, np.inf, 1e-42], np.float32)
    return jax.tree.map(jnp.asarray, {"params": {"net": values}, "stats": {"odd": odd}})


def moments(rng) -> list:
    return [{"mu": jnp.asarray(rng.normal(size=8), jnp.float32)}, jnp.int32(7)]


def saved(folder: Path, rng, steps: int) -> dict[int, tuple]:
    """Checkpoints of the steps 1 to `steps`: what each holds."""
    states = {step: (variables(rng), moments(rng)) for step in range(1, steps + 1)}
    with Checkpoints(folder) as checkpoints:
        for step, state in states.items():
            checkpoints.save(step, *state)
    return states


def bits(tree) -> list[bytes]:
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


def restored(folder: Path, rng) -> tuple[int, list[bytes]]:
    with Checkpoints(folder) as checkpoints:
        step, *state = checkpoints.restore(variables(rng), moments(rng))
    return step, bits(state)


def test_what_is_read_is_what_was_written(tmp_path, rng):
    states = saved(tmp_path, rng, 3)
    assert restored(tmp_path, rng) == (3, bits(states[3]))
    assert bits(restore_last(tmp_path, variables(rng))) == bits(states[3][0])
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [2, 3]


def test_where_there_is_no_checkpoint_what_was_given_comes_back(tmp_path, rng):
    given = variables(rng), moments(rng)
    with Checkpoints(tmp_path / "none") as checkpoints:
        step, *state = checkpoints.restore(*given)
    assert step == 0 and bits(state) == bits(given)


def flip(path: Path, rng) -> None:
    data = np.fromfile(path, np.uint8)
    path.write_bytes(one_bit_other(rng, data).tobytes() if data.size else b"\1")


def cut(path: Path, rng) -> None:
    os.truncate(path, int(rng.integers(max(path.stat().st_size, 1))))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax leaves futures unread
@pytest.mark.parametrize("change", [flip, cut, lambda path, rng: path.unlink()], ids=["flipped", "cut", "gone"])
def test_a_damaged_file_ends_in_sound_bits_or_the_checkpoint_before(tmp_path, rng, change):
    """Each file of the last checkpoint in turn."""
    states = saved(tmp_path / "ckpt", rng, 2)
    expected = {(step, *bits(state)) for step, state in states.items()}
    names = [path.relative_to(tmp_path) for path in (tmp_path / "ckpt" / "2").rglob("*") if path.is_file()]
    names.sort(key=lambda name: (HEX.sub("*", str(name)), (tmp_path / name).stat().st_size))  # the same each time
    found = set()
    for i, name in enumerate(names):
        shutil.copytree(tmp_path / "ckpt", tmp_path / str(i) / "ckpt")
        change(tmp_path / str(i) / name, np.random.default_rng(i))
        step, state = restored(tmp_path / str(i) / "ckpt", rng)
        assert (step, *state) in expected, name
        found.add(step)
    assert found == {1, 2}


def test_asyncio_adds_nothing_to_what_is_told_of_a_checkpoint(caplog):
    for of in ("/lib/orbax/checkpoint/serialization.py", "/lib/another.py"):
        logging.getLogger("asyncio").error("Task exception was never retrieved: %s", of)
    assert [record.args for record in caplog.records] == [("/lib/another.py",)]


def damage(folder: Path) -> None:
    for path in folder.rglob("d/*"):
        os.truncate(path, path.stat().st_size // 2)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_run_that_is_only_read_says_that_its_checkpoint_is_damaged(tmp_path, rng):
    saved(tmp_path, rng, 2)
    damage(tmp_path / "2")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError, match=f"^{tmp_path}/2 is damaged: .*; remove it and train again.$"):
        restore_last(tmp_path, variables(rng))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("half_gone", [False, True])
def test_an_old_checkpoint_whose_removal_was_cut_off_is_removed(tmp_path, rng, half_gone):
    saved(tmp_path / "more", rng, 1)
    states = saved(tmp_path / "ckpt", rng, 1 + KEEP)
    shutil.move(tmp_path / "more" / "1", tmp_path / "ckpt" / "1")
    if half_gone:
        shutil.rmtree(tmp_path / "ckpt" / "1" / "variables")
    assert restored(tmp_path / "ckpt", rng) == (1 + KEEP, bits(states[1 + KEEP]))
    assert sorted(path.name for path in (tmp_path / "ckpt").iterdir()) == ["2", "3"]

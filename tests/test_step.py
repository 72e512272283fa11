"""The step: a batch in parts is the batch, and nothing but seed, stage and step decides what is random."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from symnorm_jax.systems.contract import Aux, Stage
from symnorm_jax.training.sharding import by_example, make_mesh, put_batch, replicated
from symnorm_jax.training.step import Step, _in_parts, compiled, make_step

EXAMPLES, INPUTS, OUTPUTS = 8, 5, 3


def loss(variables, batch, key):
    """Of a linear network; its metrics also tell what it was given, and its stats which parts came, in order."""
    out = jnp.tanh(batch["image"] @ variables["params"]["net"]["w"]) * variables["params"]["other"]["scale"]
    value, stats = ((out - batch["goal"]) ** 2).mean(), variables["stats"]
    low, high = jax.random.key_data(key)
    metrics = {"first": batch["index"].min(), "progress": batch["progress"], "low": low, "high": high}
    return value, Aux(metrics, {"seen": stats["seen"] + len(batch["index"]), "last": batch["index"].min()})


def batch_of(rng) -> dict[str, np.ndarray]:
    image, goal = rng.normal(size=(EXAMPLES, INPUTS)), rng.normal(size=(EXAMPLES, OUTPUTS))
    index = np.arange(EXAMPLES, dtype=np.int32)
    return {"image": image.astype(np.float32), "goal": goal.astype(np.float32), "index": index}


def begin(mesh, step: int = 0):
    """A state whose optimizer is plain descent, and the networks that stay as they are."""
    weights = np.random.default_rng(1).normal(size=(INPUTS, OUTPUTS)).astype(np.float32)
    state = {"params": {"net": {"w": weights}}, "stats": {"seen": np.int32(0), "last": np.int32(-1)}}
    state |= {"opt": optax.sgd(1.0).init(state["params"]), "step": np.int32(step)}
    return jax.device_put((state, {"other": {"scale": np.float32(2)}}), replicated(mesh))


def run(batch, parts: int = 1, seed: int = 0, name: str = "first", step: int = 0):
    """The state and the metrics after one step on two devices, and the compiled step."""
    mesh = make_mesh()
    state, frozen = begin(mesh, step)
    pure = make_step(name, Stage(("net",), loss), optax.sgd(1.0), seed, 10, mesh, parts)
    ready = compiled(pure, state, frozen, batch, mesh)
    return *ready.run(state, frozen, put_batch(batch, mesh)), ready


def gradient(batch) -> np.ndarray:
    """By hand, in float64: d/dw mean((2 tanh(xw) - y)^2)."""
    weights = np.random.default_rng(1).normal(size=(INPUTS, OUTPUTS)).astype(np.float32).astype(float)
    image, goal = batch["image"].astype(float), batch["goal"].astype(float)
    bent = np.tanh(image @ weights)
    return image.T @ (2 * (2 * bent - goal) / goal.size * 2 * (1 - bent**2))


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(parts, rng):
    batch = batch_of(rng)
    before, _ = begin(make_mesh())
    weights = np.asarray(before["params"]["net"]["w"])
    state, metrics, _ = run(batch, parts)
    np.testing.assert_allclose(weights - np.asarray(state["params"]["net"]["w"]), gradient(batch), rtol=1e-4, atol=1e-6)
    assert float(metrics["gradient_norm"]) == pytest.approx(np.linalg.norm(gradient(batch)), rel=1e-5)
    out = 2 * np.tanh(batch["image"] @ weights)
    assert float(metrics["loss"]) == pytest.approx(((out - batch["goal"]) ** 2).mean(), rel=1e-5)


@pytest.mark.parametrize("parts", [2, 4])
def test_stats_pass_from_part_to_part_and_metrics_are_averaged(parts, rng):
    """Part p begins with example p: the smallest of the last part is parts - 1, and in the mean over them half that."""
    state, metrics, _ = run(batch_of(rng), parts)
    assert int(state["stats"]["seen"]) == EXAMPLES and int(state["stats"]["last"]) == parts - 1
    assert float(metrics["first"]) == (parts - 1) / 2


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.two_devices
def test_every_part_is_spread_over_all_devices_and_no_example_travels(parts, rng):
    mesh = make_mesh()
    split = jax.jit(lambda batch: _in_parts(batch, parts, by_example(mesh, axis=1)))
    placed = put_batch(batch_of(rng), mesh)
    index = split(placed)["index"]
    assert index.sharding.is_equivalent_to(by_example(mesh, axis=1), 2)
    assert [shard.data.shape for shard in index.addressable_shards] == [(parts, EXAMPLES // parts // 2)] * 2
    assert sorted(np.asarray(index).ravel()) == list(range(EXAMPLES))
    program = split.lower(placed).compile().as_text()
    assert not any(word in program for word in ("all-to-all", "all-gather", "collective-permute", "all-reduce"))


def test_randomness_is_a_function_of_seed_stage_and_step(rng):
    def key(**changes):
        _, metrics, _ = run(batch_of(rng), **changes)  # another batch each time
        return int(metrics["low"]), int(metrics["high"])

    assert key() == key()
    assert len({key(), key(seed=1), key(name="second"), key(step=1), key(step=2)}) == 5


def test_the_loss_knows_the_share_of_the_steps_taken(rng):
    state, metrics, _ = run(batch_of(rng), step=5)
    assert float(metrics["progress"]) == 0.5 and int(state["step"]) == 6


def test_the_state_gives_its_memory_to_the_next(rng):
    mesh, batch = make_mesh(), batch_of(rng)
    state, frozen = begin(mesh)
    step = compiled(make_step("first", Stage(("net",), loss), optax.sgd(1.0), 0, 10, mesh), state, frozen, batch, mesh)
    after, _ = step.run(state, frozen, put_batch(batch, mesh))
    assert state["params"]["net"]["w"].is_deleted() and not frozen["other"]["scale"].is_deleted()
    assert jax.tree.map(lambda x: x.sharding, after) == jax.tree.map(lambda x: x.sharding, state)


@pytest.mark.parametrize("parts", [1, 4])
def test_a_step_knows_its_arithmetic(parts, rng):
    """A product forward and one for the gradient, of 8 x 5 x 3 multiplications and additions each."""
    step: Step = run(batch_of(rng), parts)[2]
    assert step.flops == 2 * (2 * EXAMPLES * INPUTS * OUTPUTS)

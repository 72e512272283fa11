"""The trainer: it learns, only what a stage trains moves, and whatever stops it costs nothing."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError, NonFiniteError
from symnorm_jax.systems.contract import Aux, Embedding, Stage, System, example_keys
from symnorm_jax.training.checkpoint import Checkpoints, restore_last
from symnorm_jax.training.sharding import check_batch_size
from symnorm_jax.training.train import train

STAGE = {"steps": 12, "batch_size": 4}
OPTIMIZER = {"learning_rate": 0.1, "warmup_steps": 2, "weight_decay": 0.0, "clip_norm": 1.0}


def config(**changes) -> ConfigDict:
    stages = {name: {**STAGE, "optimizer": OPTIMIZER} for name in ("first", "second")}
    often = {"log_every": 3, "checkpoint_every": 4, "accumulate": 1, "writers": (), "profile": ""}
    sharding = {"fsdp": 1, "smallest": 1}
    settings = ConfigDict({"seed": 0, "init_from": None, "sharding": sharding, "train": {**often, **stages}})
    settings.update_from_flattened_dict(changes)
    return settings


def line_fitter(bad_step: int | None = None) -> System:
    """Two networks of one number each: the first fits the images' mean, the second a multiple of the first."""

    def init(key, batch):
        params = {"a": {"x": jax.random.normal(key)}, "b": {"x": jnp.float32(0)}}
        return {"params": params, "stats": {"seen": jnp.float32(0)}}

    def loss_of(net, target):
        def loss(variables, batch, key):
            noise = jax.vmap(jax.random.normal)(example_keys(key, batch["index"]))
            goal = target(variables["params"], batch["image"].mean((1, 2, 3)))
            error = ((variables["params"][net]["x"] - goal + 0.01 * noise) ** 2).mean()
            if bad_step is not None:
                error = jnp.where(variables["stats"]["seen"] >= bad_step * 4, jnp.nan, error)
            return error, Aux({"error": error}, {"seen": variables["stats"]["seen"] + len(batch["index"])})

        return loss

    first = Stage(("a",), loss_of("a", lambda params, mean: mean))
    second = Stage(("b",), loss_of("b", lambda params, mean: 2 * params["a"]["x"]))
    return System(init, {"first": first, "second": second}, lambda variables, batch: Embedding(None, {}))


def batches(size: int, start: int):
    step = start
    while True:
        images = np.random.default_rng(step).normal(3, 0.1, (size, 2, 2, 1))
        yield {"image": images.astype(np.float32), "index": np.arange(size, dtype=np.int32)}
        step += 1


def values(variables) -> dict[str, float]:
    return {net: float(params["x"]) for net, params in variables["params"].items()}


def test_stages_train_in_turn_and_only_their_own_networks(tmp_path):
    settings = config(**{"train.first.steps": 120, "train.second.steps": 120})
    found = values(train(line_fitter(), settings, batches, tmp_path))
    assert found["a"] == pytest.approx(3, abs=0.1) and found["b"] == pytest.approx(2 * found["a"], abs=0.2)
    variables = {"params": {net: {"x": jnp.float32(0)} for net in "ab"}, "stats": {"seen": jnp.float32(0)}}
    after_first = restore_last(tmp_path / "first" / "ckpt", variables)
    assert values(after_first) == {"a": found["a"], "b": 0.0}


@pytest.mark.parametrize("first, second", [(4, 12), (12, 8)])
def test_stopping_in_either_stage_changes_no_bit(tmp_path, first, second):
    """The run is cut by an input pipeline that fails, and then called again."""
    stop = {"first": first, "second": second}

    def failing(size, start):
        for i, batch in enumerate(batches(size, start)):
            if start + i == stop["first" if not (tmp_path / "cut" / "second").exists() else "second"]:
                raise KeyboardInterrupt
            yield batch

    whole = train(line_fitter(), config(), batches, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(line_fitter(), config(), failing, tmp_path / "cut")
    again = train(line_fitter(), config(), batches, tmp_path / "cut")
    assert values(again) == values(whole)
    for stage in ("first", "second"):
        logs = [(tmp_path / run / stage / "metrics.jsonl").read_text().splitlines() for run in ("whole", "cut")]
        steps = [[json.loads(line)["step"] for line in log] for log in logs]
        assert steps[1] == sorted(set(steps[1])) and steps[0][-1] == steps[1][-1] == 12


@pytest.mark.parametrize("parts", [1, 2])
def test_what_a_stage_measures_begins_from_nothing_once(tmp_path, parts):
    """Not from what the stage before it, or a source run, has seen; nor again with each part of its first batch."""
    system, settings = line_fitter(), config(**{"train.accumulate": parts})
    stages = system.stages | {"second": system.stages["second"]._replace(measures=("seen",))}
    found = [
        train(system._replace(stages=each), settings, batches, tmp_path / str(len(each["second"].measures)))
        for each in (system.stages, stages)
    ]
    assert [float(one["stats"]["seen"]) for one in found] == [2 * 12 * 4, 12 * 4]


def test_a_finished_run_does_nothing(tmp_path):
    first = train(line_fitter(), config(), batches, tmp_path)

    def untouched(size, start):
        yield next(batches(size, start))  # for the shapes
        raise AssertionError("a finished run asked for a batch")

    assert values(train(line_fitter(), config(), untouched, tmp_path)) == values(first)


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(tmp_path):
    with pytest.raises(NonFiniteError, match="first: .* is nan at step 8"):
        train(line_fitter(bad_step=7), config(), batches, tmp_path)
    with Checkpoints(tmp_path / "first" / "ckpt") as checkpoints:
        assert checkpoints.latest() == 4


@pytest.mark.two_devices
def test_a_batch_that_devices_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="train.unet.batch_size=3; a positive multiple of the 2 devices"):
        check_batch_size("train.unet.batch_size", 3)

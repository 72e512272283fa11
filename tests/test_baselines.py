"""The rivals on slices: one contract, one trainer, and lesions that stand out; what embedding a slice costs."""

import functools
import json
import shutil
from typing import NamedTuple

import jax
import numpy as np
import pytest
from jax import export

from configs.base import base, finish
from configs.systems import rivals
from symnorm_jax.errors import ConfigError
from symnorm_jax.scoring.embed import cost
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.contract import System, Variables
from symnorm_jax.training.sharding import make_mesh
from symnorm_jax.training.train import train
from symnorm_jax.training.transfer import shapes_of

SYSTEMS = tuple(rivals.SETTINGS)
SIZE, SQUARE = (32, 32), (slice(14, 19), slice(8, 13))
STEPS = 60


pytestmark = pytest.mark.usefixtures("quick_compilation")


class Trained(NamedTuple):
    system: System
    variables: Variables
    embed: object  # jitted: (variables, batch) -> Answer
    folder: object


class Answer(NamedTuple):
    """What a system says of slices whose raw maps are taken as they are; the map is their size."""

    z: object
    map: object
    scalars: dict
    panels: dict


def asked(system, variables, batch) -> Answer:
    found = system.residual(variables, batch)
    embedding = system.embed(variables, batch | {"difference": found.map})
    return Answer(embedding.z, abs(found.map), found.scalars, found.panels)


def tiny(name, **changes):
    settings = {f"train.{stage}.batch_size": 8 for stage in ("baseline", "patches")}
    settings |= {"train.baseline.steps": STEPS, "train.patches.steps": 12, "train.checkpoint_every": STEPS}
    settings |= {"train.baseline.optimizer.learning_rate": 3e-3, "noise.deviation": 3.0, **changes}  # little contrast
    return finish(base(), f"tiny,{name}", sizes={"tiny": settings})


def slices(index):
    """Healthy slices: an ellipse of brain, brighter to one end, with a soft wave that moves from one to the next."""
    x, y = np.meshgrid(*(np.linspace(-1, 1, side) for side in SIZE), indexing="ij")
    brain = (x / 0.8) ** 2 + (y / 0.9) ** 2 < 1
    draws = [np.random.default_rng(i).uniform(-1, 1, 2) for i in index]
    image = [0.5 + 0.1 * a * y + 0.1 * np.cos(4 * x + b) for a, b in draws]
    return {
        "image": (np.stack(image) * brain)[..., None].astype(np.float32),
        "brain": np.stack([brain] * len(index))[..., None].astype(np.float32),
        "index": np.asarray(index, np.int32),
        "valid": np.ones(len(index), bool),
    }


def batches(size, start):
    while True:
        batch = slices(np.random.default_rng(start).integers(0, 40, size))
        batch.pop("valid")
        yield batch
        start += 1


def take(batch, rows):
    return {name: x[np.asarray(rows)] for name, x in batch.items()}


def painted(batch, amount=0.5):
    image = batch["image"].copy()
    image[:, *SQUARE] += amount
    return batch | {"image": image}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quick_compilation):
    """Each system trained once, when it is first asked for."""

    @functools.cache
    def of(name):
        folder = tmp_path_factory.mktemp(name)
        config = tiny(name)
        system = BUILD[name](config)
        variables = jax.device_get(train(system, config, batches, folder))
        return Trained(system, variables, jax.jit(lambda v, b: asked(system, v, b)), folder)

    return of


def assert_same(one: Answer, other: Answer, rows_one, rows_other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a[np.asarray(rows_one)], b[np.asarray(rows_other)], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_keeps_the_contract(trained, name):
    found, batch = trained(name), slices(range(100, 104))
    out = found.embed(found.variables, batch)
    assert out.z.ndim == 2 and len(out.z) == 4 and out.map.shape == batch["brain"].shape
    assert tuple(out.scalars) == found.system.scores and all(x.shape == (4,) for x in out.scalars.values())
    assert all(panel.shape == batch["brain"].shape for panel in out.panels.values())
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(out))
    assert (out.map >= 0).all() and out.map.max() > 0 and (out.map * (1 - batch["brain"]) == 0).all()


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_sample_is_embedded_alike_in_any_company(trained, name):
    """Alone, in another order beside others, and in a batch that is padded with its last slice."""
    found, batch = trained(name), slices(range(100, 106))
    first = found.embed(found.variables, take(batch, [0, 1, 2, 3]))
    assert_same(first, found.embed(found.variables, take(batch, [4, 3, 0, 5])), [0, 3], [2, 1])
    padded = take(batch, [5, 1, 1, 1]) | {"valid": np.array([True, True, False, False])}
    assert_same(first, found.embed(found.variables, padded), [1], [1])
    assert_same(first, found.embed(found.variables, take(batch, [2])), [2], [0])


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_trainer_lowers_the_loss(trained, name):
    log = (trained(name).folder / "baseline" / "metrics.jsonl").read_text().splitlines()
    loss = [json.loads(line)["loss"] for line in log]
    assert len(loss) == STEPS // 5 and np.mean(loss[-3:]) < 0.6 * loss[0]


@pytest.mark.parametrize("name", [name for name in SYSTEMS if name != "padim"])
def test_a_bright_square_raises_the_error(trained, name):
    found, batch = trained(name), slices(range(100, 104))
    healthy, ill = (found.embed(found.variables, one) for one in (batch, painted(batch)))
    assert (ill.scalars["mae"] > healthy.scalars["mae"]).all()
    assert (ill.map[:, *SQUARE].mean((1, 2, 3)) > 2 * healthy.map[:, *SQUARE].mean((1, 2, 3))).all()


def test_maps_have_the_sign_of_a_lesion_but_for_distances(trained):
    batch = slices(range(100, 104))
    for name in SYSTEMS:
        found = trained(name)
        bright, dark = (found.system.residual(found.variables, painted(batch, x)).map for x in (0.5, -0.5))
        here = [x[:, *SQUARE].mean() for x in (bright, dark)]
        assert here[0] > 0.1 and (here[1] > 0.1 if name == "padim" else here[1] < -0.1), name


def test_distances_have_no_sign_to_choose():
    with pytest.raises(ConfigError, match="difference.kind='negative'; one of .'positive'. is allowed"):
        config = tiny("padim")
        config.difference.kind = "negative"
        BUILD["padim"](config)


def test_a_bright_square_is_the_peak_of_padim(trained):
    found, batch = trained("padim"), slices(range(100, 104))
    healthy, ill = (found.embed(found.variables, one) for one in (batch, painted(batch)))
    assert (ill.scalars["peak"] > healthy.scalars["peak"]).all()
    for one in ill.map[..., 0]:
        row, column = np.unravel_index(one.argmax(), SIZE)
        assert 14 <= row < 19 and 8 <= column < 13


def test_the_scores_are_those_of_the_map(trained):
    batch = slices(range(100, 104))
    for name, score in (("ae", "mae"), ("padim", "peak")):
        out = trained(name).embed(trained(name).variables, batch)
        inside = [one[brain > 0] for one, brain in zip(np.asarray(out.map), batch["brain"], strict=True)]
        expected = [x.max() if score == "peak" else x.mean() for x in inside]
        np.testing.assert_allclose(out.scalars[score], expected, rtol=1e-5)


def test_residuals_by_patch_are_means_over_its_brain(trained):
    """Patches of 4 x 4 pixels, row by row; 0 where a patch has no brain."""
    out, brain = trained("dae").embed(trained("dae").variables, batch := slices([100])), batch["brain"]
    blocks = [np.asarray(x)[0, :, :, 0].reshape(8, 4, 8, 4).sum((1, 3)).ravel() for x in (out.map, brain)]
    np.testing.assert_allclose(out.z[0], blocks[0] / np.maximum(blocks[1], 1), rtol=1e-5)
    assert out.z[0, 0] == 0 and brain[0, 0, 0] == 0


def test_measuring_features_that_is_killed_ends_in_the_same_bits(trained, tmp_path):
    """Killed between checkpoints: the steps after the last one are taken again, none of them twice."""
    whole, config = trained("padim"), tiny("padim", **{"train.checkpoint_every": 4})
    shutil.copytree(whole.folder / "baseline", tmp_path / "baseline")

    def failing(size, start):
        for step, batch in enumerate(batches(size, start), start=start):
            if step == 9:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        train(whole.system, config, failing, tmp_path)
    again = jax.device_get(train(whole.system, config, batches, tmp_path))
    assert again["stats"]["healthy"]["n"] == 12 * 8
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), again, whole.variables))


def test_measuring_features_changes_no_network(trained):
    assert trained("padim").system.stages["patches"].trains == ()


@pytest.mark.parametrize("name", SYSTEMS)
def test_cost_counts_what_embedding_takes(trained, name, monkeypatch):
    found, batch = trained(name), slices(range(100, 104))
    quick = cost(found.system, found.variables, batch, make_mesh())
    assert quick["passes"] == found.system.passes == (8 if name == "pddpm" else 1)
    assert quick["parameters"] == sum(np.prod(x.shape) for x in jax.tree.leaves(found.variables["params"]))
    whole = cost(found.system, found.variables, slices(range(100, 108)), make_mesh())
    few, many = quick["flops_per_sample"], whole["flops_per_sample"]
    assert 0 < many <= few < 1.2 * many  # of a sample, however many come at once; PaDiM factorises once a batch
    assert 0 < quick["seconds_per_sample"] < 60 and jax.devices()[0].device_kind in quick["device"]


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_batch_may_have_any_size_as_that_of_an_exported_program(name):
    system, (size,) = BUILD[name](config := tiny(name)), export.symbolic_shape("B")
    batch = {part: jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype) for part, x in slices([0]).items()}
    variables = shapes_of(system, config)
    z = jax.eval_shape(system.embed, variables, batch | {"difference": batch["brain"]}).z
    assert jax.eval_shape(system.residual, variables, batch).map.shape[0] == z.shape[0] == size

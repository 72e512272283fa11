"""dal on heads that can be drawn by hand: what is learned, what is left alone, and what never reaches a score."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from test_baselines import asked

from configs import dal, sweeps
from symnorm_jax.errors import ConfigError
from symnorm_jax.systems import BUILD, anatomy
from symnorm_jax.systems.dal import Dal
from symnorm_jax.training.checkpoint import restore_last
from symnorm_jax.training.train import train
from symnorm_jax.training.transfer import shapes_of

SIDE, LESION, NEW = 24, (slice(5, 8), slice(9, 14)), range(300, 308)
STEPS = {"anatomy": 120, "restore": 120, "recouple": 120}


pytestmark = pytest.mark.usefixtures("quick_compilation")


def config_of(**changes):
    config = dal.get_config("tiny")
    for stage, steps in STEPS.items():
        config.train[stage].update({"steps": steps, "batch_size": 8})
        config.train[stage].optimizer.learning_rate = 3e-3
    small = {"data.size": (SIDE, SIDE), "restore.radii": (12.0, 40.0), "restore.blobs": 1}
    config.update_from_flattened_dict(small | changes)
    return config


def heads(index):
    """Slices of fluid within white matter within grey matter, each a little other than the next, as T1 shows them."""
    x, y = np.meshgrid(*(np.linspace(-1, 1, SIDE),) * 2, indexing="ij")
    prior = []
    for one in index:
        a, b, *inner = np.random.default_rng(one).uniform(-1, 1, 4)
        radius = np.hypot(x / (0.85 + 0.03 * a), y / (0.9 + 0.03 * b))
        bend = 0.04 * np.sin(5 * np.arctan2(y, x) + 3 * inner[0])
        fluid, white = radius < 0.38 + 0.05 * inner[1], radius < 0.7 + bend
        prior.append(np.stack([fluid, white & ~fluid, (radius < 1) & ~white], -1))
    prior = np.stack(prior).astype(np.float32)
    noise = np.stack([np.random.default_rng([1, one]).normal(0, 0.04, (SIDE, SIDE)) for one in index])
    image = prior @ np.array([0.15, 0.9, 0.6]) + noise
    brain = prior.sum(-1, keepdims=True)
    made = {"image": image[..., None] * brain, "brain": brain, "prior": prior}
    return {name: x.astype(np.float32) for name, x in made.items()} | {"index": np.asarray(index, np.int32)}


def batches(size, start):
    while True:
        yield heads(np.random.default_rng(start).integers(0, 200, size))
        start += 1


def trained_in(folder, *stages):
    """The model, its variables once these stages are trained, and the folder of their checkpoints."""
    config = config_of()
    system = BUILD["dal"](config)
    system = system._replace(stages={name: system.stages[name] for name in stages})
    return Dal(config), jax.device_get(train(system, config, batches, folder)), folder


@pytest.fixture(scope="module")
def anatomist(tmp_path_factory):
    return trained_in(tmp_path_factory.mktemp("anatomy"), "anatomy")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trained_in(tmp_path_factory.mktemp("dal"), *STEPS)


def found_by(trained, *images):
    model, variables, _ = trained
    find, brain = jax.jit(model.find), heads(NEW)["brain"]
    return [find(variables, image, brain) for image in images]


def own(image, brain):
    inside = image[brain > 0]
    return ((image - inside.mean()) / (4 * inside.std()) + 0.5) * brain


def dice(found, truth):
    both, each = (found * truth).sum((0, 1, 2)), (found + truth).sum((0, 1, 2))
    return 2 * both / each


def new_heads():
    """Heads that nothing was trained on, in their own unit."""
    new = heads(NEW)
    return new, np.stack([own(x, b) for x, b in zip(new["image"], new["brain"], strict=True)])


def test_the_anatomy_is_that_of_the_prior_and_stays_when_the_contrast_is_turned(anatomist):
    new, image = new_heads()
    found, turned = found_by(anatomist, image, (1 - image) * new["brain"])
    assert (dice(found.seen, new["prior"]) > 0.8).all()
    assert ((found.seen * turned.seen).sum() / new["brain"].sum()) > 0.9


@pytest.mark.long
def test_a_lesion_hardly_changes_the_healthy_image_under_it(trained):
    new, image = new_heads()
    ill, inside = image.copy(), new["brain"] > 0
    ill[:, *LESION] -= 0.5
    one, other = (found.healthy for found in found_by(trained, image, ill))
    assert np.abs(one - image)[inside].mean() < 0.7 * np.abs(image - 0.5)[inside].mean()
    assert np.abs(one - other)[:, *LESION].mean() < 0.25 * 0.5


def test_what_dal_says_of_slices(anatomist):
    """The names are those of the contract, a dark lesion is a negative map, and the error that of the picture shown."""
    model, variables, _ = anatomist
    system, batch = BUILD["dal"](model.config), {k: x for k, x in heads(range(300, 304)).items() if k != "prior"}
    ill = batch | {"image": batch["image"].copy()}
    ill["image"][:, *LESION] -= 0.5
    of = jax.jit(lambda batch: (system.residual(variables, batch), asked(system, variables, batch)))
    (found, whole), (sick, _) = of(batch), of(ill)
    assert set(found.panels) == {"anatomy", "healthy anatomy", "edges", "pseudo-healthy"}
    assert set(found.scalars) == set(system.scores) and whole.z.shape == (4, (SIDE // 4) ** 2)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found)) and not (found.map * (1 - batch["brain"])).any()
    error = np.abs(batch["image"] - found.panels["pseudo-healthy"]).sum((1, 2, 3)) / batch["brain"].sum((1, 2, 3))
    np.testing.assert_allclose(found.scalars["mae"], error, rtol=1e-4)
    assert sick.map[:, *LESION].mean() < found.map[:, *LESION].mean() - 0.5
    assert system.passes == 4


def test_free_energy_finds_classes_that_an_atlas_only_points_to():
    new, image = new_heads()
    blurred = np.stack([gaussian_filter(one, (3, 3, 0)) for one in new["prior"]]) + 0.02
    blurred /= blurred.sum(-1, keepdims=True)
    descend = jax.grad(lambda logits: anatomy.free_energy(image, logits, blurred, new["brain"]).sum() * 300)
    found = jax.jit(lambda start: jax.lax.fori_loop(0, 200, lambda _, x: x - descend(x), start))(np.log(blurred))
    one_hot = lambda shares: np.eye(3)[np.argmax(shares, -1)] * new["brain"]  # noqa: E731
    assert dice(one_hot(found), new["prior"]).min() > 0.95 > dice(one_hot(blurred), new["prior"]).min() + 0.05


def same(one, other) -> bool:
    return jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), one, other))


@pytest.mark.long
def test_each_stage_trains_its_own_networks_and_leaves_the_bits_of_others_alone(trained):
    model, variables, folder = trained
    assert [stage.trains for stage in model.stages.values()] == [("where", "anatomy"), ("restore",), ("recouple",)]
    for stage, frozen in (("anatomy", ("where", "anatomy")), ("restore", ("where", "anatomy", "restore"))):
        then = restore_last(folder / stage / "ckpt", variables)["params"]
        assert all(same(then[net], variables["params"][net]) for net in frozen)
        assert not same(then["recouple"], variables["params"]["recouple"])


@pytest.mark.long
def test_a_run_that_is_killed_ends_in_the_same_bits(trained, tmp_path):
    model, variables, folder = trained
    shutil.copytree(folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "recouple" / "ckpt" / str(STEPS["recouple"]))
    again = jax.device_get(train(BUILD["dal"](model.config), model.config, batches, tmp_path / "run"))
    assert same(again, variables)


@pytest.mark.parametrize(
    "changes",
    [
        {"anatomy.passes": 0, "anatomy.onehot": "gumbel"},
        {"anatomy.prior": "none", "restore.edges": "skip", "recouple.kind": "table"},
        {"anatomy.onehot": "soft", "restore.edges": "none", "recouple.imaging": "seen", "network.dtype": "bfloat16"},
    ],
)
def test_parts_can_be_left_out_or_be_plainer(changes):
    config = config_of(**changes, **{"difference.unit": "intensity"})
    system, batch = BUILD["dal"](config), heads(range(4))
    variables = shapes_of(system, config)
    for stage in system.stages.values():
        assert jax.eval_shape(stage.loss, variables, batch, jax.random.key(0))[0].shape == ()
        assert stage.trains and set(stage.trains) <= variables["params"].keys()
    assert {net for stage in system.stages.values() for net in stage.trains} == variables["params"].keys()
    found = jax.eval_shape(system.residual, variables, batch).map
    assert found.shape == batch["brain"].shape and found.dtype == jnp.float32


def test_every_point_of_the_sweep_is_a_system():
    for point in sweeps.dal_parts():
        assert BUILD["dal"](config_of(**point)).residual


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"anatomy.prior": "atlas", "anatomy.classes": 4}, "anatomy.classes=4 with anatomy.prior='atlas'; 3, fluid"),
        ({"anatomy.onehot": "hard"}, "anatomy.onehot='hard'; one of"),
        ({"restore.edges": "canny"}, "restore.edges='canny'; one of .*'skip'"),
        ({"restore.radii": (6.0, 400.0)}, r"restore.radii=\(6.0, 400.0\); two ascending .* up to the 144 mm"),
        ({"data.size": (30, 32)}, r"data.size=\(30, 32\); two sides that divide by 4"),
        ({"recouple.kind": "film"}, "recouple.kind='film'; one of"),
        ({"difference.unit": "z"}, "difference.unit='z'; one of"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        BUILD["dal"](config_of(**changes))

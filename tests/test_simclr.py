"""SimCLR on volumes: its step learns, its embedding is of one volume alone, and views are of one volume each."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_end_to_end import config_of

from symnorm_jax import losses
from symnorm_jax.errors import ConfigError
from symnorm_jax.systems import BUILD, views
from symnorm_jax.systems.pretraining import SimCLR

SIZE = (8, 8, 8)


def tiny(rival="", **changes):
    config = config_of("simclr", f"tiny,{rival}")
    config.update_from_flattened_dict({"data.size": SIZE, **changes})
    return config


def batch_of(rng, count=4) -> dict[str, jax.Array]:
    grid = np.moveaxis(np.indices(SIZE), 0, -1) - 3.5
    brain = np.broadcast_to(((grid**2).sum(-1) < 10)[..., None], (count, *SIZE, 1)).astype(np.float32)
    image = brain * rng.uniform(0.2, 1, brain.shape).astype(np.float32)
    who = {"index": jnp.arange(count), "patient": jnp.arange(count)}
    return {"image": jnp.asarray(image), "brain": jnp.asarray(brain), "progress": 0.0} | who


@pytest.fixture(scope="module")
def fresh():
    """Model, variables and batch."""
    model, batch = SimCLR(tiny()), batch_of(np.random.default_rng(0))
    return model, jax.jit(model.init)(jax.random.key(0), batch), batch


def test_the_loss_is_that_of_two_views_of_each_volume(fresh):
    """The same from its parts, with one pass for both views and projections in the order of the batch."""
    model, variables, batch = fresh
    key = jax.random.key(3)
    value, aux = jax.jit(model.loss)(variables, batch, key)
    pair = [
        views.draw(batch["image"], batch["brain"], views.view_keys(key, batch["index"], i), model.views)[0]
        for i in (0, 1)
    ]
    assert float(jnp.abs(pair[0] - pair[1]).max()) > 0.1

    @jax.jit
    def apart(variables, both):
        seen = {"params": variables["params"]["encoder"], "batch_stats": variables["stats"]["encoder"]}
        features, changed = model.encoder.net.apply(seen, both, train=True, mutable=["batch_stats"])
        projected = model.projector.apply({"params": variables["params"]["projector"]}, features)
        return losses.nt_xent(*jnp.split(projected, 2), model.temperature).mean(), changed

    expected, changed = apart(variables, jnp.concatenate(pair))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for found, other in zip(*map(jax.tree.leaves, (aux.stats["encoder"], changed["batch_stats"])), strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-4, atol=1e-6)


def test_visits_of_one_person_are_not_pushed_apart(fresh):
    """With two people of two visits each, a view has four views of the other person to be told from, and not six."""
    model, variables, batch = fresh
    loss = jax.jit(model.loss)
    apart, _ = loss(variables, batch, jax.random.key(3))
    visits, _ = loss(variables, batch | {"patient": jnp.array([0, 0, 1, 1])}, jax.random.key(3))
    assert float(visits) < float(apart) - 0.1
    alone, _ = loss(variables, batch | {"patient": jnp.zeros(4, int)}, jax.random.key(3))
    np.testing.assert_allclose(alone, 0, atol=1e-5)


def test_a_view_is_of_its_own_volume(fresh):
    """Another volume elsewhere in the batch changes no bit of it, and another step every view."""
    model, _, batch = fresh
    keys = views.view_keys(jax.random.key(0), batch["index"], 0)
    one, _ = views.draw(batch["image"], batch["brain"], keys, model.views)
    other, _ = views.draw(batch["image"].at[1].multiply(0.5), batch["brain"], keys, model.views)
    assert (one[jnp.array([0, 2, 3])] == other[jnp.array([0, 2, 3])]).all()
    later, _ = views.draw(
        batch["image"], batch["brain"], views.view_keys(jax.random.key(1), batch["index"], 0), model.views
    )
    assert all((one[i] != later[i]).any() for i in range(4))


def test_training_brings_views_of_one_volume_together(fresh):
    """Volumes whose brightness rises in different directions, under views that leave directions nearly as they are."""
    gentle = {"views.crop": (0.8, 0.8, 0.8), "views.flip": 0.0, "views.rotate": (0.5, 0.2)}
    model, batch = SimCLR(tiny(**gentle)), fresh[2]
    towards = jnp.stack(jnp.meshgrid(*[jnp.linspace(-1, 1, 8)] * 3, indexing="ij"))
    image = jnp.stack([towards[0], towards[1], towards[2], -towards[0]])[..., None]
    batch = batch | {"image": (0.5 + 0.4 * image) * batch["brain"]}
    variables, optimizer = jax.jit(model.init)(jax.random.key(0), batch), optax.adam(1e-2)

    @jax.jit
    def step(variables, opt, key):
        (value, aux), grads = jax.value_and_grad(model.loss, has_aux=True)(variables, batch, key)
        updates, opt = optimizer.update(grads["params"], opt)
        return {"params": optax.apply_updates(variables["params"], updates), "stats": aux.stats}, opt, value

    opt, found = optimizer.init(variables["params"]), []
    for key in jax.random.split(jax.random.key(1), 40):
        variables, opt, value = step(variables, opt, key)
        found.append(float(value))
    assert np.mean(found[-10:]) < found[0] - 0.3


def test_an_embedding_is_of_one_volume_and_free_of_its_brightness(fresh):
    model, variables, batch = fresh
    embed = jax.jit(model.encoder.embed)
    together = embed(variables, batch)
    assert together.z.shape == (4, 8) and together.scalars == {}
    alone = embed(variables, {name: batch[name][1:2] for name in ("image", "brain", "index")})
    np.testing.assert_allclose(alone.z[0], together.z[1], rtol=1e-4, atol=1e-5)
    brighter = embed(variables, batch | {"image": (2 * batch["image"] + 1) * batch["brain"]})
    np.testing.assert_allclose(brighter.z, together.z, rtol=1e-3, atol=1e-4)


def test_group_norm_needs_no_statistics(fresh):
    model, batch = SimCLR(tiny(**{"resnet.norm": "group"})), fresh[2]
    variables = jax.eval_shape(model.init, jax.random.key(0), batch)
    assert variables["stats"] == {"encoder": {}}
    _, aux = jax.eval_shape(model.loss, variables, batch, jax.random.key(1))
    assert aux.stats == variables["stats"]


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"data.size": (16, 16)}, "data.size=.16, 16. with system='simclr'; three sides"),
        ({"resnet.norm": "layer"}, "resnet.norm='layer'; one of"),
        ({"views.flip": 1.5}, "views.flip=1.5; a probability"),
    ],
)
def test_unknown_choices_are_refused_by_name(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        BUILD["simclr"](tiny(**changes))

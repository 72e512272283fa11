"""The primary system: nothing leaks from hidden pixels, and every choice of the config is heard."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.base import base, finish
from symnorm_jax.corruption import corrupt
from symnorm_jax.errors import ConfigError
from symnorm_jax.geometry import mirror_batch
from symnorm_jax.masking import PARTITIONS, widen
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.contract import example_keys
from symnorm_jax.systems.symnorm import Symnorm


def tiny(**changes):
    config = finish(base(), "tiny")
    config.update_from_flattened_dict({"data.size": (16, 16), "unet.stem": 1, "vae.widths": (8,), **changes})
    return config


def batch_of(config, count=2, seed=0):
    rng, size = np.random.default_rng(seed), config.data.size
    grid = tuple(side // config.mask.patch for side in size)
    return {
        "image": jnp.asarray(rng.uniform(size=(count, *size, 1)), jnp.float32),
        "brain": jnp.ones((count, *size, 1)),
        "index": jnp.arange(count, dtype=jnp.int32),
        "hidden": jnp.asarray(rng.random((count, *grid)) < 0.5),
        "difference": jnp.asarray(4 * rng.standard_normal((count, *size, 1)), jnp.float32),
        "progress": jnp.float32(0.5),
    }


def built(**changes):
    config = tiny(**changes)
    batch = batch_of(config)
    model = Symnorm(config)
    return model, model.init(jax.random.key(0), batch), batch


@pytest.mark.parametrize("mirror_context", [False, True])
def test_a_hidden_pixel_has_no_say_in_what_is_filled_in(mirror_context):
    """The gradient of the answer with respect to hidden pixels is exactly zero; visible pixels have one."""
    model, variables, batch = built(**{"mask.mirror_context": mirror_context})
    hidden = widen(batch["hidden"], model.mask.patch)
    answer = lambda image: (model.fill(variables, image, hidden) ** 2).sum()  # noqa: E731
    gradient = jax.jit(jax.grad(answer))(batch["image"])
    assert (gradient * hidden == 0).all() and (jnp.abs(gradient * (1 - hidden)).max() > 0)


def test_every_pixel_is_reconstructed_without_being_seen():
    """Each pixel of the stitched slice comes from a pass that hid it, so it does not follow its own input."""
    model, variables, batch = built()
    image = batch["image"][:1]
    jacobian = jax.jit(jax.jacrev(lambda image: model.reconstruct(variables, image)[0, :, :, 0]))(image)
    own = jnp.einsum("xyxy->xy", jacobian[:, :, 0, :, :, 0])
    assert (own == 0).all() and jnp.abs(jacobian).max() > 0


def test_a_mirror_pair_hidden_together_cannot_be_copied():
    """With paired masks and mirrored context, a pixel and its twin both have no say in the pixel's answer."""
    model, variables, batch = built(**{"mask.kind": "paired"})
    image = batch["image"][:1]
    jacobian = jax.jit(jax.jacrev(lambda image: model.reconstruct(variables, image)[0, :, :, 0]))(image)
    twin = jnp.einsum("xyxy->xy", mirror_batch(jacobian[:, :, 0, :, :, 0].transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3))
    own = jnp.einsum("xyxy->xy", jacobian[:, :, 0, :, :, 0])
    assert (own == 0).all() and (twin == 0).all()


@pytest.mark.parametrize("kind", sorted(PARTITIONS))
def test_every_family_trains_and_embeds(kind):
    config = tiny(**{"mask.kind": kind})
    system, batch = BUILD["symnorm"](config), batch_of(config)
    variables = system.init(jax.random.key(0), batch)
    for stage in system.stages.values():
        value, aux = stage.loss(variables, batch, jax.random.key(1))
        assert np.isfinite(value) and jax.tree.structure(aux.stats) == jax.tree.structure(variables["stats"])
    z, found = system.embed(variables, batch).z, system.residual(variables, batch)
    assert z.shape == (2, config.vae.latent) and found.map.shape == batch["image"].shape
    assert found.scalars["mse"].shape == (2,) and np.isfinite(z).all()


def test_corruption_takes_one_pass_and_is_not_told_where():
    """A U-Net that gives back what it sees loses what was corrupted, and finds nothing in the slice itself."""
    config = tiny(**{"task": "corruption"})
    system, model, batch = BUILD["symnorm"](config), Symnorm(config), batch_of(config)
    del batch["hidden"]
    assert system.passes == 1 and system.asks == () and BUILD["symnorm"](tiny()).asks == ("hidden",)
    model.fill = lambda variables, image, hidden: image + 100 * hidden
    value, _ = jax.jit(lambda batch: model.unet_loss({"stats": {}}, batch, jax.random.key(0)))(batch)
    keys = example_keys(jax.random.key(0), batch["index"])
    changed = jax.jit(lambda image: corrupt(image, batch["brain"], keys, config.corruption))(batch["image"])
    assert value == pytest.approx(float(jnp.abs(changed - batch["image"]).mean()), rel=1e-4) and value > 0.01
    assert (model.residual({}, batch).map == 0).all()


def test_the_u_net_learns_to_undo_corruption():
    model, variables, batch = built(**{"task": "corruption"})
    optimizer, waves = optax.adam(3e-3), jnp.sin(jnp.arange(16) / 3)
    batch |= {"image": 0.5 + 0.3 * jnp.broadcast_to(waves[:, None, None], batch["image"].shape)}
    state = optimizer.init(variables["params"])

    @jax.jit
    def step(params, state, key):
        loss = lambda params: model.unet_loss({"params": params, "stats": {}}, batch, key)[0]  # noqa: E731
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    params, losses = variables["params"], []
    for key in jax.random.split(jax.random.key(0), 50):
        params, state, value = step(params, state, key)
        losses.append(float(value))
    assert np.mean(losses[-10:]) < 0.4 * np.mean(losses[:10])


def test_several_covers_are_averaged():
    one, variables, batch = built()
    four = Symnorm(tiny(**{"mask.covers": 4}))
    first, mean = (model.reconstruct(variables, batch["image"]) for model in (one, four))
    assert four.covers.shape[0] == 4 * one.covers.shape[0] and jnp.abs(first - mean).max() > 1e-4


def test_the_raw_map_is_signed_and_empty_outside_the_brain():
    model, variables, batch = built()
    brain = batch["brain"].at[:, :4].set(0)
    found = model.residual(variables, batch | {"brain": brain})
    plain = (batch["image"] - model.reconstruct(variables, batch["image"])) * brain
    np.testing.assert_allclose(found.map, plain, atol=1e-5)
    assert found.map.min() < 0 < found.map.max()


def test_the_vae_sees_by_how_much_a_map_is_beyond_the_threshold():
    model, variables, batch = built(**{"difference.threshold": 3.0})
    z = jnp.array([-5.0, -3.0, 0.0, 2.9, 3.5])
    np.testing.assert_allclose(model.embedded_map({"difference": z}) * model.loss.scale, [-2, 0, 0, 0, 0.5], atol=1e-6)
    whole = built(**{"difference.threshold": 0.0})[0].embedded_map({"difference": z})
    np.testing.assert_allclose(whole * model.loss.scale, z, atol=1e-6)
    quiet = batch | {"difference": jnp.clip(batch["difference"], -3, 3)}
    expected = model.embed(variables, batch | {"difference": 0 * batch["difference"]}).z
    np.testing.assert_array_equal(model.embed(variables, quiet).z, expected)
    assert jnp.abs(model.embed(variables, batch).z - expected).max() > 1e-3


def test_embedding_and_the_vae_s_loss_ask_no_u_net():
    model, variables, batch = built()
    without = {"params": {"vae": variables["params"]["vae"]}, "stats": {}}
    asked = {name: batch[name] for name in ("brain", "index", "difference", "progress")}
    value, _ = model.vae_loss(without, asked, jax.random.key(0))
    assert np.isfinite(value) and model.embed(without, asked).z.shape == (2, model.vae.latent)


def test_dissimilarity_is_added_at_its_weight():
    model, variables, batch = built(**{"loss.ssim": 0.5})
    value, aux = model.unet_loss(variables, batch, jax.random.key(0))
    np.testing.assert_allclose(value, aux.metrics["reconstruction"] + 0.5 * aux.metrics["ssim"], rtol=1e-5)
    assert aux.metrics["ssim"] > 0


def test_kl_divergence_is_warmed_up():
    model, variables, batch = built(**{"loss.warmup": 0.5})
    total = {}
    for progress in (0.0, 0.25, 0.5, 1.0):
        value, aux = model.vae_loss(variables, batch | {"progress": jnp.float32(progress)}, jax.random.key(0))
        total[progress] = float((value - aux.metrics["nll"]) / aux.metrics["kl"])
    np.testing.assert_allclose(list(total.values()), [0, 0.05, 0.1, 0.1], atol=1e-3)


def test_scores_do_not_depend_on_the_rest_of_the_batch():
    model, variables, batch = built()
    both = lambda batch: (model.embed(variables, batch).z, model.residual(variables, batch))  # noqa: E731
    z, together = both(batch)
    for i in range(2):
        names = ("image", "brain", "index", "difference")
        own, alone = both({name: batch[name][i : i + 1] for name in names})
        np.testing.assert_allclose(own[0], z[i], atol=1e-4)
        np.testing.assert_allclose(alone.scalars["mse"][0], together.scalars["mse"][i], rtol=1e-4)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"difference.kind": "ratio"}, "difference.kind='ratio'; one of .*absolute"),
        ({"task": "denoising"}, "task='denoising'; one of .'corruption', 'masking'. is allowed"),
        ({"corruption.grid": 17}, "corruption.grid=17; 1 to 16 cells a side are allowed"),
        ({"loss.reconstruction": "huber"}, "loss.reconstruction='huber'; one of"),
        ({"unet.widths": (8,) * 6}, "data.size=.* two sides that divide by 32"),
    ],
)
def test_unknown_choices_are_refused_by_name(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        BUILD["symnorm"](tiny(**changes))

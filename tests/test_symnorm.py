"""The primary system: nothing leaks from hidden pixels, and every choice of the config is heard."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import base, finish
from symnorm_jax.errors import ConfigError
from symnorm_jax.geometry import mirror_batch
from symnorm_jax.masking import PARTITIONS, widen
from symnorm_jax.systems import BUILD
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
        "progress": jnp.float32(0.5),
    }


def built(**changes):
    config = tiny(**changes)
    batch = batch_of(config)
    model = Symnorm(config)
    variables = model.init(jax.random.key(0), batch)
    residual = {"sum": jnp.full(config.data.size, 5.0), "weight": jnp.full(config.data.size, 50.0)}
    return model, {**variables, "stats": {"residual": residual}}, batch


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
    found = system.embed(variables, batch)
    assert found.z.shape == (2, config.vae.latent) and found.map.shape == batch["image"].shape
    assert found.scalars["mse"].shape == (2,) and np.isfinite(found.z).all()


def test_several_covers_are_averaged():
    one, variables, batch = built()
    four = Symnorm(tiny(**{"mask.covers": 4}))
    first, mean = (model.reconstruct(variables, batch["image"]) for model in (one, four))
    assert four.covers.shape[0] == 4 * one.covers.shape[0] and jnp.abs(first - mean).max() > 1e-4


def test_difference_maps_by_kind():
    model, variables, batch = built()
    reconstruction = batch["image"] + 0.1 * jnp.sign(batch["image"] - 0.5)
    plain = batch["image"] - reconstruction
    expected = {"signed": plain, "absolute": abs(plain), "squared": plain**2}
    expected |= {"positive": jnp.maximum(plain, 0), "negative": jnp.maximum(-plain, 0)}
    for kind, value in expected.items():
        other = Symnorm(tiny(**{"difference.kind": kind, "difference.relative": False, "difference.blur": 0.0}))
        np.testing.assert_allclose(other.difference_map(variables, batch, reconstruction), value, atol=1e-6)


def test_relative_difference_is_in_healthy_residuals():
    model, variables, batch = built()
    reconstruction = batch["image"] - 0.2
    np.testing.assert_allclose(model.difference_map(variables, batch, reconstruction), 2.0, rtol=1e-3)


def test_the_map_is_positive_and_empty_outside_the_brain():
    model, variables, batch = built()
    brain = batch["brain"].at[:, :4].set(0)
    found = model.embed(variables, batch | {"brain": brain})
    assert (found.map >= 0).all() and (found.map * (1 - brain) == 0).all() and found.map.max() > 0


def test_the_residual_is_remembered_where_pixels_were_hidden():
    model, variables, batch = built()
    hidden = widen(batch["hidden"], model.mask.patch)
    before, (_, aux) = variables["stats"]["residual"], model.unet_loss(variables, batch, jax.random.key(0))
    expected = jnp.abs(model.fill(variables, batch["image"], hidden) - batch["image"]) * hidden
    after = aux.stats["residual"]
    np.testing.assert_allclose(after["sum"], before["sum"] * 0.99 + expected.sum((0, -1)), rtol=1e-4)
    np.testing.assert_allclose(after["weight"], before["weight"] * 0.99 + hidden.sum((0, -1)), rtol=1e-5)


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
    together = model.embed(variables, batch)
    for i in range(2):
        alone = model.embed(variables, {name: batch[name][i : i + 1] for name in ("image", "brain", "index")})
        np.testing.assert_allclose(alone.z[0], together.z[i], atol=1e-4)
        np.testing.assert_allclose(alone.scalars["mse"][0], together.scalars["mse"][i], rtol=1e-4)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"difference.kind": "ratio"}, "difference.kind='ratio'; one of .*absolute"),
        ({"loss.reconstruction": "huber"}, "loss.reconstruction='huber'; one of"),
        ({"loss.warmup": 0.0}, "loss.warmup=0.0; a positive number"),
        ({"unet.widths": (8,) * 6}, "data.size=.* two sides that divide by 32"),
    ],
)
def test_unknown_choices_are_refused_by_name(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        BUILD["symnorm"](tiny(**changes))

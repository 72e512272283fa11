"""Patched diffusion: its schedule, its patches, and what the denoiser is shown on the way back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import base, finish
from symnorm_jax.errors import ConfigError
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.rivals.pddpm import PatchedDiffusion, _patches

VARIABLES = {"params": {"baseline": {}}, "stats": {}}
BETAS = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
SIGNAL = np.exp(np.cumsum(np.log1p(-np.asarray(BETAS))))  # share of the power that is signal, after 1 to 1000 timesteps


pytestmark = pytest.mark.usefixtures("quick_compilation")


class Denoiser:
    """Stands in for the network: gives the answers it was given, and remembers what it was shown."""

    def __init__(self, answer):
        self.answer, self.seen = answer, []

    def apply(self, params, x):
        self.seen.append(np.asarray(x))
        return self.answer


def config(**changes):
    config = finish(base(), "tiny,pddpm")
    config.update_from_flattened_dict({"data.size": (16, 16), **changes})
    return config


def batch_of(count=2, seed=0):
    image = np.random.default_rng(seed).uniform(size=(count, 16, 16, 1)).astype(np.float32)
    return {"image": jnp.asarray(image), "brain": jnp.ones_like(image), "index": jnp.arange(count)}


def with_denoiser(answer, **changes):
    model = PatchedDiffusion(config(**changes))
    model.net = Denoiser(answer)
    return model


def test_the_schedule_is_the_linear_one():
    model = PatchedDiffusion(config())
    np.testing.assert_allclose(model.signal, SIGNAL, rtol=1e-5)
    assert model.signal[0] == pytest.approx(0.9999) and model.signal[-1] < 1e-4  # all but clean, all but noise


@pytest.mark.parametrize("size, count", [((16, 16), 2), ((16, 24), 4), ((16, 20), 3), ((8, 8), 1)])
def test_patches_tile_the_slice(size, count):
    patches = _patches(size, count)
    assert patches.shape == (count**2, *size, 1) and (patches.sum(0) == 1).all()
    for patch in patches[..., 0]:
        rows, columns = patch.any(1), patch.any(0)
        np.testing.assert_array_equal(patch, np.outer(rows, columns))
        for lines, side in ((rows, size[0]), (columns, size[1])):
            assert np.abs(np.diff(np.pad(lines, 1).astype(int))).sum() == 2 and abs(lines.sum() - side / count) < 1


@pytest.mark.parametrize("t", [0, 99, 499, 999])
def test_a_noised_patch_has_the_mean_and_variance_of_its_timestep(t):
    model, clean = PatchedDiffusion(config()), jnp.full((1, 16, 16, 1), 0.8)
    patch = jnp.asarray(_patches((16, 16), 2))[:1]
    draws = jax.random.normal(jax.random.key(0), (2000, 16, 16, 1))
    many = [jnp.broadcast_to(x, draws.shape) for x in (clean, patch)]
    found = model.noised(many[0], draws, many[1], jnp.full(len(draws), t))
    inside, outside = found[:, :8, :8], np.asarray(found)[np.asarray(many[1]) == 0]
    assert (outside == np.float32(0.8)).all() and outside.size == 2000 * 192
    assert inside.mean() == pytest.approx(0.8 * np.sqrt(SIGNAL[t]), abs=0.01)
    assert inside.var() == pytest.approx(1 - SIGNAL[t], rel=0.02)


def test_a_denoiser_that_knows_gives_back_the_slice():
    """And is asked patches times steps times, which is what the system says it costs."""
    batch, changes = batch_of(), {"diffusion.steps": 3, "diffusion.patches": 2}
    model = with_denoiser(batch["image"], **changes)
    with jax.disable_jit():
        found = model.residual(VARIABLES, batch)
    np.testing.assert_array_equal(found.panels["reconstruction"], batch["image"])
    assert (found.map == 0).all() and (found.scalars["mae"] == 0).all()
    assert len(model.net.seen) == BUILD["pddpm"](config(**changes)).passes == 2**2 * 3


def test_the_denoiser_sees_one_noised_patch_of_each_slice():
    batch = batch_of()
    model = with_denoiser(batch["image"], **{"diffusion.steps": 1})
    with jax.disable_jit():
        model.residual(VARIABLES, batch)
    changed = [np.asarray(x[..., :1] != batch["image"]) for x in model.net.seen]
    for patch, where, seen in zip(_patches((16, 16), 2), changed, model.net.seen, strict=True):
        np.testing.assert_array_equal(where, np.broadcast_to(patch > 0, where.shape))
        level = np.broadcast_to(patch * np.sqrt(1 - SIGNAL[499]), where.shape)
        np.testing.assert_allclose(seen[..., 1:], level, rtol=1e-5)


def test_on_the_way_back_the_noise_of_a_right_prediction_stays_the_same_noise():
    """At timesteps 500, 375, 250, 125 the patch holds the slice and that noise, in the shares of its timestep."""
    image = batch_of()["image"]
    model = with_denoiser(image, **{"diffusion.steps": 4, "diffusion.start": 500})
    patch = jnp.broadcast_to(model.patches[1:2], image.shape)
    noise = jax.random.normal(jax.random.key(3), image.shape)
    model.refine(VARIABLES, image, patch, noise)
    assert len(model.net.seen) == 4
    for seen, t in zip(model.net.seen, (500, 375, 250, 125), strict=True):
        signal = SIGNAL[t - 1]
        expected = np.where(patch > 0, np.sqrt(signal) * image + np.sqrt(1 - signal) * noise, image)
        np.testing.assert_allclose(seen[..., :1], expected, atol=1e-4)


def test_the_loss_is_the_error_in_the_patch_and_the_brain():
    """A denoiser wrong by 0.3 everywhere loses 0.3; what is wrong outside its patch or the brain costs nothing."""
    batch = batch_of(4)
    brain = batch["brain"].at[:, :, ::4].set(0)
    wrong = batch["image"] + jnp.where(brain > 0, 0.3, 100.0)
    model = with_denoiser(wrong)
    value, aux = model.loss(VARIABLES, batch | {"brain": brain}, jax.random.key(0))
    assert value == pytest.approx(0.3, rel=1e-4) and aux.stats == {}
    (seen,) = model.net.seen
    level = seen[..., 1]
    shares = [np.unique(one[one > 0]) for one in level]
    assert all(len(share) == 1 for share in shares) and len(np.unique(shares)) == 4  # a timestep for each slice
    model.net.answer = batch["image"] + 100 * (level[..., None] == 0)
    assert model.loss(VARIABLES, batch, jax.random.key(0))[0] == 0


def test_noise_is_half_as_wide_as_the_range_of_the_brain():
    """At timestep 1000 there is nothing else; in a brain of twice the contrast it is twice as wide."""
    for contrast in (1.0, 2.0):
        batch = batch_of(8)
        batch["image"] *= contrast
        model = with_denoiser(batch["image"], **{"diffusion.start": 1000, "diffusion.steps": 1, "diffusion.patches": 1})
        with jax.disable_jit():
            model.residual(VARIABLES, batch)
        assert model.net.seen[0][..., 0].std() == pytest.approx(2 * float(batch["image"].std()), rel=0.05)


def test_noise_at_inference_belongs_to_the_sample():
    """Equal slices of other numbers get other noise, wherever they stand in the batch."""
    batch = batch_of()
    batch["image"] = batch["image"].at[1].set(batch["image"][0])
    model = with_denoiser(batch["image"], **{"diffusion.steps": 1})
    for index in ([4, 9], [9, 4]):
        with jax.disable_jit():
            model.residual(VARIABLES, batch | {"index": jnp.asarray(index)})
    first, second = np.split(np.stack(model.net.seen), 2)
    np.testing.assert_array_equal(first, second[:, ::-1])
    assert np.abs(first[0, 0] - first[0, 1]).max() > 0.1


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"diffusion.steps": 501}, "diffusion.steps=501 with diffusion.start=500"),
        ({"diffusion.steps": 0}, "diffusion.steps=0 with"),
        ({"diffusion.start": 1001}, "with diffusion.start=1001; 1 to start, to 1000, is allowed"),
        ({"diffusion.patches": 0}, "diffusion.patches=0; 1 to 16 a side"),
        ({"diffusion.patches": 17}, "diffusion.patches=17; 1 to 16 a side"),
        ({"data.size": (30, 30), "diffusion.patches": 6}, "two sides that divide by 4"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        BUILD["pddpm"](config(**changes))

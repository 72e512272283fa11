"""Changes of contrast: functions of an example's key alone, within the brain, and the fixed ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.systems.dal import SETTINGS
from symnorm_jax.systems import anatomy
from symnorm_jax.systems.contrast import FIXED, changed


def settings(**changes) -> ConfigDict:
    return ConfigDict(SETTINGS["dal"]["contrast"] | changes)


@pytest.fixture(scope="module")
def slices():
    """Four slices of two classes in their own unit, their brains, classes and keys."""
    rng = np.random.default_rng(0)
    brain = np.ones((4, 8, 8, 1), np.float32)
    brain[:, 0] = 0
    right = np.broadcast_to(np.arange(8)[None, :, None, None] >= 4, brain.shape)
    image = np.where(right, 0.8, 0.2) + 0.05 * rng.normal(size=brain.shape)
    image = anatomy.in_own_unit(jnp.asarray(image, jnp.float32), jnp.asarray(brain))[0]
    prior = np.concatenate([~right, right], -1) * brain
    return image, jnp.asarray(brain), jnp.asarray(prior), jax.random.split(jax.random.key(3), 4)


@pytest.mark.parametrize("repaint", [0.0, 1.0])
def test_a_key_decides_whatever_the_company(slices, repaint):
    of = jax.jit(lambda *given: changed(*given, settings(unchanged=0.0, repaint=repaint)))
    found = of(*slices)
    turned = of(*(x[::-1] for x in slices))
    np.testing.assert_allclose(found, turned[::-1], atol=1e-6)
    image, brain = slices[:2]
    assert (np.abs(found - image).max((1, 2, 3)) > 0.05).all() and not (found * (1 - brain)).any()
    inside = found[:, 1:]
    np.testing.assert_allclose(inside.mean((1, 2, 3)), 0.5, atol=1e-4)
    assert jnp.isfinite(found).all()


def test_no_change_is_the_identity(slices):
    found = jax.jit(lambda *given: changed(*given, settings(unchanged=1.0)))(*slices)
    np.testing.assert_array_equal(found, slices[0])


def test_fixed_changes_keep_the_range_and_are_what_they_are_called():
    x = np.linspace(0, 1, 101)
    for name, curve in FIXED.items():
        y = curve(x)
        assert y.min() >= 0 and y.max() <= 1 and np.ptp(y) > 0.7, name
    falls = {name: (np.diff(curve(x)) <= 0).all() for name, curve in FIXED.items()}
    assert [name for name in FIXED if falls[name]] == ["falling", "T2-like"]
    fluid, grey, white = FIXED["FLAIR-like"](np.array([0.15, 0.6, 0.9]))
    assert fluid < white < grey

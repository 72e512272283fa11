"""Discrete anatomy and imaging information: the formulas that dal is made of, on images that can be drawn by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from symnorm_jax.systems import anatomy

LOGITS = jnp.array([[[[0.3, -1.0, 0.2], [2.0, 2.0, 0.0]]]])  # [1, 1, 2, 3]; the second pixel is a tie
BRAIN = jnp.ones((1, 8, 8, 1))
imaging = jax.jit(anatomy.imaging)


def halves():
    """Two classes, the left half of 0.2 and the right half of 0.8."""
    right = (jnp.arange(8) >= 4).astype(jnp.float32)[None, :, None, None] * jnp.ones((1, 8, 8, 1))
    return 0.2 + 0.6 * right, jnp.concatenate([1 - right, right], -1)


def test_one_class_a_pixel_and_the_gradient_of_softmax():
    y = anatomy.onehot(LOGITS, "straight_through")
    np.testing.assert_array_equal(y[0, 0], [[1, 0, 0], [1, 0, 0]])
    weight = jnp.array([[[[0.5, -1.0, 2.0]]]])
    hard, soft = (jax.grad(lambda x, k=k: (anatomy.onehot(x, k) * weight).sum()) for k in ("straight_through", "soft"))
    np.testing.assert_allclose(hard(LOGITS), soft(LOGITS), rtol=1e-6)
    step = jnp.zeros_like(LOGITS).at[0, 0, 0, 1].set(1e-2)
    rise = [(jax.nn.softmax(LOGITS + sign * step) * weight).sum() for sign in (1, -1)]
    np.testing.assert_allclose(hard(LOGITS)[0, 0, 0, 1], (rise[0] - rise[1]) / 2e-2, rtol=1e-2)


def test_gumbel_draws_by_key_and_without_one_takes_the_largest():
    keys = jax.random.split(jax.random.key(0), 400)
    drawn = anatomy.onehot(jnp.broadcast_to(LOGITS, (400, *LOGITS.shape[1:])), "gumbel", keys)
    np.testing.assert_allclose(drawn.mean(0), jax.nn.softmax(LOGITS)[0], atol=0.08)
    assert (drawn.sum(-1) == 1).all()
    np.testing.assert_array_equal(anatomy.onehot(LOGITS, "gumbel"), anatomy.onehot(LOGITS, "straight_through"))


def test_imaging_information_is_that_of_each_class_and_finite_for_an_empty_one():
    image, y = halves()
    theta = imaging(image, jnp.concatenate([y, jnp.zeros_like(image)], -1))
    np.testing.assert_allclose(theta[0], [[0.2, 0.03, 0.5], [0.8, 0.03, 0.5], [0.5, 0.3, 0.0]], atol=1e-5)
    slope = jax.jit(jax.grad(lambda y: imaging(image, y).sum()))(jnp.concatenate([y, 0 * image], -1))
    assert jnp.isfinite(slope).all()


def test_a_lesion_hardly_moves_imaging_information():
    """A fifth of a class as bright as the other moves its mean by less than a twentieth of the way."""
    image, y = halves()
    ill = image.at[0, :4, :8].set(jnp.where(jnp.arange(32).reshape(4, 8, 1) % 5 == 0, 0.8, 0.2))
    assert 0.2 < imaging(ill, y)[0, 0, 0] < 0.2 + 0.05 * 0.6


def test_evidence_is_the_same_under_any_affine_change_and_names_the_class(rng):
    image, y = halves()
    image += 0.1 * rng.normal(size=image.shape).astype(np.float32)
    said = anatomy.evidence(image, imaging(image, y))
    other = anatomy.evidence(3 - 2 * image, imaging(3 - 2 * image, y))
    np.testing.assert_allclose(said, other, atol=1e-3)
    assert ((said.argmax(-1) == y.argmax(-1)).mean() > 0.95) and said.min() >= -2 and said.max() <= 0


def test_the_table_paints_classes_and_its_spread_is_that_of_the_mixture():
    image, y = halves()
    theta = imaging(image, y)
    np.testing.assert_allclose(anatomy.table(y, theta), image, atol=1e-5)
    even = jnp.full_like(y, 0.5)
    expected = np.sqrt(0.03**2 + 0.3**2 + anatomy.FLOOR**2)  # within classes, between them, and the floor
    np.testing.assert_allclose(anatomy.expected_spread(even, theta), expected, rtol=1e-4)


def test_edges_are_thin_and_blind_to_which_classes_meet():
    _, y = halves()
    found = anatomy.edges(y, BRAIN, "boundary")
    assert found[0, :, :, 0].sum() == 8 and (found[0, 3, :, 0] == 1).all() and not found[..., 1].any()
    np.testing.assert_array_equal(found, anatomy.edges(y[..., ::-1], BRAIN, "boundary"))
    turned = anatomy.edges(y[:, ::-1], BRAIN, "boundary")[:, ::-1]
    np.testing.assert_array_equal(turned[:, 1:, :, 0], found[:, :-1, :, 0])  # the mirror image, but for one pixel
    rim = anatomy.edges(y, BRAIN.at[:, 6:].set(0), "boundary")
    assert (rim[0, 5, :, 0] == 1).all() and rim[0, :, :, 0].sum() == 16
    assert (anatomy.edges(y, BRAIN, "none") == y).all()


@pytest.mark.parametrize("paint, erase", [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)])
def test_corruption_paints_classes_or_erases_edges_and_nothing_else(paint, erase):
    settings = ConfigDict({"blobs": 2, "paint": paint, "erase": erase, "radii": (6.0, 12.0)})
    keys, (_, y) = jax.random.split(jax.random.key(1), 3), halves()
    y, brain = (jnp.repeat(x, 3, 0) for x in (y, BRAIN.at[:, 0].set(0)))
    of = jax.jit(lambda *given: anatomy.corrupt(*given, settings, spacing=3.0))
    other, keep = of(y * brain, brain, keys)
    assert (other.sum(-1, keepdims=True) == brain).all()
    assert (
        ((other != y * brain).any() == bool(paint))
        and ((keep == 0).any() == bool(erase))
        and set(np.unique(keep)) <= {0, 1}
    )
    turned, _ = of((y * brain)[::-1], brain[::-1], keys[::-1])
    np.testing.assert_array_equal(other, turned[::-1])


def test_units_are_of_the_brain_alone_whatever_the_data_s(rng):
    image = rng.normal(2, 3, BRAIN.shape).astype(np.float32)
    brain = BRAIN.at[:, :2].set(0)
    own, unit = anatomy.in_own_unit(image, brain)
    other, _ = anatomy.in_own_unit(100 + 7 * image, brain)
    np.testing.assert_allclose(own, other, atol=1e-4)
    assert not own[:, :2].any() and abs(own[:, 2:].mean() - 0.5) < 1e-5 and abs(own[:, 2:].std() - 0.25) < 1e-5
    np.testing.assert_allclose(unit.undo(own)[:, 2:], image[:, 2:], atol=1e-4)

"""Losses are per example, heed their weights, and agree with independent computations."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from symnorm_jax import losses


@pytest.fixture
def images(rng):
    return tuple(jnp.asarray(rng.uniform(size=(3, 12, 10, 1)), jnp.float32) for _ in range(2))


@pytest.mark.parametrize("loss, power", [(losses.l1, 1), (losses.l2, 2)])
def test_errors_are_means_over_the_weighted_pixels(loss, power, images, rng):
    weight = jnp.asarray(rng.uniform(size=(3, 12, 10, 1)) < 0.4, jnp.float32)
    a, b = images
    for i, value in enumerate(loss(a, b, weight)):
        chosen = np.asarray(weight[i]) > 0
        expected = (np.abs(np.asarray(a[i]) - np.asarray(b[i]))[chosen] ** power).mean()
        assert value == pytest.approx(expected, rel=1e-5)
    assert (loss(a, b, 0 * weight) == 0).all()


def test_dissimilarity_is_zero_for_equal_and_grows_with_noise(images, rng):
    a, weight = images[0], jnp.ones((3, 12, 10, 1))
    noise = jnp.asarray(rng.normal(size=a.shape), jnp.float32)
    values = [float(losses.dissimilarity(a + s * noise, a, weight).mean()) for s in (0.0, 0.05, 0.3)]
    assert values[0] == pytest.approx(0, abs=1e-5) and values[0] < values[1] < values[2] <= 2


def test_gaussian_likelihood_sums_over_pixels(images):
    a, b = images
    weight = jnp.ones((3, 12, 10, 1))
    constant = 120 * 0.5 * np.log(2 * np.pi)
    for i, value in enumerate(losses.gaussian_nll(a, b, weight)):
        assert value + constant == pytest.approx(-stats.norm.logpdf(np.asarray(a[i] - b[i])).sum(), rel=1e-5)


def test_kl_divergence_against_quadrature():
    mean, log_variance = 0.7, -0.5
    q, p = stats.norm(mean, np.exp(log_variance / 2)), stats.norm()
    x = np.linspace(-12, 12, 20001)
    expected = np.trapezoid(q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), x)
    value = losses.kl_to_standard_normal(jnp.full((1, 3), mean), jnp.full((1, 3), log_variance))
    assert value[0] == pytest.approx(3 * expected, rel=1e-4)


def test_blur_is_gaussian_and_stays_in_the_brain(images):
    image, everywhere = images[0], jnp.ones((3, 12, 10, 1))
    found = losses.gaussian_blur(image, everywhere, 1.2)
    inner = ndimage.gaussian_filter(np.asarray(image[0, ..., 0]), 1.2, truncate=10)[5:7, 4:6]
    np.testing.assert_allclose(found[0, 5:7, 4:6, 0], inner, atol=2e-3)
    brain = everywhere.at[:, :6].set(0)
    flat = losses.gaussian_blur(2 * brain, brain, 1.2)
    np.testing.assert_allclose(flat, 2 * brain, atol=1e-5)  # the dark outside does not bleed in

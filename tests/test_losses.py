"""Losses are per example, heed their weights, and agree with independent computations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
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


def contrast(one, other, temperature, patients):
    """Equation 1 of Chen et al. (2020), term by term, in both directions, in float64."""
    views = [np.asarray(x, np.float64) for x in (*one, *other)]
    count, values = len(one), []

    def likeness(a, b):
        return np.exp(a @ b / np.linalg.norm(a) / np.linalg.norm(b) / temperature)

    for i, view in enumerate(views):
        partner = (i + count) % (2 * count)
        total = likeness(view, views[partner])
        for k, negative in enumerate(views):
            if k not in (i, partner) and patients[k % count] != patients[i % count]:
                total += likeness(view, negative)
        values.append(-np.log(likeness(view, views[partner]) / total))
    return (np.array(values[:count]) + values[count:]) / 2


@pytest.fixture
def projections(rng):
    return tuple(jnp.asarray(rng.normal(size=(6, 5)), jnp.float32) for _ in range(2))


@pytest.mark.parametrize("temperature", [0.5, 0.1])
@pytest.mark.parametrize("patients", [None, (4, 7, 4, 9, 7, 4)])
def test_contrast_is_that_of_loops(projections, temperature, patients):
    people = None if patients is None else jnp.array(patients)
    found = losses.nt_xent(*projections, temperature, people)
    expected = contrast(*projections, temperature, range(6) if patients is None else patients)
    assert found.shape == (6,) and found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)  # a difference of logarithms near 10


@pytest.mark.parametrize("patients", [tuple(range(6)), (4, 7, 4, 9, 7, 4)])
def test_gradient_of_contrast_is_that_of_finite_differences(projections, patients):
    one, other = projections
    gradient = jax.grad(lambda x: losses.nt_xent(x, other, 0.5, jnp.array(patients)).sum())(one)
    for place in np.ndindex(one.shape):
        step = np.zeros(one.shape)
        step[place] = 1e-5
        ends = [contrast(np.asarray(one, np.float64) + s * step, other, 0.5, patients).sum() for s in (1, -1)]
        assert gradient[place] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-4)


def test_contrast_by_hand():
    """Two examples along two axes, views alike: 1 positive of cosine 1, 2 negatives of cosine 0, at temperature 1/2."""
    views = jnp.array([[3.0, 0.0], [0.0, 5.0]])
    np.testing.assert_allclose(losses.nt_xent(views, views), np.log(1 + 2 * np.exp(-2)), rtol=1e-5)
    np.testing.assert_allclose(losses.nt_xent(views, views, patients=jnp.array([1, 1])), 0, atol=1e-5)  # no negatives
    np.testing.assert_allclose(losses.nt_xent(views[:1], views[:1]), 0, atol=1e-5)


def test_contrast_is_finite_where_exponentials_are_not(projections):
    one, other = projections
    sharp = losses.nt_xent(one, other, 1e-3)  # exp(1000) is no float32
    assert np.isfinite(sharp).all() and (sharp > 0).any()
    np.testing.assert_allclose(losses.nt_xent(1e8 * one, 1e-4 * other), losses.nt_xent(one, other), rtol=1e-5)
    zero = one.at[0].set(0)
    assert all(np.isfinite(x).all() for x in (losses.nt_xent(zero, other), gradient_of_contrast(zero, other)))
    assert losses.nt_xent(one.astype(jnp.bfloat16), other.astype(jnp.bfloat16)).dtype == jnp.float32


def gradient_of_contrast(one, other):
    return jax.grad(lambda x: losses.nt_xent(x, other).sum())(one)


@pytest.mark.two_devices
def test_contrast_sees_the_negatives_of_every_device(projections):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    spread = jax.device_put(projections, NamedSharding(mesh, PartitionSpec("data")))
    for of in (losses.nt_xent, gradient_of_contrast):
        np.testing.assert_allclose(jax.jit(of)(*spread), of(*projections), rtol=1e-4, atol=1e-5)
    alone = jnp.concatenate([losses.nt_xent(*(x[half] for x in projections)) for half in (slice(3), slice(3, 6))])
    assert (losses.nt_xent(*projections) > alone).all()

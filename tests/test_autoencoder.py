"""Parts of the rivals that reconstruct: the autoencoder, the loss of the VAE, settings that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import base, finish
from symnorm_jax import losses
from symnorm_jax.checks import checked
from symnorm_jax.errors import ConfigError
from symnorm_jax.models.autoencoder import Autoencoder
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.rivals.reconstruction import NET

pytestmark = pytest.mark.usefixtures("quick_compilation")


def net(**changes):
    return Autoencoder(**{"widths": (8, 16), "size": (32, 24), "latent": 10, **changes})


def shapes(net):
    return jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *net.size, net.channels)))


def test_autoencoder_narrows_and_widens():
    """Two levels halve 32 x 24 pixels to 8 x 6, where 16 / 8 = 2 channels enter the dense bottleneck."""
    one, x = net(), jnp.zeros((3, 32, 24, 1))
    variables = shapes(one)
    encode, decode = ((lambda v, x, m=m: one.apply(v, x, method=m)) for m in ("encode", "decode"))
    (mean, none), sides = jax.eval_shape(encode, variables, x), variables["params"]["mean"]["kernel"].shape
    assert mean.shape == (3, 10) and none is None and sides == (8 * 6 * 2, 10)
    assert jax.eval_shape(decode, variables, mean).shape == jax.eval_shape(one.apply, variables, x).shape == x.shape
    two = net(variational=True)
    both = jax.eval_shape(lambda v, x: two.apply(v, x, method="encode"), shapes(two), x)
    assert [one.shape for one in both] == [(3, 10), (3, 10)]


def test_parameters_of_the_autoencoder_by_hand():
    down = (25 * 1 * 8 + 2 * 8) + (25 * 8 * 16 + 2 * 16)  # 5 x 5 kernels without bias, scale and shift
    bottleneck = (16 * 2 + 2) + (8 * 6 * 2 * 10 + 10) + (10 * 8 * 6 * 2 + 8 * 6 * 2) + (2 * 16 + 16)
    up = (25 * 16 * 16 + 2 * 16) + (16 * 64 + 64) + (25 * 16 * 8 + 2 * 8) + (8 * 32 + 32)
    count = lambda net: sum(x.size for x in jax.tree.leaves(shapes(net)["params"]))  # noqa: E731
    assert count(net()) == down + bottleneck + up + (8 + 1)
    assert count(net(variational=True)) == count(net()) + (8 * 6 * 2 * 10 + 10)


@pytest.fixture(scope="module")
def vae():
    """The system on slices of 8 x 8, its network with a posterior that is not standard, a batch, and its loss."""
    config = finish(base(), "tiny,vae")
    config.update_from_flattened_dict({"data.size": (8, 8), "autoencoder.widths": (8,), "autoencoder.latent": 4})
    system = BUILD["vae"](config)
    rng = np.random.default_rng(0)
    brain = jnp.ones((3, 8, 8, 1)).at[:, :2].set(0)
    image = jnp.asarray(rng.uniform(size=(3, 8, 8, 1)), jnp.float32) * brain
    batch = {"image": image, "brain": brain, "index": jnp.arange(3)}
    variables = jax.jit(system.init)(jax.random.key(0), batch)
    kernel = variables["params"][NET]["log_variance"]["kernel"]
    variables["params"][NET]["log_variance"]["kernel"] = jnp.asarray(rng.normal(size=kernel.shape), jnp.float32)
    return system, variables, batch, net(widths=(8,), size=(8, 8), latent=4, variational=True)


def test_the_vae_minimises_error_and_divergence(vae):
    """Errors of one sample of the posterior, in shares of the range and summed over the brain, and the divergence."""
    system, variables, batch, net = vae
    params, loss = {"params": variables["params"][NET]}, jax.jit(system.stages[NET].loss)
    value, aux = loss(variables, batch, jax.random.key(1))
    mean, log_variance = net.apply(params, batch["image"], method="encode")
    assert np.abs(log_variance).max() > 0.1
    kl = losses.kl_to_standard_normal(mean, log_variance).mean()
    np.testing.assert_allclose(aux.metrics["kl"], kl, rtol=1e-5)
    keys = [jax.random.fold_in(jax.random.key(1), i) for i in range(3)]
    sample = mean + jnp.exp(log_variance / 2) * jnp.stack([jax.random.normal(key, (4,)) for key in keys])
    residual = (net.apply(params, sample, method="decode") - batch["image"]) * batch["brain"]
    ranges = np.array([4 * one[2:].std() for one in np.asarray(batch["image"])])
    shares = np.abs(residual).sum((1, 2, 3)) / ranges
    np.testing.assert_allclose(value - kl, shares.mean(), rtol=1e-4)  # of a difference


def test_the_vae_is_scored_from_its_posterior_mean(vae):
    system, variables, batch, net = vae
    both, params = jax.jit(lambda *x: (system.embed(*x), system.residual(*x))), {"params": variables["params"][NET]}
    first, other = both(variables, batch), both(variables, batch | {"index": batch["index"] + 7})
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), first, other))
    np.testing.assert_allclose(first[0].z, net.apply(params, batch["image"], method="encode")[0], rtol=1e-4, atol=1e-5)
    residual = (batch["image"] - net.apply(params, batch["image"])) * batch["brain"]
    np.testing.assert_allclose(first[1].map, residual, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ae", "vae", "context_encoder", "dae"])
def test_slices_that_a_network_cannot_halve_are_refused(name):
    config = finish(base(), f"tiny,{name}")
    config.data.size = (32, 30)
    with pytest.raises(ConfigError, match=r"data.size=\(32, 30\); two sides that divide by 4"):
        BUILD[name](config)


@pytest.mark.parametrize(
    "name, changes, sentence",
    [
        ("dae", {"noise.grid": 33}, "noise.grid=33; 1 to 32 cells a side"),
        ("context_encoder", {"erasing.sides": (0.5, 0.2)}, r"erasing.sides=.*two ascending shares"),
        ("context_encoder", {"erasing.rectangles": 0}, "erasing.rectangles=0; a whole number from 1"),
        ("ae", {"mask.patch": 5}, "mask.patch=5 does not fit images"),
    ],
)
def test_settings_that_would_only_fail_later_are_refused(name, changes, sentence):
    config = finish(base(), f"tiny,{name}")
    config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=sentence):
        checked(config)

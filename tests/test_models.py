"""Networks keep shapes in two and three dimensions, their folds undo each other, and how they compute is no matter."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from symnorm_jax.models.autoencoder import Autoencoder, BetaVAE
from symnorm_jax.models.unet import UNet, Upsample, pixel_shuffle, pixel_unshuffle


@pytest.mark.parametrize("shape", [(2, 8, 12, 3), (1, 4, 8, 6, 2)])
def test_folding_pixels_into_channels_loses_nothing(shape, rng):
    x = jnp.asarray(rng.normal(size=shape))
    folded = pixel_unshuffle(x, 2)
    assert folded.shape == (shape[0], *(side // 2 for side in shape[1:-1]), shape[-1] * 2 ** (len(shape) - 2))
    np.testing.assert_array_equal(pixel_shuffle(folded, shape[-1], 2), x)


def test_folding_keeps_neighbours_together():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(pixel_unshuffle(x, 2)[0, 0, 0], [0, 1, 4, 5])


def test_upsampling_equals_a_transposed_convolution(rng):
    """A transposed convolution of kernel and stride 2 writes each pixel's 2 x 2 block; so does the pixel shuffle."""
    x, up = jnp.asarray(rng.normal(size=(1, 3, 5, 4)), jnp.float32), Upsample(2)
    variables = up.init(jax.random.key(0), x)
    kernel = variables["params"]["Conv_0"]["kernel"][0, 0].reshape(4, 2, 2, 2)
    expected = np.einsum("bxyc,cijd->bxiyjd", x, kernel).reshape(1, 6, 10, 2)
    np.testing.assert_allclose(up.apply(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize("shape, stem", [((2, 16, 24, 2), 1), ((2, 16, 24, 2), 2), ((1, 8, 8, 8, 2), 2)])
def test_unet_keeps_the_grid(shape, stem):
    net, x = UNet(widths=(8, 16), stem=stem, channels=3), jnp.ones(shape)
    out, _ = jax.eval_shape(net.init_with_output, jax.random.key(0), x)
    assert out.shape == (*shape[:-1], 3) and out.dtype == jnp.float32


def test_vae_embeds_and_decodes():
    net, x = BetaVAE(widths=(8, 16), size=(16, 24), latent=10), jnp.ones((3, 16, 24, 1))
    variables = jax.jit(net.init)(jax.random.key(0), x, jnp.zeros((3, 10)))
    decoded, mean, log_variance = net.apply(variables, x, jnp.zeros((3, 10)))
    assert decoded.shape == x.shape and mean.shape == log_variance.shape == (3, 10)
    np.testing.assert_allclose(net.apply(variables, x, method="encode"), mean, rtol=1e-5, atol=1e-6)


def test_vae_samples_by_the_noise_it_is_given(rng):
    net, x = BetaVAE(widths=(8,), size=(8, 8), latent=4), jnp.asarray(rng.normal(size=(1, 8, 8, 1)), jnp.float32)
    variables = net.init(jax.random.key(0), x, jnp.zeros((1, 4)))
    still, moved = (net.apply(variables, x, jnp.full((1, 4), noise))[0] for noise in (0.0, 3.0))
    assert np.abs(still - moved).max() > 1e-3


KINDS = ("conv_general_dilated", "dot_general", "reduce_sum")
NETWORKS = {
    "unet": (partial(UNet, widths=(8, 16), stem=2), ()),
    "vae": (partial(BetaVAE, widths=(8, 16), size=(16, 16), latent=10), ((2, 10),)),
    "autoencoder": (partial(Autoencoder, widths=(8, 16), size=(16, 16), latent=8), ()),
}


def inputs(name: str, rng) -> list[jax.Array]:
    """An image, and the noise of the VAE."""
    shapes = ((2, 16, 16, 1), *NETWORKS[name][1])
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def equations(jaxpr):
    """Those of a jaxpr and of the jaxprs in it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in core.jaxprs_in_params(equation.params):
            yield from equations(inner)


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_is_inside_and_float32_around_it(name, rng):
    make, x = NETWORKS[name][0], inputs(name, rng)
    net = make(dtype=jnp.bfloat16)
    variables = jax.jit(net.init)(jax.random.key(0), *x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    found = list(equations(jax.make_jaxpr(net.apply)(variables, *x).jaxpr))
    types = {kind: {e.outvars[0].aval.dtype.name for e in found if e.primitive.name == kind} for kind in KINDS}
    assert types["conv_general_dilated"] == {"bfloat16"} and types["dot_general"] <= {"bfloat16"}
    assert types["reduce_sum"] == (set() if name == "vae" else {"float32"})  # the statistics of norms
    rough, exact = (jax.tree.leaves(jax.jit(one.apply)(variables, *x))[0] for one in (net, make()))
    assert rough.dtype == jnp.float32
    error = jnp.linalg.norm(rough - exact) / jnp.linalg.norm(exact)
    assert 0 < error < 0.03  # bfloat16 has 8 bits


@pytest.mark.parametrize("name", NETWORKS)
def test_computing_again_changes_nothing_but_what_is_kept(name, rng):
    make, x = NETWORKS[name][0], inputs(name, rng)
    plain, again = make(), make(remat=True)
    params = jax.jit(plain.init)(jax.random.key(0), *x)
    assert jax.tree.structure(params) == jax.tree.structure(jax.eval_shape(again.init, jax.random.key(0), *x))

    def loss(net):
        return lambda params: sum((out**2).sum() for out in jax.tree.leaves(net.apply(params, *x)))

    for one, other in zip(
        *(jax.tree.leaves(jax.jit(jax.value_and_grad(loss(net)))(params)) for net in (plain, again)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * float(jnp.abs(one).max()))
    assert kept(loss(again), params) < 0.7 * kept(loss(plain), params)


def kept(loss, params) -> int:
    """Bytes between the forward and the backward pass, beside the parameters."""
    _, backward = jax.eval_shape(lambda params: jax.vjp(loss, params), params)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(backward)) - sum(
        x.nbytes for x in jax.tree.leaves(params)
    )

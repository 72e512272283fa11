"""Counted arithmetic against that done by hand, and against XLA's where XLA counts."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from symnorm_jax.training import flops

SIDE = 8
PRODUCT = 2 * SIDE**3  # of two square matrices
SQUARE = jax.ShapeDtypeStruct((SIDE, SIDE), jnp.float32)


def counted(function, *arguments) -> float:
    return flops.count(jax.make_jaxpr(function)(*arguments).jaxpr)


def array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def convolution(stride: int = 1, dilation: int = 1, groups: int = 1):
    def of(x, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        steps = {"window_strides": (stride,) * 2, "padding": "SAME", "rhs_dilation": (dilation,) * 2}
        return lax.conv_general_dilated(x, kernel, **steps, dimension_numbers=numbers, feature_group_count=groups)

    return of


@pytest.mark.parametrize(
    "product, shapes, expected",
    [
        ("bi,io->bo", ((4, 7), (7, 3)), 2 * 4 * 7 * 3),
        ("bij,bjk->bik", ((5, 4, 7), (5, 7, 3)), 2 * 5 * 4 * 7 * 3),
        ("bhwc,bhwd->hwcd", ((6, 2, 2, 3), (6, 2, 2, 4)), 2 * 6 * 2 * 2 * 3 * 4),
    ],
)
def test_products(product, shapes, expected):
    assert counted(lambda a, b: jnp.einsum(product, a, b), *(array(*shape) for shape in shapes)) == expected


@pytest.mark.parametrize(
    "settings, channels, expected",
    [
        ({}, 6, 2 * (2 * 16 * 16 * 4) * 9 * 6),  # every output is 3 x 3 x 6 multiplications and additions
        ({"stride": 2}, 6, 2 * (2 * 8 * 8 * 4) * 9 * 6),
        ({"dilation": 2}, 6, 2 * (2 * 16 * 16 * 4) * 9 * 6),
        ({"groups": 2}, 3, 2 * (2 * 16 * 16 * 4) * 9 * 3),  # the kernel has the channels of a group
        ({"stride": 2, "groups": 2}, 3, 2 * (2 * 8 * 8 * 4) * 9 * 3),
    ],
)
def test_convolutions_and_their_gradients(settings, channels, expected):
    """The gradient by the image and that by the kernel each take as many operations as the convolution."""
    of, shapes = convolution(**settings), (array(2, 16, 16, 6), array(3, 3, channels, 4))
    assert counted(of, *shapes) == expected
    gradients = jax.grad(lambda x, kernel: (of(x, kernel) ** 2).sum(), argnums=(0, 1))
    assert counted(gradients, *shapes) == 3 * expected


@pytest.mark.parametrize("groups", [1, 4])
def test_xla_agrees_where_it_counts(groups):
    """Kernel and stride 2, so that none of what is multiplied is padding; XLA also counts what we call small."""
    of, shapes = convolution(stride=2, groups=groups), (array(2, 16, 16, 64), array(2, 2, 64 // groups, 64))
    gradients = jax.grad(lambda x, kernel: (of(x, kernel) ** 2).sum(), argnums=(0, 1))
    for function in (of, gradients):
        theirs = jax.jit(function).lower(*shapes).cost_analysis()["flops"]
        assert counted(function, *shapes) == pytest.approx(theirs, rel=0.05)


def test_a_loop_is_counted_as_often_as_it_turns():
    turns = lambda x: lax.scan(lambda carry, _: (carry @ carry, None), x, length=5)[0]  # noqa: E731
    assert counted(turns, SQUARE) == 5 * PRODUCT
    nested = lambda x: lax.scan(lambda carry, _: (turns(carry), None), x, length=3)[0]  # noqa: E731
    assert counted(nested, SQUARE) == 15 * PRODUCT


def test_what_is_compiled_apart_is_counted():
    assert counted(lambda x: jax.jit(jnp.matmul)(x, x) @ x, SQUARE) == 2 * PRODUCT


def test_what_is_computed_again_is_counted_again():
    """Two products forward, three backward; with remat the first of them once more."""

    def block(x, a, b):
        return jnp.sin(x @ a) @ b

    def gradients(block):
        return jax.grad(lambda a, b, x: (block(x, a, b) ** 2).sum(), argnums=(0, 1))

    assert counted(gradients(block), SQUARE, SQUARE, SQUARE) == 5 * PRODUCT
    assert counted(gradients(jax.checkpoint(block)), SQUARE, SQUARE, SQUARE) == 6 * PRODUCT


def test_of_branches_the_dearest_is_counted():
    branches = [lambda x: x, lambda x: x @ x @ x, lambda x: x @ x]
    assert counted(lambda i, x: lax.switch(i, branches, x), jnp.int32(0), SQUARE) == 2 * PRODUCT


def test_of_a_while_one_turn_is_counted():
    unknown = lambda x: lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, x)  # noqa: E731
    assert counted(unknown, SQUARE) == PRODUCT


@pytest.mark.two_devices
def test_the_peak_is_that_of_all_devices_and_unknown_for_a_cpu(monkeypatch):
    assert flops.peak() is None
    monkeypatch.setitem(flops.PEAK, jax.devices()[0].device_kind, 3e12)
    assert flops.peak() == 3e12 * jax.device_count() == 6e12

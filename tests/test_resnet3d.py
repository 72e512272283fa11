"""The 3-D ResNet gives the features of MONAI's from the same weights, and learns the same statistics.

`golden/resnet3d.npz` keeps what MONAI 1.6.1 and torch 2.13 say, for where they are not installed: of a narrow network,
whose weights `drawn` makes from their names. `python tests/test_resnet3d.py` writes it anew.
"""

import math
import zlib
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import NamedSharding, PartitionSpec
from test_models import equations, kept

from symnorm_jax.convert.simclr import torch_name
from symnorm_jax.errors import InputError
from symnorm_jax.files import load_arrays, save_arrays
from symnorm_jax.models.encoder3d import BatchNorm, Projector, ResNet3D
from symnorm_jax.training.sharding import by_example, make_mesh, replicated

GOLDEN = Path(__file__).parent / "golden" / "resnet3d.npz"
NARROW = (4, 8, 12, 16)
WIDE = (64, 128, 256, 512)
SIZES = [(21, 25, 19), (32, 33, 17)]  # [X, Y, Z]; odd and even sides at every level


pytestmark = pytest.mark.usefixtures("quick_compilation")


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of that name, in torch's shape: uniform numbers from the CRC-32 of the name, on a range by its kind."""
    uniform = np.random.default_rng(zlib.crc32(name.encode())).random(shape)
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return (0.5 + uniform).astype(np.float32)
    bound = math.sqrt(6 / math.prod(shape[1:])) if name.endswith("weight") else 0.5  # that of He et al. 2015
    return (bound * (2 * uniform - 1)).astype(np.float32)


def volumes(size: tuple[int, ...]) -> np.ndarray:
    """Two of them, `[2, X, Y, Z, 1]`."""
    return drawn(f"volumes {size}", (2, *size, 1))


def shapes(net) -> dict:
    init = partial(net.init, jax.random.key(0), train=False)
    return jax.eval_shape(init, jnp.zeros((2, 16, 16, 16, 1)))


def weights(net: ResNet3D) -> tuple[dict[str, np.ndarray], dict]:
    """Drawn weights by torch's names, and as ours, every array with its axes in reverse."""
    flat = flatten_dict(shapes(net))
    names = {path: torch_name(("any", "encoder", *path[1:])) for path in flat}
    state = {name: drawn(name.removeprefix("module.encoder."), flat[path].shape[::-1]) for path, name in names.items()}
    ours = unflatten_dict({path: state[name].T for path, name in names.items()})
    return {name.removeprefix("module.encoder."): array for name, array in state.items()}, ours


def answers(net: ResNet3D, variables: dict, x: np.ndarray) -> dict[str, np.ndarray]:
    """Features in evaluation and in training, and the running statistics after it by torch's names."""
    train = jax.jit(partial(net.apply, train=True, mutable=["batch_stats"]))
    features, updated = train(variables, x)
    found = {"eval": jax.jit(partial(net.apply, train=False))(variables, x), "train": features}
    for path, value in flatten_dict(updated).items():
        found[torch_name((path[0], "encoder", *path[1:])).removeprefix("module.encoder.")] = value
    return {name: np.asarray(value) for name, value in found.items()}


def monai(widths: tuple[int, ...]):
    """The released encoder in MONAI, with the drawn weights."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[parity]'")
    nets = pytest.importorskip("monai.networks.nets", reason="MONAI is not installed: pip install '.[parity]'")
    shared = {"spatial_dims": 3, "n_input_channels": 1, "conv1_t_stride": 1}
    shared |= {"bias_downsample": True, "feed_forward": False}
    net = nets.resnet18(**shared) if widths == WIDE else nets.ResNet("basic", [2, 2, 2, 2], list(widths), **shared)
    state, _ = weights(ResNet3D(widths=widths))
    given = {name: torch.from_numpy(array.copy()) for name, array in state.items()}
    counts = {name: one for name, one in net.state_dict().items() if name.endswith("num_batches_tracked")}
    net.load_state_dict(given | counts, strict=True)
    return net


def answers_of_monai(widths: tuple[int, ...], size: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The same as `answers`, from volumes as the release has them, `[B, 1, Z, Y, X]`."""
    net = monai(widths)
    import torch

    x = torch.from_numpy(volumes(size).transpose(0, 4, 3, 2, 1).copy())
    with torch.no_grad():
        found = {"eval": net.eval()(x), "train": net.train()(x)}
    statistics = {name: one for name, one in net.state_dict().items() if "running" in name}
    return {name: one.numpy().copy() for name, one in (found | statistics).items()}


def error(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest error of an array in units of its largest value."""
    assert found.keys() == expected.keys()
    return max(float(np.abs(found[name] - expected[name]).max() / np.abs(expected[name]).max()) for name in expected)


def golden(size: tuple[int, ...]) -> dict[str, np.ndarray]:
    start = f"{size}/"
    return {name.removeprefix(start): array for name, array in load_arrays(GOLDEN, start).items()}


@pytest.mark.parametrize("size", SIZES)
def test_features_and_statistics_are_those_that_monai_gave(size):
    net = ResNet3D(widths=NARROW)
    assert error(answers(net, weights(net)[1], volumes(size)), golden(size)) < 1e-3


@pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
@pytest.mark.parametrize("size", SIZES)
def test_features_and_statistics_are_those_of_monai(size):
    pytest.importorskip("monai", reason="MONAI is not installed: pip install '.[parity]'")
    net = ResNet3D()
    assert error(answers(net, weights(net)[1], volumes(size)), answers_of_monai(WIDE, size)) < 1e-3


@pytest.mark.filterwarnings("ignore")
def test_the_golden_file_is_still_what_monai_gives():
    for size in SIZES:
        assert error(answers_of_monai(NARROW, size), golden(size)) < 1e-4


def test_kernels_have_their_spatial_axes_in_reverse():
    """MONAI was given volumes as [Z, Y, X]; with kernels still in that order features of [X, Y, Z] are others."""
    net, size = ResNet3D(widths=NARROW), SIZES[0]
    _, variables = weights(net)
    turn = lambda x: x.transpose(2, 1, 0, 3, 4) if x.ndim == 5 else x  # noqa: E731
    wrong = variables | {"params": jax.tree.map(turn, variables["params"])}
    features = {"eval": net.apply(wrong, volumes(size), train=False)}
    assert error(features, {"eval": golden(size)["eval"]}) > 1e-2
    turned = {"eval": net.apply(wrong, volumes(size).transpose(0, 3, 2, 1, 4), train=False)}
    assert error(turned, {"eval": golden(size)["eval"]}) < 1e-3


def test_parameters_of_the_released_network_by_hand():
    norm = lambda width: 2 * width  # noqa: E731
    stem = 7**3 * 64 + norm(64)
    first = 4 * (27 * 64 * 64 + norm(64))
    others = 0
    for narrow, wide in ((64, 128), (128, 256), (256, 512)):
        shortcut = narrow * wide + wide + norm(wide)
        others += 27 * narrow * wide + 3 * 27 * wide * wide + 4 * norm(wide) + shortcut
    counted = sum(x.size for x in jax.tree.leaves(shapes(ResNet3D())["params"]))
    assert counted == stem + first + others == 33_160_896


def test_every_part_of_the_network_can_be_chosen():
    found = shapes(ResNet3D(widths=(4, 6), depths=(1, 3), stem_kernel=3))["params"]
    assert found.keys() == {"stem", "level1_block0", "level2_block0", "level2_block1", "level2_block2"}
    assert found["stem"]["conv"]["kernel"].shape == (3, 3, 3, 1, 4)
    assert [name for name, block in found.items() if "shortcut" in block] == ["level2_block0"]
    with pytest.raises(InputError, match=r"norm='layer'; one of \('batch', 'group'\) is allowed"):
        shapes(ResNet3D(norm="layer"))


@pytest.mark.parametrize("stride, side", [(1, 16), (2, 8)])
def test_the_first_stride_divides_the_sides(stride, side):
    """An impulse of the stem alone: 32 voxels a side, halved by the pooling, and by the stride before it."""
    net = ResNet3D(widths=(4,), depths=(1,), stem_stride=stride)
    jaxpr = jax.make_jaxpr(partial(net.apply, train=False))(shapes(net), jnp.zeros((1, 32, 32, 32, 1)))
    (pooled,) = [e.outvars[0].aval.shape for e in equations(jaxpr.jaxpr) if e.primitive.name == "reduce_window_max"]
    assert pooled == (1, side, side, side, 4)


def test_running_statistics_by_hand():
    """Of 1 and 3: mean 2, variance 1 and unbiased 2; so 0.9 * 0 + 0.1 * 2 = 0.2 and 0.9 * 1 + 0.1 * 2 = 1.1."""
    x, norm = jnp.asarray([[1.0], [3.0]]), BatchNorm(train=True)
    variables = norm.init(jax.random.key(0), x)
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], [0])  # making the network is no training
    out, updated = norm.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(out, [[-1 / math.sqrt(1 + 1e-5)], [1 / math.sqrt(1 + 1e-5)]], rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["mean"], [0.2], rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], [1.1], rtol=1e-5)
    still = BatchNorm(train=False).apply({**variables, **updated}, x)
    np.testing.assert_allclose(still, (np.asarray(x) - 0.2) / math.sqrt(1.1 + 1e-5), rtol=1e-5)


def test_statistics_of_bfloat16_are_not_rounded_to_it():
    x = (10 + volumes((5, 4, 3))).astype(jnp.bfloat16)
    out, updated = BatchNorm(train=True, dtype=x.dtype).init_with_output(jax.random.key(0), x)
    _, updated = BatchNorm(train=True, dtype=x.dtype).apply(updated, x, mutable=["batch_stats"])
    assert out.dtype == x.dtype
    np.testing.assert_allclose(updated["batch_stats"]["mean"], 0.1 * x.astype(np.float64).mean(), rtol=1e-5)
    np.testing.assert_allclose(updated["batch_stats"]["var"], 0.9 + 0.1 * x.astype(np.float64).var(ddof=1), rtol=1e-5)


def test_a_batch_without_a_variance_is_refused():
    norm, x = BatchNorm(train=True), jnp.ones((1, 1, 1, 1, 3))
    with pytest.raises(InputError, match=r"\(1, 1, 1, 1, 3\) has no variance; 2 values a channel or more"):
        norm.init(jax.random.key(0), x)


@pytest.mark.two_devices
def test_a_batch_over_two_devices_is_one_batch():
    net, x, mesh = ResNet3D(widths=(4, 8), depths=(1, 1)), volumes((9, 8, 7)), make_mesh()
    variables = weights(net)[1]
    x[1] += 2  # so that the halves differ
    assert len(jax.devices()) == 2
    step = jax.jit(partial(net.apply, train=True, mutable=["batch_stats"]))
    alone = step(variables, x)
    spread = step(jax.device_put(variables, replicated(mesh)), jax.device_put(x, by_example(mesh)))
    assert spread[0].sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec(("data", "fsdp"))), 2)
    for one, other in zip(*map(jax.tree.leaves, (alone, spread)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)  # sums over two devices round otherwise


def test_group_norm_keeps_examples_apart():
    net, x = ResNet3D(widths=(4, 8), depths=(1, 1), norm="group"), volumes((9, 8, 7))
    assert shapes(net).keys() == {"params"}
    variables = unflatten_dict(
        {path: drawn("/".join(path), one.shape) for path, one in flatten_dict(shapes(net)).items()}
    )
    features = jax.jit(partial(net.apply, train=True))
    together, beside_another = features(variables, x), features(variables, np.stack([x[0], 3 * x[1]]))
    np.testing.assert_allclose(together[0], beside_another[0], rtol=1e-4, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-3


def test_computing_again_changes_nothing_but_what_is_kept():
    plain, again = (ResNet3D(widths=(4, 8), depths=(1, 1), remat=remat) for remat in (False, True))
    x, (_, variables) = jnp.asarray(volumes((12, 13, 11))), weights(plain)
    params, rest = variables["params"], {name: tree for name, tree in variables.items() if name != "params"}
    assert jax.tree.structure(variables) == jax.tree.structure(shapes(again))

    def loss(net):
        def of(params):
            out, updated = net.apply({"params": params, **rest}, x, train=True, mutable=["batch_stats"])
            return (out**2).sum(), updated

        return of

    both = [jax.jit(jax.value_and_grad(loss(net), has_aux=True))(params) for net in (plain, again)]
    for one, other in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * float(jnp.abs(one).max()))
    less, more = (kept(lambda params, net=net: loss(net)(params)[0], params) for net in (again, plain))
    assert less < 0.4 * more


def test_bfloat16_is_inside_and_float32_around_it():
    exact, rough = (ResNet3D(widths=(4, 8), depths=(1, 1), dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16))
    x, variables = volumes((9, 8, 7)), weights(exact)[1]
    initial = jax.eval_shape(partial(rough.init, train=True), jax.random.key(0), x)
    assert {one.dtype for one in jax.tree.leaves(initial)} == {jnp.dtype("float32")}
    step = partial(rough.apply, train=True, mutable=["batch_stats"])
    found = list(equations(jax.make_jaxpr(step)(variables, x).jaxpr))
    kinds = {
        kind: {e.outvars[0].aval.dtype.name for e in found if e.primitive.name == kind}
        for kind in ("conv_general_dilated", "reduce_sum")
    }
    assert kinds == {"conv_general_dilated": {"bfloat16"}, "reduce_sum": {"float32"}}
    out, updated = jax.jit(step)(variables, x)
    assert {one.dtype for one in jax.tree.leaves((out, updated))} == {jnp.dtype("float32")}
    reference = exact.apply(variables, x, train=True, mutable=["batch_stats"])[0]
    assert 0 < jnp.linalg.norm(out - reference) / jnp.linalg.norm(reference) < 0.03  # bfloat16 has 8 bits


def test_projector_is_two_matrices_and_a_rectifier(rng):
    x, net = jnp.asarray(rng.normal(size=(3, 10)), jnp.float32), Projector(hidden=7, out=5)
    params = net.init(jax.random.key(0), x)["params"]
    assert [jax.tree.map(jnp.shape, params[name]) for name in ("hidden", "out")] == [
        {"kernel": (10, 7)},
        {"kernel": (7, 5)},
    ]
    expected = np.maximum(np.asarray(x) @ params["hidden"]["kernel"], 0) @ params["out"]["kernel"]
    np.testing.assert_allclose(net.apply({"params": params}, x), expected, rtol=1e-4, atol=1e-5)
    released = jax.eval_shape(Projector().init, jax.random.key(0), jnp.zeros((1, 512)))
    assert sum(one.size for one in jax.tree.leaves(released)) == 512 * 512 + 512 * 64


if __name__ == "__main__":
    save_arrays(GOLDEN, {f"{s}/{name}": x for s in SIZES for name, x in answers_of_monai(NARROW, s).items()})

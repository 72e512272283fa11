"""The 3-D Swin gives the maps of MONAI's from the same weights, with each of the mergings that its releases have had.

`golden/swin3d.npz` keeps what MONAI 1.4.0 and 1.5.2 with torch 2.13 say, for where they are not installed: of a narrow
network, whose weights are made from their names. `python tests/test_swin3d.py` writes what the MONAI there gives.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from test_models import equations, kept
from test_resnet3d import drawn

from symnorm_jax.convert import swin_unetr
from symnorm_jax.convert.swin_unetr import from_torch, to_torch
from symnorm_jax.files import load_arrays, save_arrays
from symnorm_jax.models import swin3d
from symnorm_jax.models.swin3d import MERGINGS, Merging, Swin3D, divided, regions, undivided

GOLDEN = Path(__file__).parent / "golden" / "swin3d.npz"
NARROW = {"embed": 12, "heads": (1, 2, 4, 8), "clip": "monai"}
# Stages of (9, 16, 10), shifted and padded on each axis; of (5, 8, 5), clipped on two and shifted on one; then clipped.
SIZE = (17, 31, 20)
LARGER = (33, 47, 50)
SURE = 1e-5  # of the largest value of a map; an epsilon of 1e-6 is seen by 2e-5

pytestmark = pytest.mark.usefixtures("quick_compilation")


def shapes(net: Swin3D) -> dict:
    return jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 16, 16, 16, 1)))["params"]


def torch_name(path: tuple[str, ...]) -> str:
    return swin_unetr.torch_name(("params", "encoder", "swin", *path))


def state_of(net: Swin3D) -> dict[str, np.ndarray]:
    """Drawn weights by torch's names, in its axes; biases of displacements from -1 to 1, or none would be seen."""
    state = {}
    for path, one in flatten_dict(shapes(net)).items():
        name = torch_name(path)
        shape = to_torch(name, np.empty(one.shape)).shape
        state[name] = (1 + name.endswith("table")) * drawn(name, shape)
    return state


def weights(net: Swin3D) -> dict:
    state = state_of(net)
    names = {path: torch_name(path) for path in flatten_dict(shapes(net))}
    return {"params": unflatten_dict({path: from_torch(name, state[name]) for path, name in names.items()})}


def volume(size: tuple[int, ...] = SIZE) -> np.ndarray:
    return 2 * drawn(f"volume {size}", (1, *size, 1))


def answers(size=SIZE, **changes) -> dict[str, np.ndarray]:
    """The maps by their numbers."""
    net = Swin3D(**NARROW | changes)
    return {f"map {i}": np.asarray(x) for i, x in enumerate(jax.jit(net.apply)(weights(net), volume(size)))}


def merged(kind: str) -> np.ndarray:
    """A merging alone, of a map of odd sides."""
    state = state_of(Swin3D(**NARROW))
    given = {name: state[f"layers1.0.downsample.{name}"] for name in ("norm.weight", "norm.bias", "reduction.weight")}
    norm = {"scale": given["norm.weight"], "bias": given["norm.bias"]}
    params = {"norm": norm, "reduction": {"kernel": given["reduction.weight"].T}}
    return np.asarray(Merging(kind, jnp.float32).apply({"params": params}, drawn("map", (1, 5, 4, 3, 12))))


def merging_of_monai() -> str:
    """What `merging` means in the MONAI that is here."""
    monai = pytest.importorskip("monai", reason="MONAI is not installed: pip install '.[parity]'")
    return "legacy" if tuple(map(int, monai.__version__.split(".")[:2])) < (1, 5) else "fixed"


def network_of_monai(kind: str):
    """MONAI's network with the drawn weights; `kind` is `v2`, or what `merging` means there."""
    reason = "is not installed: pip install '.[parity]'"
    torch = pytest.importorskip("torch", reason=f"torch {reason}")
    swin = pytest.importorskip("monai.networks.nets.swin_unetr", reason=f"MONAI {reason}")
    assert kind in ("v2", merging_of_monai())
    shape = 1, 12, (7,) * 3, (2,) * 3, (2,) * 4, NARROW["heads"]
    net = swin.SwinTransformer(*shape, downsample="mergingv2" if kind == "v2" else "merging").eval()
    given = {name: torch.from_numpy(array.copy()) for name, array in state_of(Swin3D(**NARROW)).items()}
    index = {name: one for name, one in net.state_dict().items() if name.endswith("relative_position_index")}
    net.load_state_dict(given | index, strict=True)
    return net


def answers_of_monai(kind: str, size=SIZE) -> dict[str, np.ndarray]:
    """The same as `answers`, from volumes as MONAI has them, `[B, 1, X, Y, Z]`."""
    net = network_of_monai(kind)
    import torch

    x = torch.from_numpy(volume(size).transpose(0, 4, 1, 2, 3).copy())
    with torch.no_grad():
        return {f"map {i}": one.numpy().transpose(0, 2, 3, 4, 1) for i, one in enumerate(net(x))}


def merged_of_monai(kind: str) -> np.ndarray:
    merging = network_of_monai(kind).layers1[0].downsample
    import torch

    with torch.no_grad():
        return merging(torch.from_numpy(drawn("map", (1, 5, 4, 3, 12)))).numpy()


def error(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest error of a map in units of its largest value."""
    return max(float(np.abs(found[name] - x).max() / np.abs(x).max()) for name, x in expected.items())


def test_maps_are_those_that_monai_gave():
    expected = load_arrays(GOLDEN, "map")
    assert len(expected) == 5 and error(answers(), expected) < SURE


@pytest.mark.parametrize("kind", MERGINGS)
def test_corners_are_merged_as_in_that_release_of_monai_and_no_other(kind):
    expected, found = load_arrays(GOLDEN, *MERGINGS), merged(kind)
    assert error({kind: found}, {kind: expected.pop(kind)}) < SURE
    assert all(error({other: found}, {other: x}) > 1e-2 for other, x in expected.items())


def test_a_clipped_window_reads_the_biases_of_its_displacements_unless_monai_s_are_asked_for():
    """Of 2 places in a row of 3: by MONAI those of the last axis of a whole window, whatever the axis."""
    index = partial(swin3d.bias_index, (2, 1, 1), 3)
    centre = 2 * 25 + 2 * 5 + 2
    np.testing.assert_array_equal(index("exact"), [centre, centre - 25, centre + 25, centre])
    np.testing.assert_array_equal(index("monai"), [centre, centre - 1, centre + 1, centre])
    np.testing.assert_array_equal(*(swin3d.bias_index((3, 3, 3), 3, clip) for clip in swin3d.CLIPS))


def test_windows_come_back_to_their_places(rng):
    x = rng.normal(size=(2, 4, 6, 8, 3))
    windows = divided(x, (2, 3, 4))
    assert windows.shape == (2, 8, 24, 3)
    np.testing.assert_array_equal(windows[0, 1, 1], x[0, 0, 0, 5])  # z changes fastest, of windows and of places
    np.testing.assert_array_equal(undivided(windows, x.shape, (2, 3, 4)), x)


def test_regions_are_what_lay_together_before_the_roll():
    """Of 6 places rolled by 1 in windows of 3: the last window holds two that were at its end, and one from afar."""
    found = regions((6, 3, 3), (3, 3, 3), (1, 0, 0)).reshape(2, 3, 9)
    np.testing.assert_array_equal(found[..., 0] // 9, [[0, 0, 0], [1, 1, 2]])
    assert (found == found[..., :1]).all()


def test_parameters_of_swin_unetr_by_hand():
    flat = flatten_dict(shapes(Swin3D()))
    tables = sum(one.size for path, one in flat.items() if path[-2:] == ("attention", "bias"))
    assert tables == 2 * 13**3 * (3 + 6 + 12 + 24) == 197_730
    expected = 48 * 9 + tables
    for width in (48, 96, 192, 384):
        attention, mlp, norms = 4 * width * width + 4 * width, 8 * width * width + 5 * width, 4 * width
        expected += 2 * (attention + mlp + norms) + 16 * width * width + 16 * width
    assert sum(one.size for one in flat.values()) == expected == 8_062_002


def small(**changes) -> tuple[Swin3D, dict, jax.Array]:
    net = Swin3D(embed=4, depths=(2,), heads=(1,), window=3, **changes)
    return net, weights(net)["params"], jnp.asarray(volume((9, 7, 8)))


def test_blocks_that_are_computed_again_keep_less_and_give_the_same():
    def loss(net, x):
        return lambda params: (net.apply({"params": params}, x)[-1] ** 3).sum()

    (plain, params, x), (again, _, _) = small(), small(remat=True)
    both = [jax.jit(jax.grad(loss(net, x)))(params) for net in (plain, again)]
    for one, other in zip(*map(jax.tree.leaves, both), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * float(jnp.abs(one).max()))
    assert kept(loss(again, x), params) < 0.3 * kept(loss(plain, x), params)


def test_bfloat16_is_inside_and_float32_around_it():
    net, params, x = small(dtype=jnp.bfloat16)
    assert {one.dtype for one in jax.tree.leaves(shapes(net))} == {jnp.dtype("float32")}
    jaxpr = jax.make_jaxpr(net.apply)({"params": params}, x)
    assert {one.dtype for one in jaxpr.out_avals} == {jnp.dtype("float32")}
    kinds = {"exp": set(), "dot_general": set()}
    for one in equations(jaxpr.jaxpr):
        kinds.get(one.primitive.name, set()).add(one.outvars[0].aval.dtype.name)
    assert kinds == {"exp": {"float32"}, "dot_general": {"bfloat16"}}  # the softmax is in float32


@pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
@pytest.mark.parametrize("kind", MERGINGS)
def test_maps_are_those_of_monai(kind):
    """Of the golden file's volume, and of one with more windows; the file is still what MONAI gives."""
    if kind not in ("v2", merging_of_monai()):
        pytest.skip(f"the MONAI that is here does not merge corners by {kind!r}")
    for size in (SIZE, LARGER):
        assert error(answers(size, merging=kind), answers_of_monai(kind, size)) < 1e-5
    assert error({kind: merged_of_monai(kind)}, load_arrays(GOLDEN, kind)) < 1e-5


if __name__ == "__main__":
    here = merging_of_monai()
    known = load_arrays(GOLDEN) if GOLDEN.exists() else {}
    known |= {kind: merged_of_monai(kind) for kind in ("v2", here)}
    save_arrays(GOLDEN, known | (answers_of_monai("fixed") if here == "fixed" else {}))

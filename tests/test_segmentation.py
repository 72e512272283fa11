"""Networks that mark lesions: the decoder of MONAI's Swin-UNETR, windows, losses by hand, and what they are told.

`golden/swin_unetr.npz` keeps what MONAI 1.5.2 with torch 2.13 says; `python tests/test_segmentation.py` writes it.
"""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from test_end_to_end import config_of
from test_resnet3d import drawn
from test_saca import run_of_heads
from test_swin3d import NARROW, error, merging_of_monai, network_of_monai, weights

from symnorm_jax import losses, rundir
from symnorm_jax.checks import checked
from symnorm_jax.data import targets
from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.data.pipeline import training_batches
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.files import load_arrays, read_json, save_arrays, write_json
from symnorm_jax.geometry import mirror_batch
from symnorm_jax.inference import blobs
from symnorm_jax.inference.model import Model
from symnorm_jax.models.segmentation import LightDecoder, SwinUNETR
from symnorm_jax.models.swin3d import Swin3D
from symnorm_jax.run import Run
from symnorm_jax.rundir import CHECKPOINTS, MANIFEST, write_config
from symnorm_jax.systems import windows
from symnorm_jax.systems.encoder import whole
from symnorm_jax.systems.segmentation import Segmenter, highest
from symnorm_jax.training import transfer
from symnorm_jax.training.checkpoint import Checkpoints

GOLDEN = Path(__file__).parent / "golden" / "swin_unetr.npz"
SIZE = (32, 32, 64)
CONVS = {"conv1": "conv1.conv", "conv2": "conv2.conv", "shortcut": "conv3.conv"}
BLOCKS = {"across0": "encoder1.layer", "across1": "encoder2.layer", "across2": "encoder3.layer"}
BLOCKS |= {"across3": "encoder4.layer", "last": "encoder10.layer"}
BLOCKS |= {f"level{i}": f"decoder{i + 1}.conv_block" for i in range(5)}

pytestmark = pytest.mark.usefixtures("quick_compilation")


def torch_name(path: tuple[str, ...]) -> str:
    if path[0] == "voxels":
        return "out.conv.conv." + {"kernel": "weight", "bias": "bias"}[path[1]]
    if path[0].startswith("up"):
        return f"decoder{int(path[0][2:]) + 1}.transp_conv.conv.weight"
    return f"{BLOCKS[path[0]]}.{CONVS[path[1]]}.weight"


def to_torch(name: str, x: np.ndarray) -> np.ndarray:
    if "transp_conv" in name:  # [in, 8 out] to [in, out, 2, 2, 2]
        return x.reshape(x.shape[0], 2, 2, 2, -1).transpose(0, 4, 1, 2, 3)
    return x.transpose(4, 3, 0, 1, 2) if x.ndim == 5 else x


def from_torch(name: str, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if "transp_conv" in name:
        return x.transpose(0, 2, 3, 4, 1).reshape(shape)
    return x.transpose(2, 3, 4, 1, 0) if x.ndim == 5 else x


def given() -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """A volume, and maps of it that no Swin made."""
    maps = [drawn(f"map {i}", (1, *(s // 2 ** (i + 1) for s in SIZE), 12 * 2**i)) for i in range(5)]
    return drawn("volume", (1, *SIZE, 1)), maps[:-1], maps[-1]


def decoder_weights() -> tuple[dict, dict[str, np.ndarray]]:
    """Weights drawn by torch's names, as parameters and as torch has them."""
    shapes, state = jax.eval_shape(SwinUNETR().init, jax.random.key(0), *given())["params"], {}
    for path, one in flatten_dict(shapes).items():
        name = torch_name(path)
        state[name] = drawn(name, to_torch(name, np.empty(one.shape)).shape)
    flat = {path: (torch_name(path), one.shape) for path, one in flatten_dict(shapes).items()}
    flat = {path: from_torch(name, state[name], shape) for path, (name, shape) in flat.items()}
    return {"params": unflatten_dict(flat)}, state


def network_of_swin_unetr():
    network_of_monai(merging_of_monai())  # skips where there is none
    import torch
    from monai.networks.nets.swin_unetr import SwinUNETR as Theirs

    try:
        net = Theirs(in_channels=1, out_channels=1, feature_size=12, num_heads=NARROW["heads"], spatial_dims=3)
    except TypeError:  # before 1.5
        net = Theirs(SIZE, in_channels=1, out_channels=1, feature_size=12, num_heads=NARROW["heads"])
    state = {name: torch.from_numpy(x.copy()) for name, x in decoder_weights()[1].items()}
    swin = network_of_monai(merging_of_monai()).state_dict()
    net.load_state_dict(state | {f"swinViT.{name}": x for name, x in swin.items()}, strict=True)
    return net.eval()


def decoded_by_monai() -> np.ndarray:
    """Logits of drawn maps, by the layers of MONAI's network in its own order."""
    net = network_of_swin_unetr()
    import torch

    volume, maps, last = jax.tree.map(lambda x: torch.from_numpy(x.transpose(0, 4, 1, 2, 3).copy()), given())
    with torch.no_grad():
        across = [net.encoder1(volume), net.encoder2(maps[0]), net.encoder3(maps[1]), net.encoder4(maps[2]), maps[3]]
        x = net.encoder10(last)
        for i in range(4, -1, -1):
            x = getattr(net, f"decoder{i + 1}")(x, across[i])
        return net.out(x).numpy().transpose(0, 2, 3, 4, 1)


def test_logits_are_those_that_monai_gave():
    found = np.asarray(jax.jit(SwinUNETR().apply)(decoder_weights()[0], *given()))
    assert error({"logits": found[:, ::5, ::5, ::7]}, load_arrays(GOLDEN)) < 1e-5


@pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
def test_logits_are_those_of_monai_s_swin_unetr():
    """The whole network, from a volume; and the golden file is still what MONAI gives."""
    net = network_of_swin_unetr()
    import torch

    volume, swin = given()[0], Swin3D(**NARROW | {"merging": merging_of_monai()})
    *maps, last = jax.jit(swin.apply)(weights(swin), volume)
    found = jax.jit(SwinUNETR().apply)(decoder_weights()[0], volume, maps, last)
    with torch.no_grad():
        expected = net(torch.from_numpy(volume.transpose(0, 4, 1, 2, 3).copy())).numpy().transpose(0, 2, 3, 4, 1)
    assert error({"logits": np.asarray(found)}, {"logits": expected}) < 1e-5
    assert error({"logits": decoded_by_monai()[:, ::5, ::5, ::7]}, load_arrays(GOLDEN)) < 1e-5


def test_parameters_of_swin_unetr():
    maps = [jnp.zeros((1, *(64 // 2 ** (i + 1),) * 3, 48 * 2**i)) for i in range(5)]
    shapes = jax.eval_shape(SwinUNETR().init, jax.random.key(0), jnp.zeros((1, 64, 64, 64, 1)), maps[:-1], maps[-1])
    assert sum(x.size for x in jax.tree.leaves(shapes)) == 54_124_657


@pytest.mark.parametrize("kind", [LightDecoder, SwinUNETR])
def test_sides_that_were_rounded_up_are_cut(kind):
    sizes = [(7, 8, 6), (4, 4, 3), (2, 2, 2)]
    maps = [jnp.zeros((2, *size, 4 * 2**i)) for i, size in enumerate(sizes)]
    shape = jax.eval_shape(
        lambda *x: kind().init_with_output(jax.random.key(0), *x)[0], jnp.zeros((2, 13, 15, 12, 1)), maps[:-1], maps[-1]
    )
    assert shape.shape == (2, 13, 15, 12, 1)


@pytest.mark.parametrize("size, side", [((7, 9, 4), 4), ((8, 8, 8), 3), ((5, 5, 5), 5)])
def test_windows_give_back_what_a_network_leaves_as_it_is(rng, size, side):
    """And each shows the same place of both volumes."""
    x = jnp.asarray(rng.normal(size=(2, *size, 1)), jnp.float32)
    places = []

    def net(one, other):
        places.append(one.shape[1:4])
        return (one + 2 * other)[..., 0], one.max((1, 2, 3))

    found, features = windows.slid(net, side, x, 10 * x)
    np.testing.assert_allclose(found, 21 * x[..., 0], rtol=1e-5)
    assert features.shape == (2, 1) and set(places) == {(side,) * 3}
    whole, top = windows.slid(net, 0, x, 10 * x)
    np.testing.assert_allclose(whole, found, rtol=1e-5)
    np.testing.assert_array_equal(top, x.max((1, 2, 3)))


def test_windows_overlap_by_half_and_end_where_the_volume_does():
    assert windows.starts_of(10, 4) == [0, 2, 4, 6] and windows.starts_of(9, 4) == [0, 2, 4, 5]
    assert (
        windows.starts_of(4, 4) == [0] and windows.count_of((9, 4, 10), 4) == 16 and windows.count_of((9, 9, 9), 0) == 1
    )


def test_half_of_the_windows_are_drawn_around_a_lesion():
    brain = jnp.zeros((20, 12, 12), bool).at[2:18, 2:10, 2:10].set(True)
    lesion = jnp.zeros_like(brain).at[16, 8, 3].set(True)
    draw = jax.jit(jax.vmap(lambda key: windows.around(key, 4, lesion, brain)))
    starts = np.asarray(draw(jax.random.split(jax.random.key(0), 400)))
    assert (starts >= 0).all() and (starts <= [16, 8, 8]).all()
    on_it = (starts == [14, 6, 1]).all(1).mean()
    assert 0.4 < on_it < 0.6
    without = jax.vmap(lambda key: windows.around(key, 4, jnp.zeros_like(brain), brain))
    assert len(np.unique(np.asarray(without(jax.random.split(jax.random.key(1), 50))), axis=0)) > 20


def test_losses_by_hand():
    lesion = jnp.array([1.0, 1, 0, 0]).reshape(1, 4, 1)
    brain = jnp.array([1.0, 1, 1, 0]).reshape(1, 4, 1)
    chance = jnp.array([0.5, 1, 0.25, 1]).reshape(1, 4, 1)
    np.testing.assert_allclose(losses.soft_dice(chance, lesion, brain), [1 - (2 * 1.5 + 1) / (1.75 + 2 + 1)], rtol=1e-6)
    np.testing.assert_allclose(losses.soft_dice(0 * chance, 0 * lesion, brain), [0])
    assert losses.soft_dice(chance, 0 * lesion, brain) > 0.6
    logits = jnp.log(chance / (1.0001 - chance))
    expected = -(np.log(0.5) + np.log(0.75)) / 3
    np.testing.assert_allclose(losses.cross_entropy(logits, lesion, brain), [expected], atol=1e-3)


def test_the_score_is_the_mean_of_the_highest_voxels(rng):
    x = rng.random((3, 4, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(highest(jnp.asarray(x)), np.sort(x.reshape(3, -1))[:, -20:].mean(1), rtol=1e-6)


def tiny(preset: str, **changes):
    config = config_of("saca", f"tiny,{preset}")
    config.update_from_flattened_dict({name.replace("__", "."): x for name, x in changes.items()})
    return config


def batch_of(size=(16,) * 3, count=4) -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    brain = np.zeros((count, *size, 1), np.float32)
    brain[:, 2:-2, 2:-2, 2:-2] = 1
    lesion = np.zeros((count, *size), bool)
    lesion[1::2, 4:7, 5:9, 5:9] = True
    image = brain * rng.uniform(0.2, 1, brain.shape).astype(np.float32)
    return {"image": jnp.asarray(image), "brain": jnp.asarray(brain), "lesion": lesion, "index": jnp.arange(count)}


def test_what_volumes_are_compared_with():
    x = batch_of()["image"]
    own, none = (Segmenter(tiny("segmenter", segment__mirror=kind)).mirrored(x, {}) for kind in ("own", "none"))
    np.testing.assert_array_equal(own, mirror_batch(x))
    np.testing.assert_array_equal(none, x)


def test_the_average_head_is_of_all_volumes_learned_from_and_is_kept():
    model, batch = Segmenter(tiny("unet average"), ("unet",)), batch_of()
    variables, loss = model.init(jax.random.key(0), batch), jax.jit(model.loss)
    halves = [{name: x[part] for name, x in batch.items()} for part in (slice(0, 1), slice(1, 4))]
    for half in halves:
        variables = variables | {"stats": loss(variables, half, jax.random.key(1))[1].stats}
    mean = np.asarray(whole(batch)).mean(0)
    np.testing.assert_allclose(variables["stats"]["segmenter"]["mean"], mean, atol=1e-6)
    other = variables | {"stats": {"segmenter": {"n": 4.0, "mean": jnp.asarray(mean[::-1])}}}
    maps = [jax.jit(model.embed)(one, batch).map for one in (variables, other)]
    assert np.abs(maps[0] - maps[1]).max() > 1e-4


def test_who_has_no_drawn_lesion_to_learn_from_is_refused():
    rows = pd.DataFrame({"lesion_mm2": [0.0, 0.0, 3.0]})
    rows = rows.assign(patient=["a", "b", "c"], label=["healthy", "neither", "abnormal"])
    targets.check_lesions(rows)
    with pytest.raises(ScanError, match="none of the 2 samples to learn from shows a drawn lesion"):
        targets.check_lesions(rows[:2])
    with pytest.raises(ScanError, match="1 abnormal samples to learn from have no drawn lesion, the first of b;"):
        targets.check_lesions(rows.assign(label=["healthy", "abnormal", "abnormal"]))


@pytest.mark.parametrize("preset", ["segmenter", "unet"])
def test_what_is_marked_depends_on_what_a_volume_is_compared_with(preset):
    model, batch = Segmenter(tiny(preset), ("unet", "light")), batch_of(count=2)
    variables, volume = jax.jit(model.init)(jax.random.key(0), batch), batch["image"]
    one, other = (jax.jit(model.logits)(variables, volume, x)[0] for x in (mirror_batch(volume), volume))
    assert one.shape == volume.shape and np.abs(one - other).max() > 1e-4


def test_training_sees_windows_and_scoring_all_of_them():
    config = tiny("segmenter", data__size=(20, 16, 14), segment__crop=12)
    system, batch = checked(config), batch_of((20, 16, 14), 2)
    variables = jax.eval_shape(system.init, jax.random.key(0), batch)
    loss, aux = jax.eval_shape(system.stages["segment"].loss, variables, batch, jax.random.key(1))
    assert loss.shape == () and aux.metrics.keys() == {"dice", "cross_entropy"}
    found = jax.eval_shape(system.embed, variables, batch)
    assert found.map.shape == (2, 20, 16, 14) and found.scalars.keys() == {"highest"}
    with_saca = checked(tiny("segment", data__size=(20, 16, 16), segment__crop=12))
    assert with_saca.passes == 2 + 2 * windows.count_of((20, 16, 16), 12)
    assert system.passes == 2 * windows.count_of((20, 16, 14), 12) == 2 * 3 * 2 * 2


def test_marking_comes_after_pre_training_and_asks_for_lesions():
    system = checked(tiny("segment"))
    assert list(system.stages) == ["pretrain", "segment"] and system.asks == ("healthy", "lesion")
    assert system.stages["segment"].trains == ("segmenter", "encoder") and system.scores == ("asymmetry", "highest")
    assert checked(tiny("saca")).asks == ("healthy",) and list(checked(tiny("saca")).stages) == ["pretrain"]


@pytest.mark.parametrize(
    "preset, unit", [("segment", "chance of lesion"), ("unet", "chance of lesion"), ("saca", "values of saca")]
)
def test_a_map_of_what_marks_lesions_is_their_chance(preset, unit):
    assert blobs.unit_of(Model(tiny(preset), *[None] * 6)) == unit


@pytest.mark.parametrize(
    "preset, changes, sentence",
    [
        ("segment", {"segment__network": "unet"}, "segment.network='unet'; one of .'light', 'swin_unetr'"),
        ("segmenter", {"segment__network": ""}, "segment.network=''; one of"),
        ("segmenter", {"data__train_on": "healthy_people"}, "data.train_on='healthy_people' with .*'everyone' is"),
        ("segment", {"data__train_on": "lesion_free_slices", "saca__symmetry": 0.0}, "segment.network='light', which"),
        ("segmenter", {"segment__mirror": "left"}, "segment.mirror='left'; one of"),
        ("segmenter", {"segment__crop": 8}, "segment.crop=8; 0, or sides above 8 up to 16"),
        ("unet", {"data__size": (18, 16, 16)}, "data.size=.18, 16, 16. .* unet.widths; three sides that divide by 16"),
        ("unet", {"data__size": (16, 16)}, "data.size=.16, 16. .*three sides"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(preset, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        checked(tiny(preset, **changes))


class Held:
    """Samples as a store gives them."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        return {"index": np.int32(i), "image": np.zeros((4, 4, 4, 1)), "lesion": np.ones((4, 4, 4), bool)}


def test_no_batch_tells_where_lesions_are_unless_it_is_asked():
    config = tiny("saca")
    assert "lesion" not in next(training_batches(Held(), config, 2, asks=("healthy",)))
    assert next(training_batches(Held(), config, 2, asks=("lesion",)))["lesion"].shape == (2, 4, 4, 4)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """A run of saca as it begins: what a later stage may start from."""
    folder, config = tmp_path_factory.mktemp("pretrained"), tiny("saca")
    system = checked(config)
    shapes = transfer.shapes_of(system, config)
    rng = np.random.default_rng(3)
    variables = jax.tree.map(lambda x: jax.device_put(rng.normal(size=x.shape).astype(x.dtype), x.sharding), shapes)
    with Checkpoints(folder / "pretrain" / CHECKPOINTS) as checkpoints:
        checkpoints.save(1, variables, {"none": np.int32(0)})
    write_config(folder, json.loads(config.to_json()))
    for name in transfer.FINISHED:
        write_json(folder / name, {"sample": {"asymmetry": {}}})
    return folder


def test_a_stage_that_is_added_starts_from_the_networks_before_it(pretrained):
    config = tiny("segment", init_from=str(pretrained), finetune__kind="segment", score__headline="asymmetry")
    system = checked(config)
    transfer.check_source(config, system)
    fresh = jax.tree.map(
        lambda x: jax.device_put(np.full(x.shape, 7, x.dtype), x.sharding), transfer.shapes_of(system, config)
    )
    found = transfer.restored(str(pretrained), system, fresh)
    assert all((x == 7).all() for x in jax.tree.leaves(found["params"]["segmenter"]))
    assert not any((x == 7).all() for x in jax.tree.leaves(found["params"]["encoder"]))


@pytest.mark.parametrize(
    "changes, sentence",
    [
        (
            {"finetune__kind": "gaussian"},
            "finetune.kind='gaussian' with init_from=.*which has no segmenter; a stage that",
        ),
        ({"score__headline": "highest"}, "score.headline='highest' with init_from=.*no such score to compare with"),
    ],
)
def test_a_network_that_nobody_trained_is_refused(pretrained, changes, sentence):
    given = {"init_from": str(pretrained), "finetune__kind": "segment", "score__headline": "asymmetry"}
    config = tiny("segment", **given | changes)
    with pytest.raises(ConfigError, match=sentence):
        transfer.check_source(config, checked(config))


def test_networks_and_stages_that_this_run_leaves_out_are_refused_by_name(pretrained, tmp_path):
    given = {"score__headline": "asymmetry", "finetune__kind": "pretrain"}
    config = tiny("saca", **given, init_from=str(pretrained), saca__inpaint=0.0)
    with pytest.raises(ConfigError, match="init_from=.*, which has decoder, left out here; a config with all of these"):
        transfer.check_source(config, checked(config))
    source = tmp_path / "source"
    shutil.copytree(pretrained, source)
    config = tiny("saca", **given, init_from=str(source))
    transfer.check_source(config, checked(config))
    shutil.copytree(source / "pretrain", source / "segment")
    with pytest.raises(ConfigError, match="init_from=.*, which has segment, left out here; a config with all of these"):
        transfer.check_source(config, checked(config))


def test_networks_that_saw_something_else_in_place_of_the_mirror_image_are_refused(pretrained, monkeypatch):
    given = {"init_from": str(pretrained), "score__headline": "asymmetry", "segment__mirror": "none"}
    config = tiny("segment", **given)
    monkeypatch.setattr(transfer, "networks_of", lambda *_: {"encoder", "heads", "decoder", "segmenter"})
    with pytest.raises(ConfigError, match="trained with another .*segment.mirror .there 'own', here 'none'"):
        transfer.check_source(config, checked(config))


def test_an_average_head_that_nobody_kept_is_refused(pretrained, tmp_path, monkeypatch):
    source, given = tmp_path / "source", {"score__headline": "asymmetry", "segment__mirror": "average"}
    shutil.copytree(pretrained, source)
    write_config(source, json.loads(tiny("segment", **given).to_json()))
    config = tiny("segment", **given, init_from=str(source))
    kept = {of: set(nets) for of, nets in transfer.shapes_of(checked(config), config).items()}
    monkeypatch.setattr(transfer, "networks_of", lambda _, of="params": kept[of])
    kept["stats"].remove("segmenter")
    with pytest.raises(ConfigError, match="finetune.kind='gaussian' with .*, which has no stats of segmenter; a stage"):
        transfer.check_source(config, checked(config))
    kept["stats"].add("segmenter")
    transfer.check_source(config, checked(config))


def test_thresholds_of_a_score_that_a_stage_adds_are_its_own(pretrained, tmp_path):
    names = ["asymmetry", "mahalanobis", "asymmetry+mahalanobis"]
    fits = {name: {"roc": {"value": 1.0, "origin": "val"}} for name in names}
    write_json(pretrained / "thresholds.json", {"sample": fits, "patient": fits, "moments": {}})
    given = {"finetune__kind": "segment", "score__headline": "asymmetry", "score__thresholds": "source"}
    run = Run(tiny("segment", init_from=str(pretrained), **given), tmp_path / "new")
    scored = [*names, "highest", "zero_shot"]
    table = pd.DataFrame({name: np.arange(8.0) for name in scored}).assign(patient=list("abcdefgh"))
    found = run._thresholds("sample", table.assign(positive=table.highest % 2 == 1), table[scored])
    assert found["asymmetry"]["roc"]["value"] == found["zero_shot"]["roc"]["value"] == 1
    assert found["highest"]["roc"]["origin"] == "val" and found["highest"]["roc"]["value"] != 1


def test_what_starts_from_a_run_that_was_told_is_not_called_unsupervised(pretrained):
    changes = {"data__train_on": "healthy_people", "saca__symmetry": 0.0}
    config = tiny("saca", init_from=str(pretrained), **changes)
    assert rundir.taught(config) and not rundir.taught(tiny("saca", **changes))
    assert "Weakly supervised: mine" in rundir.weakly_supervised({"mine": config})[0]


@pytest.mark.long
def test_lesions_are_marked_from_scans_to_report(tmp_path):
    """By a U-Net of heads with a ball on one side; what it was told stands in the report."""
    run = run_of_heads(tmp_path, tiny("unet"), 24, {"train.segment.steps": 4, "evaluation.replicates": 20})
    results = read_json(run / "metrics.json")
    assert {"highest", "mahalanobis"} <= results["patient"].keys(), results.keys()
    assert results["pixel"].keys() == {"map", "trivial_brightness", "trivial_mirror"}
    assert any("where lesions lie" in note for note in results["notes"])
    index = load_arrays(run / "embeddings" / "train.npz", "index")["index"]
    assert "abnormal" in set(read_manifest(run / MANIFEST).label[index])


if __name__ == "__main__":
    save_arrays(GOLDEN, {"logits": decoded_by_monai()[:, ::5, ::5, ::7]})

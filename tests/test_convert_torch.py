"""Weights in a file of torch become a checkpoint of the same features, or are refused in a sentence."""

import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import symnorm
from test_end_to_end import config_of
from test_resnet3d import NARROW, SIZES, error, golden, monai, volumes
from test_torch_checkpoint import FOUR, released, rename, simclr, write

from symnorm_jax.convert import weights as converter
from symnorm_jax.convert.weights import convert
from symnorm_jax.errors import ConfigError, InputError, RunError
from symnorm_jax.models.encoder3d import Projector, ResNet3D
from symnorm_jax.systems import BUILD
from symnorm_jax.training.transfer import restored

pytestmark = pytest.mark.usefixtures("quick_compilation")
ENCODER, PROJECTOR = ResNet3D(widths=NARROW), Projector(hidden=6, out=5)


@pytest.fixture(scope="module")
def config():
    """The released networks, narrow."""
    config = config_of("simclr", "full")
    config.update_from_flattened_dict({"resnet.widths": NARROW, "projector": {"hidden": 6, "out": 5}})
    return config.lock()


def taken_up(folder: Path, config, system=None) -> dict:
    """The networks of a folder, as a run takes them up."""
    system, image = system or BUILD["simclr"](config), jnp.zeros((1, *config.data.size, 1))
    layout = jax.eval_shape(system.init, jax.random.key(0), {"image": image, "brain": image})
    return restored(str(folder), system, jax.tree.map(lambda x: jnp.full(x.shape, 7, x.dtype), layout))


def features(variables: dict, encoder: ResNet3D, size: tuple[int, ...]) -> np.ndarray:
    net = {"params": variables["params"]["encoder"], "batch_stats": variables["stats"]["encoder"]}
    return np.asarray(jax.jit(lambda net, x: encoder.apply(net, x, train=False))(net, volumes(size)))


def test_converted_weights_give_the_features_of_the_original(tmp_path, config):
    """From a file in the release's layout to a checkpoint, and from that to what MONAI gave."""
    state = simclr(ENCODER, (6, 5))
    origin = convert(write(tmp_path / "a.tar", released(state)), tmp_path / "run", config)
    assert json.loads((tmp_path / "run" / "origin.json").read_text()) == origin
    assert origin["released"] is False and len(origin["left_out"]) == 20 and origin["arrays"] == len(state) - 20
    variables = taken_up(tmp_path / "run", config)
    assert error({"eval": features(variables, ENCODER, SIZES[0])}, {"eval": golden(SIZES[0])["eval"]}) < 1e-4
    x = np.linspace(-1, 1, NARROW[-1], dtype=np.float32)[None]
    first, second = (state[f"module.projector.{i}.weight"] for i in (0, 2))
    projected = PROJECTOR.apply({"params": variables["params"]["projector"]}, x)
    np.testing.assert_allclose(projected[0], second @ np.maximum(first @ x[0], 0), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
def test_what_torch_wrote_is_converted(tmp_path, config):
    encoder = monai(NARROW)
    import torch

    projector = torch.nn.Sequential(
        torch.nn.Linear(NARROW[-1], 6, bias=False), torch.nn.ReLU(), torch.nn.Linear(6, 5, bias=False)
    )
    net = torch.nn.ModuleDict({"module": torch.nn.ModuleDict({"encoder": encoder, "projector": projector})}).eval()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-4).state_dict()
    checkpoint = {"epoch": 3, "model_state_dict": net.state_dict(), "optimizer_state_dict": optimizer}
    torch.save(checkpoint, tmp_path / "a.tar")
    convert(tmp_path / "a.tar", tmp_path / "run", config)
    variables = taken_up(tmp_path / "run", config)
    with torch.no_grad():
        expected = encoder(torch.from_numpy(volumes(SIZES[1]).transpose(0, 4, 3, 2, 1).copy()))
        projected = projector(expected).numpy()
    found = features(variables, ENCODER, SIZES[1])
    assert error({"eval": found}, {"eval": expected.numpy()}) < 1e-4
    ours = np.asarray(PROJECTOR.apply({"params": variables["params"]["projector"]}, found))
    assert error({"projected": ours}, {"projected": projected}) < 1e-4


def test_a_network_that_the_release_lacks_is_as_a_run_begins_it(tmp_path, config, monkeypatch):
    """Here one with parameters alone and one with statistics, beside those of the system."""
    plain = BUILD["simclr"](config)

    def init(key, batch):
        variables = plain.init(key, batch)
        drawn = jax.random.normal(key, (3,))
        return {
            "params": variables["params"] | {"extra": {"out": {"kernel": drawn, "bias": jnp.zeros(1)}}},
            "stats": variables["stats"] | {"extra": {"mean": 2 * drawn}},
        }

    wider = plain._replace(init=init)
    monkeypatch.setitem(converter.BUILD, "simclr", lambda config: wider)
    path = write(tmp_path / "a.tar", released(simclr(ENCODER, (6, 5))))
    origin = convert(path, tmp_path / "run", config)
    variables, drawn = taken_up(tmp_path / "run", config, wider), jax.random.normal(jax.random.key(config.seed), (3,))
    assert "extra" in origin["fresh"] and not {"encoder", "projector"} & set(origin["fresh"])
    np.testing.assert_array_equal(variables["params"]["extra"]["out"]["kernel"], drawn)
    np.testing.assert_array_equal(variables["params"]["extra"]["out"]["bias"], [0])
    np.testing.assert_array_equal(variables["stats"]["extra"]["mean"], 2 * drawn)


KEY = "module.encoder.layer2.0.downsample.0.bias"


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda state: state.pop(KEY), rf"{KEY} is missing; the networks of --config have it, of shape \(8,\)"),
        (lambda state: rename(state, KEY, KEY[7:]), rf"{KEY} is missing"),
        (lambda state: state.update({"module.encoder.fc.weight": FOUR}), "'module.encoder.fc.weight' is not known"),
        (lambda state: state.update({KEY: FOUR}), rf"{KEY} has the shape \(4,\); in the networks .* it is \(8,\)"),
        (
            lambda state: rename(state, "module.encoder.layer1.0.conv1.weight", "module.encoder.layer1.0.conv1.w"),
            r"conv1.weight is missing; the networks of --config have it, of shape \(4, 4, 3, 3, 3\)",
        ),
        (lambda state: state.update({KEY: np.full(8, np.nan, np.float32)}), rf"{KEY} holds values that are not finite"),
    ],
)
def test_other_weights_are_refused(tmp_path, config, change, sentence):
    state = simclr(ENCODER, (6, 5))
    change(state)
    with pytest.raises(InputError, match=rf"a\.tar: .*{sentence}"):
        convert(write(tmp_path / "a.tar", released(state)), tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"system": "symnorm"}, "system='symnorm'; releases are of simclr or saca"),
        ({"resnet.norm": "group"}, "system='simclr' with resnet.norm='group'; the release has 'batch'"),
    ],
)
def test_networks_that_the_release_cannot_fill_are_refused(tmp_path, changes, sentence):
    config = config_of("simclr", "full")
    config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=sentence):
        convert(tmp_path / "a.tar", tmp_path / "run", config)


def test_only_a_checkpoint_that_was_cut_off_is_written_over(tmp_path, config):
    path = write(tmp_path / "a.tar", released(simclr(ENCODER, (6, 5))))
    (tmp_path / "run" / "pretrain" / "ckpt" / "0" / "variables").mkdir(parents=True)
    convert(path, tmp_path / "run", config)
    assert taken_up(tmp_path / "run", config)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "overrides.json").write_text("{}")  # a run that has not come to a checkpoint
    for folder in ("run", "other"):
        with pytest.raises(RunError, match="has weights or a run already; another folder is needed"):
            convert(path, tmp_path / folder, config)
    assert (tmp_path / "other" / "overrides.json").read_text() == "{}"
    with pytest.raises(RunError, match="is a file; a folder is needed"):
        convert(path, path, config)


@pytest.mark.long
def test_the_command_converts_a_file_of_the_released_size(tmp_path):
    """33.16 million parameters of the encoder, 0.29 million of the projector; here in half the bytes.

    Arrays: 20 kernels, 3 of them with a bias, 20 norms of 4 arrays each, and the projector's 2.
    """
    state = simclr(ResNet3D(), (512, 64))
    halves = {name: array.astype(np.float16) if array.dtype == np.float32 else array for name, array in state.items()}
    path = write(tmp_path / "a.tar", released(halves))
    done = symnorm("convert", f"--input={path}", f"--output={tmp_path / 'run'}")
    assert (
        done.returncode == 0 and "105 arrays of a file of sha256 " in done.stdout and "not the release" in done.stdout
    )
    variables = taken_up(tmp_path / "run", config_of("simclr", "full"))
    counted = {net: sum(x.size for x in jax.tree.leaves(tree)) for net, tree in variables["params"].items()}
    assert (counted["encoder"], counted["projector"]) == (33_160_896, 512 * 512 + 512 * 64)
    kernel = state["module.encoder.layer4.1.conv2.weight"].astype(np.float16)
    np.testing.assert_array_equal(variables["params"]["encoder"]["level4_block1"]["conv2"]["kernel"], kernel.T)
    found = features(variables, ResNet3D(), (9, 8, 7))
    assert found.shape == (2, 512) and np.isfinite(found).all() and math.isfinite(found.std())


def test_the_command_ends_with_a_sentence(tmp_path):
    path = write(tmp_path / "a.tar", released({"module.encoder.conv1.weight": FOUR}))
    done = symnorm("convert", f"--input={path}", f"--output={tmp_path / 'run'}")
    assert (
        done.returncode == 1
        and done.stderr.startswith(f"error: {path}: module.encoder.")
        and "Traceback" not in done.stderr
    )
    assert not (tmp_path / "run").exists()

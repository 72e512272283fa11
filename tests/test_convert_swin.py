"""The Swin in a file of MONAI's Swin-UNETR becomes that of an encoder, once it is said which corners it merges."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from test_end_to_end import config_of
from test_swin3d import state_of, weights
from test_torch_checkpoint import write

from symnorm_jax.convert import weights as converter
from symnorm_jax.convert.weights import convert
from symnorm_jax.errors import ConfigError, InputError
from symnorm_jax.models.swin3d import Swin3D
from symnorm_jax.systems import BUILD
from symnorm_jax.training.checkpoint import restore_last
from symnorm_jax.training.transfer import shapes_of

CONFIG = config_of("saca")
NET = Swin3D(**{name: CONFIG.swin[name] for name in ("embed", "depths", "heads", "window")})
PATCHES, NORM = "module.swinViT.patch_embed.proj.weight", "module.swinViT.layers1.0.downsample.norm.bias"


def layout() -> dict:
    return shapes_of(BUILD["saca"](CONFIG), CONFIG)


@pytest.fixture(autouse=True)
def zeros(monkeypatch):
    """Networks are not initialised, which would compile for seconds."""
    made = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), layout())
    monkeypatch.setattr(converter, "_fresh", lambda system, config: flatten_dict(made, keep_empty_nodes=True))


def swin_unetr(folder: Path, change=None) -> Path:
    """What a file of a whole Swin-UNETR holds, in parts, with the older names of an MLP."""
    state = {f"module.swinViT.{name}".replace("linear", "fc"): array for name, array in state_of(NET).items()}
    state["module.swinViT.layers1.0.blocks.0.attn.relative_position_index"] = np.zeros((8, 8), np.int64)
    for other in ("encoder1.layer.conv1.conv.weight", "norm.weight", "rotation_head.weight", "contrastive_head.bias"):
        state[f"module.{other}"] = np.ones(2, np.float32)
    if change:
        change(state)
    return write(folder / "swin.pt", {"epoch": 3, "state_dict": state})


def test_weights_of_a_swin_unetr_become_those_of_the_encoder(tmp_path):
    origin = convert(swin_unetr(tmp_path), tmp_path / "run", CONFIG, "legacy")
    assert len(origin["left_out"]) == 5 and "module.norm.weight" in origin["left_out"]
    assert origin["fresh"] == ["decoder", "encoder", "head", "heads"]  # of the encoder the cross-attention
    shared = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (shared["swin"]["merging"], shared["swin"]["clip"]) == ("legacy", "monai")
    found = restore_last(tmp_path / "run" / "pretrain" / "ckpt", layout())["params"]["encoder"]["swin"]
    jax.tree.map(np.testing.assert_array_equal, found, weights(NET)["params"])


@pytest.mark.parametrize(
    "change, merging, error, sentence",
    [
        (None, None, ConfigError, "--merging=: the file does not say .* legacy, of MONAI before 1.5"),
        (None, "merging", ConfigError, "--merging=merging: the file does not say"),
        (lambda state: state.update({"swin_vit." + NORM[15:]: state[NORM]}), "v2", InputError, "stands there twice"),
        (lambda state: state.pop(NORM), "v2", InputError, "layers1.0.downsample.norm.bias is missing"),
        (lambda state: state.update({"module.layers3c.w": state[NORM]}), "v2", InputError, "'layers3c.w' is not known"),
        (
            lambda state: state.update({PATCHES: state[NORM]}),
            "v2",
            InputError,
            "has the shape .32,.; .* .4, 1, 2, 2, 2.",
        ),
    ],
)
def test_other_weights_are_refused(tmp_path, change, merging, error, sentence):
    with pytest.raises(error, match=sentence):
        convert(swin_unetr(tmp_path, change), tmp_path / "run", CONFIG, merging)
    assert not (tmp_path / "run").exists()

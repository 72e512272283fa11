"""What the arrays of the Swin in MONAI's Swin-UNETR are called, and how their axes lie; for `weights.convert`.

A file may be of the whole network, whose convolutions beside the Swin are left out, or of a pre-trained Swin by itself;
older ones call the layers of an MLP fc1 and fc2. A file does not say which corners its network merges: of MONAI before
1.5 and of all Swin-UNETR released for it that is `legacy`. Windows that are clipped read biases as MONAI does.
"""

import re
from collections import Counter

import numpy as np
from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError, InputError
from symnorm_jax.models.swin3d import MERGINGS

RELEASED = PEOPLE = ""  # no file is known by its sum
AXES = "[X, Y, Z]; in the file [X, Y, Z]"
# What Swin-UNETR has beside the Swin, and a network that pre-trained one.
OTHERS = ("encoder", "decoder", "out.", "norm.", "rotation_", "contrastive_", "conv")
INDEX = "relative_position_index"  # no weight
FRONT = re.compile(r"^(module\.)?(swinViT\.|swin_vit\.)?")
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
RENAMED = (  # ours, theirs; in this order
    *((r"^patches\.conv", "patch_embed.proj"), (r"attention\.bias$", "attn.relative_position_bias_table")),
    *((r"attention\.", "attn."), (r"_block(\d)", r".blocks.\1"), (r"_merging", ".downsample")),
)


def checked(config: ConfigDict, merging: str | None) -> ConfigDict:
    """Give the config the merging of the file, and MONAI's clipped windows. Raises ConfigError where none is named."""
    if merging not in MERGINGS:
        reason = "the file does not say which corners its network merges"
        allowed = "legacy, of MONAI before 1.5 and what was released for it, fixed, of later ones, or v2 is needed"
        raise ConfigError(f"--merging={merging or ''}: {reason}; {allowed}.")
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.swin.update(merging=merging, clip="monai")
    return config.lock()


def parted(state: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Part what is taken of a state dict, by its names in the Swin, from the names of what is left out.

    Raises InputError where two names come to the same.
    """
    names = {name: re.sub(r"mlp\.fc(\d)", r"mlp.linear\1", FRONT.sub("", name)) for name in state}
    left = [name for name, plain in names.items() if plain.endswith(INDEX) or plain.startswith(OTHERS)]
    kept = [name for name in state if name not in left]
    if twice := [name for name, count in Counter(names[name] for name in kept).items() if count > 1]:
        raise InputError(f"{twice[0]} stands there twice, under two prefixes; one Swin a file is allowed.")
    return {names[name]: state[name] for name in kept}, left


def torch_name(path: tuple[str, ...]) -> str | None:
    """Name the array at a path of `variables`, as MONAI's SwinTransformer does; None of what is not in the Swin."""
    _, network, part, *modules, leaf = path if len(path) > 3 else (*path, "", "")
    if (network, part) != ("encoder", "swin"):
        return None
    name = ".".join([*modules, leaf if modules[-1] == "attention" else LEAVES[leaf]])
    for ours, theirs in RENAMED:
        name = re.sub(ours, theirs, name)
    return re.sub(r"^stage(\d)", lambda found: f"layers{int(found[1]) + 1}.0", name)


def from_torch(name: str, array: np.ndarray) -> np.ndarray:
    """Put the axes of an array in our order: linear maps `[in, out]`, convolutions `[x, y, z, in, out]`."""
    if array.ndim == 5:
        return array.transpose(2, 3, 4, 1, 0)
    return array.T if array.ndim == 2 and name.endswith("weight") else array


def to_torch(name: str, array: np.ndarray) -> np.ndarray:
    """Invert `from_torch`."""
    return array.transpose(4, 3, 0, 1, 2) if array.ndim == 5 else from_torch(name, array)

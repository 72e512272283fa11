"""The names and axes of a Swin's arrays in MONAI's Swin-UNETR."""

import re

import numpy as np

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
RENAMED = (  # ours, theirs; in this order
    *((r"^patches\.conv", "patch_embed.proj"), (r"attention\.bias$", "attn.relative_position_bias_table")),
    *((r"attention\.", "attn."), (r"_block(\d)", r".blocks.\1"), (r"_merging", ".downsample")),
)


def torch_name(path: tuple[str, ...]) -> str:
    """Name the array at a path of `Swin3D`'s parameters as MONAI's SwinTransformer does."""
    *modules, leaf = path
    name = ".".join([*modules, leaf if modules[-1] == "attention" else LEAVES[leaf]])
    for ours, theirs in RENAMED:
        name = re.sub(ours, theirs, name)
    return re.sub(r"^stage(\d)", lambda found: f"layers{int(found[1]) + 1}.0", name)


def from_torch(name: str, array: np.ndarray) -> np.ndarray:
    """Put the axes of an array in our order: linear maps `[in, out]`, convolutions `[x, y, z, in, out]`."""
    if array.ndim == 5:
        return array.transpose(2, 3, 4, 1, 0)
    return array.T if array.ndim == 2 and name.endswith("weight") else array

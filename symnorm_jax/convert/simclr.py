"""What the released weights of 3D-Neuro-SimCLR are called, and how their axes lie; for `weights.convert`.

Names and shapes must be as in the release; counts of batches and the optimizer are left out. The release was
trained on volumes as [Z, Y, X], and so its kernels are [out, in, z, y, x]. Ours take [X, Y, Z] and are [x, y, z, in,
out]: every array has its axes in reverse, and the features of a volume are the same.
"""

import numpy as np
from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError

RELEASED = "f046dafe009de0cfa113a022c1ef9603d123834f217074eb86d26037e72b98f5"  # sha256 of release v1.0.0
PEOPLE = "44,958 T1 scans of 18,759 people in 11 public data sets (arXiv 2509.10620)"  # that the release learned from
AXES = "[X, Y, Z]; in the file [Z, Y, X]"
NETWORKS = ("encoder", "projector")  # of the release
COUNTS = "num_batches_tracked"  # by torch, for running means without a momentum
RENAMED = (  # ours, theirs; in this order
    *(("stem/conv", "conv1"), ("stem/norm", "bn1"), ("level", "layer"), ("_block", ".")),
    *(("shortcut_norm", "downsample.1"), ("shortcut", "downsample.0"), ("norm", "bn")),
    *(("hidden", "0"), ("out", "2"), ("/", ".")),
)
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def checked(config: ConfigDict, merging: str | None) -> ConfigDict:
    """Give the config back. Raises ConfigError for networks that are not the release's."""
    if config.resnet.norm != "batch" or merging:
        found = f"resnet.norm={config.resnet.norm!r}" + (f" and --merging={merging}" if merging else "")
        raise ConfigError(f"--config: system='simclr' with {found}; the release has 'batch', and no merging.")
    return config


def parted(state: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Part what is taken of a state dict from the names of what is left out."""
    left = [name for name in state if name.rpartition(".")[2] == COUNTS]
    return {name: array for name, array in state.items() if name not in left}, left


def torch_name(path: tuple[str, ...]) -> str | None:
    """Name the array at a path of `variables` as the release does; a path begins with its collection and network."""
    _, network, *modules, leaf = path
    if network not in NETWORKS:
        return None
    name = "/".join(modules)
    for ours, theirs in RENAMED:
        name = name.replace(ours, theirs)
    return f"module.{network}.{name}.{LEAVES[leaf]}"


def from_torch(name: str, array: np.ndarray) -> np.ndarray:
    """Reverse the axes of an array."""
    return array.T


to_torch = from_torch

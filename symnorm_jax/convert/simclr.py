"""Turn the released weights of 3D-Neuro-SimCLR into a checkpoint that a run can start from.

Names and shapes must be as in the release; counts of batches and the optimizer are left out. The release was
trained on volumes as [Z, Y, X], and so its kernels are [out, in, z, y, x]. Ours take [X, Y, Z] and are [x, y, z, in,
out]: every array has its axes in reverse, and the features of a volume are the same.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from symnorm_jax.convert import torch_checkpoint
from symnorm_jax.errors import ConfigError, InputError, RunError
from symnorm_jax.files import write_json
from symnorm_jax.paths import check_place
from symnorm_jax.rundir import ORIGIN, write_config
from symnorm_jax.settings import value_of
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.contract import System
from symnorm_jax.training.checkpoint import Checkpoints

RELEASED = "f046dafe009de0cfa113a022c1ef9603d123834f217074eb86d26037e72b98f5"  # sha256 of release v1.0.0
PEOPLE = "44,958 T1 scans of 18,759 people in 11 public data sets (arXiv 2509.10620)"  # that the release learned from
NETWORKS = ("encoder", "projector")  # of the release
PREPARATION = ("data.normalise", "data.percentiles", "data.midline")  # ours, whatever the release had
COUNTS = "num_batches_tracked"  # by torch, for running means without a momentum
RENAMED = (  # ours, theirs; in this order
    *(("stem/conv", "conv1"), ("stem/norm", "bn1"), ("level", "layer"), ("_block", ".")),
    *(("shortcut_norm", "downsample.1"), ("shortcut", "downsample.0"), ("norm", "bn")),
    *(("hidden", "0"), ("out", "2"), ("/", ".")),
)
NO_OPTIMIZER = {"none": np.int32(0)}  # Orbax writes nothing that is empty
Flat = dict[tuple[str, ...], Any]  # variables by their paths: collection, network, modules, leaf
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def convert(source: Path, output: Path, config: ConfigDict) -> dict[str, Any]:
    """Write a checkpoint of the file `source`, and return what `origin.json` says of it.

    `output` comes to hold `pretrain/ckpt/0`, like a stage of a run; `config.json`, the settings that a run must share
    to start from it; and last `origin.json`, which tells a run that these are converted weights and from where. One
    that was cut off in writing is replaced. Raises InputError for another file, ConfigError for a config that it is not
    for, RunError where a checkpoint or a run stands.
    """
    check_place(output)
    if any((output / name).exists() for name in (ORIGIN, "manifest.csv", "overrides.json")):
        raise RunError(f"--output={output}: has weights or a run already; another folder is needed.")
    if config.system != "simclr" or config.resnet.norm != "batch":
        norm = f" with resnet.norm={config.resnet.norm!r}" if "resnet" in config else ""
        raise ConfigError(f"--config: system={config.system!r}{norm}; the release is of 'simclr' with 'batch'.")
    system, state = BUILD[config.system](config), torch_checkpoint.read(source)
    try:
        flat = _converted(state, _fresh(system, config))
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    origin = _origin(source, state, flat)
    output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output / "pretrain", ignore_errors=True)
    with Checkpoints(output / "pretrain" / "ckpt") as checkpoints:
        checkpoints.save(0, unflatten_dict(flat), NO_OPTIMIZER)
    write_config(output, shared_settings(config, system))
    write_json(output / ORIGIN, origin)
    return origin


def _converted(state: dict[str, np.ndarray], flat: Flat) -> Flat:
    """Make variables, float32, of a state dict of torch; `flat` gives the shapes and networks that the release lacks.

    Raises InputError that names the first array that is missing, not known, of another shape, or not finite.
    """
    paths = {torch_name(path): path for path in flat if path[1] in NETWORKS}
    shapes = {name: flat[path].shape[::-1] for name, path in paths.items()}
    given = {name: array for name, array in state.items() if name.rpartition(".")[2] != COUNTS}
    for name, shape in shapes.items():
        if name not in given:
            raise InputError(f"{name} is missing; the networks of --config have it, of shape {shape}.")
    for name, array in given.items():
        if name not in shapes:
            raise InputError(f"{name[:80]!r} is not known; the networks of --config have {len(shapes)} other arrays.")
        if array.shape != shapes[name]:
            raise InputError(f"{name} has the shape {array.shape}; in the networks of --config it is {shapes[name]}.")
        if not np.isfinite(array.astype(np.float32)).all():
            raise InputError(f"{name} holds values that are not finite; only finite ones are allowed.")
    return flat | {path: jnp.asarray(given[name].astype(np.float32).T) for name, path in paths.items()}


def shared_settings(config: ConfigDict, system: System) -> dict[str, Any]:
    """Take the part of a config, nested like it, that a run must share to start from the weights."""
    shared = [key for key in ("system", *system.meaning) if key not in PREPARATION]
    return unflatten_dict({tuple(key.split(".")): value_of(config, key) for key in shared}) | {"init_from": None}


def torch_name(path: tuple[str, ...]) -> str:
    """Name the array at a path of `variables` as the release does; a path begins with its collection and network."""
    _, network, *modules, leaf = path
    name = "/".join(modules)
    for ours, theirs in RENAMED:
        name = name.replace(ours, theirs)
    return f"module.{network}.{name}.{LEAVES[leaf]}"


def _fresh(system: System, config: ConfigDict) -> Flat:
    """Make variables as a run begins them."""
    shape, key = (1, *config.data.size, 1), jax.random.key(config.seed)
    return flatten_dict(jax.jit(lambda: system.init(key, {"image": jnp.zeros(shape), "brain": jnp.ones(shape)}))())


def _origin(source: Path, state: dict[str, np.ndarray], flat: Flat) -> dict[str, Any]:
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    taken = {torch_name(path) for path in flat if path[1] in NETWORKS}
    return {
        **{"file": source.name, "sha256": digest, "released": digest == RELEASED},
        **{"learned_from": PEOPLE if digest == RELEASED else "scans that are not known here", "arrays": len(taken)},
        "left_out": sorted(state.keys() - taken),
        "fresh": sorted({path[1] for path in flat if path[1] not in NETWORKS}),  # networks that the release lacks
        "axes": "[X, Y, Z]; in the file [Z, Y, X]",
    }

"""Turn weights of others, a file of torch, into a checkpoint that a run can start from.

What a file holds, and under which names, is known by release (`simclr`, `swin_unetr`); names and shapes must be those
of the networks of a config. Networks that a file lacks are as a run begins them.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import empty_node, flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from symnorm_jax.convert import simclr, swin_unetr, torch_checkpoint
from symnorm_jax.errors import ConfigError, InputError, RunError
from symnorm_jax.files import write_json
from symnorm_jax.paths import check_place
from symnorm_jax.rundir import MANIFEST, ORIGIN, OVERRIDES, write_config
from symnorm_jax.settings import value_of
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.contract import System
from symnorm_jax.training.checkpoint import Checkpoints

# Modules with `checked`, what the config and the options allow; `parted`, what is taken and what is left out of a state
# dict; `torch_name`, of a variable's path, None of a network that the file lacks; `from_torch` and `to_torch`, the axes
# of an array; and what is told of the origin.
RELEASES = {"simclr": simclr, "saca": swin_unetr}
PREPARATION = ("data.normalise", "data.percentiles", "data.midline")  # ours, whatever the release had
NO_OPTIMIZER = {"none": np.int32(0)}  # Orbax writes nothing that is empty
State = dict[str, np.ndarray]
Flat = dict[tuple[str, ...], Any]  # variables by their paths: collection, network, modules, leaf


def convert(source: Path, output: Path, config: ConfigDict, merging: str | None = None) -> dict[str, Any]:
    """Write a checkpoint of the file `source`, and return what `origin.json` says of it.

    `output` comes to hold `pretrain/ckpt/0`, like a stage of a run; `config.json`, the settings that a run must share
    to start from it; and last `origin.json`, which tells a run that these are converted weights and from where. One
    that was cut off in writing is replaced. A Swin's `merging` must be said, for its file does not. Raises InputError
    for another file, ConfigError for a config that it is not for, RunError where a checkpoint or a run stands.
    """
    check_place(output)
    if any((output / name).exists() for name in (ORIGIN, MANIFEST, OVERRIDES)):
        raise RunError(f"--output={output}: has weights or a run already; another folder is needed.")
    if config.system not in RELEASES:
        raise ConfigError(f"--config: system={config.system!r}; releases are of {' or '.join(RELEASES)}.")
    release = RELEASES[config.system]
    config = release.checked(config, merging)
    system, state = BUILD[config.system](config), torch_checkpoint.read(source)
    given, left = release.parted(state)
    try:
        flat = _converted(given, _fresh(system, config), release)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    origin = _origin(source, left, flat, release)
    output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output / "pretrain", ignore_errors=True)
    with Checkpoints(output / "pretrain" / "ckpt") as checkpoints:
        checkpoints.save(0, unflatten_dict(flat), NO_OPTIMIZER)
    write_config(output, shared_settings(config, system))
    write_json(output / ORIGIN, origin)
    return origin


def _converted(given: State, flat: Flat, release) -> Flat:
    """Make variables, float32, of the arrays `given`; `flat` has the shapes, and the networks that the file lacks.

    Raises InputError that names the first array that is missing, not known, of another shape, or not finite.
    """
    paths = _names(flat, release)
    shapes = {name: release.to_torch(name, np.empty(flat[path].shape, bool)).shape for name, path in paths.items()}
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
    ours = {path: release.from_torch(name, given[name].astype(np.float32)) for name, path in paths.items()}
    return flat | {path: jnp.asarray(array) for path, array in ours.items()}


def _names(flat: Flat, release) -> dict[str, tuple[str, ...]]:
    """List the paths of the variables that a file has, by its names."""
    there = [path for path, x in flat.items() if x is not empty_node]
    return {name: path for path in there if (name := release.torch_name(path))}


def shared_settings(config: ConfigDict, system: System) -> dict[str, Any]:
    """Take the part of a config, nested like it, that a run must share to start from the weights."""
    shared = [key for key in ("system", *system.meaning) if key not in PREPARATION]
    return unflatten_dict({tuple(key.split(".")): value_of(config, key) for key in shared}) | {"init_from": None}


def _fresh(system: System, config: ConfigDict) -> Flat:
    """Make variables as a run begins them."""
    shape, key = (1, *config.data.size, 1), jax.random.key(config.seed)
    made = jax.jit(lambda: system.init(key, {"image": jnp.zeros(shape), "brain": jnp.ones(shape)}))()
    return flatten_dict(made, keep_empty_nodes=True)


def _origin(source: Path, left: list[str], flat: Flat, release) -> dict[str, Any]:
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    known, names = digest == release.RELEASED, _names(flat, release)
    held = {path[:3] for path in names.values()}
    lacking = [path[1] for path, x in flat.items() if x is not empty_node and path[:3] not in held]
    return {
        **{"file": source.name, "sha256": digest, "released": known},
        **{"learned_from": release.PEOPLE if known else "scans that are not known here", "arrays": len(names)},
        "left_out": sorted(left),
        "fresh": sorted(set(lacking)),  # networks that the file lacks, or has in part
        "axes": release.AXES,
    }

"""Turn the released weights of 3D-Neuro-SimCLR, a file of torch, into a checkpoint that a run can start from.

python launch/convert_torch.py --input=simclr_3d_brain_foundation.tar --output=runs/neuro_simclr
python launch/train.py --config=configs/simclr.py:released --config.data.root=/data/ixi

The file is no tar archive, whatever its name says: give it as it is. Torch is not needed, and nothing that the file
holds is executed. Names and shapes must be those of the release; counts of batches and the optimizer are left out.
`--config` is for weights of other widths, as of a network that was trained elsewhere.

The release was trained on volumes as [Z, Y, X], and so its kernels are [out, in, z, y, x]. Ours take [X, Y, Z] and are
[x, y, z, in, out]: every array has its axes in reverse, and the features of a volume are the same.

Writes `pretrain/ckpt/0`, like a stage of a run; `config.json`, the settings that a run must share to start from it;
and last `origin.json`, which says where it came from and tells a run that these are converted weights.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict, config_flags

from configs import simclr
from symnorm_jax.convert import torch_checkpoint
from symnorm_jax.errors import ConfigError, InputError, RunError, parsed, reported
from symnorm_jax.files import write_json
from symnorm_jax.lineage import ORIGIN
from symnorm_jax.rundir import write_config
from symnorm_jax.settings import value_of
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.contract import System
from symnorm_jax.training.checkpoint import Checkpoints

_INPUT = flags.DEFINE_string("input", None, "The file of torch.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The folder for the checkpoint.", required=True)
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The config whose networks the weights are for; configs/simclr.py:full unless given."
)
RELEASED = "f046dafe009de0cfa113a022c1ef9603d123834f217074eb86d26037e72b98f5"  # sha256 of release v1.0.0
LEARNED_FROM = {  # whether the file is the release
    True: "44,958 T1 scans of 18,759 people in 11 public data sets (arXiv 2509.10620)",
    False: "scans that are not known here",
}
NETWORKS = ("encoder", "projector")  # of the release
PREPARATION = ("data.percentiles", "data.midline")  # which is ours, however scans were prepared for the release
COUNTS = "num_batches_tracked"  # by torch, for running means without a momentum
RENAMED = (  # ours, theirs; in this order
    *(("stem/conv", "conv1"), ("stem/norm", "bn1"), ("level", "layer"), ("_block", ".")),
    *(("shortcut_norm", "downsample.1"), ("shortcut", "downsample.0"), ("norm", "bn")),
    *(("hidden", "0"), ("out", "2"), ("/", ".")),
)
NO_OPTIMIZER = {"none": np.int32(0)}  # Orbax writes nothing that is empty
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def torch_name(path: tuple[str, ...]) -> str:
    """The release's name of the array at a path of `variables`, which begins with its collection and network."""
    _, network, *modules, leaf = path
    name = "/".join(modules)
    for ours, theirs in RENAMED:
        name = name.replace(ours, theirs)
    return f"module.{network}.{name}.{LEAVES[leaf]}"


def converted(state: dict[str, np.ndarray], fresh: dict[str, Any]) -> dict[str, Any]:
    """`variables`, float32, from a state dict of torch; networks that the release lacks are those of `fresh`.

    `fresh` gives the shapes. Raises InputError that names the first array that is missing, not known, of another
    shape, or not finite.
    """
    flat = flatten_dict(fresh)
    wanted = {torch_name(path): (path, x.shape) for path, x in flat.items() if path[1] in NETWORKS}
    given = {name: array for name, array in state.items() if name.rpartition(".")[2] != COUNTS}
    for name, (_, shape) in wanted.items():
        if name not in given:
            raise InputError(f"{name} is missing; the networks of --config have it, of shape {shape[::-1]}.")
    for name, array in given.items():
        if name not in wanted:
            raise InputError(f"{name[:80]!r} is not known; the networks of --config have {len(wanted)} other arrays.")
        if array.shape != wanted[name][1][::-1]:
            ours = wanted[name][1][::-1]
            raise InputError(f"{name} has the shape {array.shape}; in the networks of --config it is {ours}.")
        if not np.isfinite(array.astype(np.float32)).all():
            raise InputError(f"{name} holds values that are not finite; only finite ones are allowed.")
    taken = {path: jnp.asarray(given[name].astype(np.float32).T) for name, (path, _) in wanted.items()}
    return unflatten_dict(flat | taken)


def system_of(config: ConfigDict) -> System:
    """The system whose networks the weights are for. Raises ConfigError for one that the release cannot fill."""
    if config.system != "simclr" or config.resnet.norm != "batch":
        found = f"--config: system={config.system!r} with resnet.norm={config.resnet.norm!r}"
        raise ConfigError(f"{found}; the release is of 'simclr' with 'batch'.")
    return BUILD[config.system](config)


def fresh_variables(system: System, config: ConfigDict) -> dict[str, Any]:
    """`variables` as a run begins them; those of the release's networks only as shapes, for they are replaced."""
    shape = (1, *config.data.size)
    make = lambda: system.init(  # noqa: E731
        jax.random.key(config.seed), {"image": jnp.zeros((*shape, 1)), "brain": jnp.ones((*shape, 1))}
    )
    own = jax.jit(lambda: {path: x for path, x in flatten_dict(make()).items() if path[1] not in NETWORKS})()
    return unflatten_dict(flatten_dict(jax.eval_shape(make)) | own)


def convert(source: Path, output: Path, config: ConfigDict) -> dict[str, Any]:
    """Write the checkpoint, `config.json` and `origin.json`; what the last says.

    Raises InputError for another file, ConfigError for a config that it is not for, RunError where a checkpoint or a
    run stands. One that was cut off in writing is replaced.
    """
    if output.exists() and not output.is_dir():
        raise RunError(f"--output={output}: is a file; a folder is needed.")
    if any((output / name).exists() for name in (ORIGIN, "manifest.csv", "overrides.json")):
        raise RunError(f"--output={output}: has weights or a run already; another folder is needed.")
    system = system_of(config)
    state = torch_checkpoint.read(source)
    try:
        variables = converted(state, fresh_variables(system, config))
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    origin = origin_of(source, state, variables)
    output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output / "pretrain", ignore_errors=True)  # of a conversion that was cut off: origin.json comes last
    with Checkpoints(output / "pretrain" / "ckpt") as checkpoints:
        checkpoints.save(0, variables, NO_OPTIMIZER)
    write_config(output, shared_settings(config, system))
    write_json(output / ORIGIN, origin)
    return origin


def shared_settings(config: ConfigDict, system: System) -> dict[str, Any]:
    """The part of a config, nested like it, that a run must share to start from the weights."""
    shared = [key for key in ("system", *system.meaning) if key not in PREPARATION]
    return unflatten_dict({tuple(key.split(".")): value_of(config, key) for key in shared}) | {"init_from": None}


def origin_of(source: Path, state: dict[str, np.ndarray], variables: dict[str, Any]) -> dict[str, Any]:
    """What `origin.json` says of a file, its state dict and what was made of that."""
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    released, flat = digest == RELEASED, flatten_dict(variables)
    taken = {torch_name(path) for path in flat if path[1] in NETWORKS}
    return {
        "file": source.name,
        "sha256": digest,
        "released": released,
        "learned_from": LEARNED_FROM[released],
        "arrays": len(taken),
        "left_out": sorted(state.keys() - taken),
        "fresh": sorted({path[1] for path in flat if path[1] not in NETWORKS}),  # networks that the release lacks
        "axes": "[X, Y, Z]; in the file [Z, Y, X]",
    }


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)  # Orbax tells long stories
    with reported():
        origin = convert(Path(_INPUT.value), Path(_OUTPUT.value), _CONFIG.value or simclr.get_config("full"))
    which = "the release" if origin["released"] else f"not the release, which has {RELEASED}"
    print(f"{_OUTPUT.value}: {origin['arrays']} arrays of a file of sha256 {origin['sha256']}: {which}")


if __name__ == "__main__":
    app.run(main, flags_parser=parsed)

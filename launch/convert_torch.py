"""Turn the released weights of 3D-Neuro-SimCLR, a file of torch, into a checkpoint that a run can start from.

python launch/convert_torch.py --input=simclr_3d_brain_foundation.tar --output=runs/neuro_simclr

The file is no tar archive, whatever its name says: give it as it is. Torch is not needed, and nothing that the file
holds is executed. Names and shapes must be those of the release; counts of batches and the optimizer are left out.

The release was trained on volumes as [Z, Y, X], and so its kernels are [out, in, z, y, x]. Ours take [X, Y, Z] and are
[x, y, z, in, out]: every array has its axes in reverse, and the features of a volume are the same.

Writes `pretrain/ckpt/0`, like a stage of a run, and `origin.json`, which says where it came from.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from flax.traverse_util import flatten_dict, unflatten_dict

from symnorm_jax import torch_checkpoint
from symnorm_jax.errors import InputError, RunError, reported
from symnorm_jax.files import write_json
from symnorm_jax.models.resnet3d import Projector, ResNet3D
from symnorm_jax.training.checkpoint import Checkpoints

_INPUT = flags.DEFINE_string("input", None, "The file of torch.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The folder for the checkpoint.", required=True)
RELEASED = "f046dafe009de0cfa113a022c1ef9603d123834f217074eb86d26037e72b98f5"  # sha256 of release v1.0.0
COUNTS = "num_batches_tracked"  # by torch, for running means without a momentum
RENAMED = (  # ours, theirs; in this order
    *(("stem/conv", "conv1"), ("stem/norm", "bn1"), ("level", "layer"), ("_block", ".")),
    *(("shortcut_norm", "downsample.1"), ("shortcut", "downsample.0"), ("norm", "bn")),
    *(("hidden", "0"), ("out", "2"), ("/", ".")),
)
NO_OPTIMIZER = {"none": np.int32(0)}  # Orbax writes nothing that is empty
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def shapes(encoder: ResNet3D, projector: Projector) -> dict[str, Any]:
    """`variables` of the two networks for volumes of one channel, as shapes."""
    side = 8  # any
    of_encoder = jax.eval_shape(
        partial(encoder.init, train=False), jax.random.key(0), jnp.zeros((1, side, side, side, 1))
    )
    of_projector = jax.eval_shape(projector.init, jax.random.key(0), jnp.zeros((1, encoder.widths[-1])))
    params = {"encoder": of_encoder["params"], "projector": of_projector["params"]}
    return {"params": params, "stats": {"encoder": of_encoder["batch_stats"]}}


def torch_name(path: tuple[str, ...]) -> str:
    """The release's name of the array at a path of `variables`, which begins with its collection and network."""
    _, network, *modules, leaf = path
    name = "/".join(modules)
    for ours, theirs in RENAMED:
        name = name.replace(ours, theirs)
    return f"module.{network}.{name}.{LEAVES[leaf]}"


def converted(state: dict[str, np.ndarray], encoder: ResNet3D, projector: Projector) -> dict[str, Any]:
    """`variables`, float32, from a state dict of torch.

    Raises InputError that names the first array that is missing, not known, of another shape, or not finite.
    """
    wanted = {torch_name(path): (path, x.shape) for path, x in flatten_dict(shapes(encoder, projector)).items()}
    given = {name: array for name, array in state.items() if name.rpartition(".")[2] != COUNTS}
    for name, (_, shape) in wanted.items():
        if name not in given:
            raise InputError(f"{name} is missing; the release has it, of shape {shape[::-1]}.")
    for name, array in given.items():
        if name not in wanted:
            raise InputError(f"{name[:80]!r} is not known; the release has {len(wanted)} arrays and not this one.")
        if array.shape != wanted[name][1][::-1]:
            raise InputError(f"{name} has the shape {array.shape}; that of the release is {wanted[name][1][::-1]}.")
        if not np.isfinite(array.astype(np.float32)).all():
            raise InputError(f"{name} holds values that are not finite; only finite ones are allowed.")
    return unflatten_dict({path: jnp.asarray(given[name].astype(np.float32).T) for name, (path, _) in wanted.items()})


def convert(source: Path, output: Path, encoder: ResNet3D, projector: Projector) -> dict[str, Any]:
    """Write the checkpoint and `origin.json`; what that says.

    Raises InputError for another file, RunError where a checkpoint stands. One that was cut off in writing is replaced.
    """
    if output.exists() and not output.is_dir():
        raise RunError(f"--output={output}: is a file; a folder is needed.")
    state = torch_checkpoint.read(source)
    try:
        variables = converted(state, encoder, projector)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    arrays = len(jax.tree.leaves(variables))
    origin = {"file": source.name, "sha256": digest, "released": digest == RELEASED, "arrays": arrays}
    origin |= {"left_out": sorted(state.keys() - {torch_name(path) for path in flatten_dict(variables)})}
    origin |= {"axes": "[X, Y, Z]; in the file [Z, Y, X]"}
    output.mkdir(parents=True, exist_ok=True)
    with Checkpoints(output / "pretrain" / "ckpt") as checkpoints:
        if checkpoints.latest() is not None:
            raise RunError(f"--output={output}: has a checkpoint already; another folder is needed.")
        write_json(output / "origin.json", origin)
        checkpoints.save(0, variables, NO_OPTIMIZER)
    return origin


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)  # Orbax tells long stories
    with reported():
        origin = convert(Path(_INPUT.value), Path(_OUTPUT.value), ResNet3D(), Projector())
    which = "the release" if origin["released"] else f"not the release, which has {RELEASED}"
    print(f"{_OUTPUT.value}: {origin['arrays']} arrays of a file of sha256 {origin['sha256']}: {which}")


if __name__ == "__main__":
    app.run(main)

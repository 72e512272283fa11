"""A model's networks as StableHLO, for programs that have JAX and not this package.

`residual.stablehlo` takes a batch of the contract, `image`, `brain` and `index`, to the raw map and the scores of its
slices; `embed.stablehlo` takes the same and, of a system with maps, `difference` to the embedding and its distance.
Weights and Gaussian are within. What lies between the two, the standardised map of a whole scan, is made by NumPy and
is in neither.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax import export

from symnorm_jax.inference.model import EMBED, RESIDUAL, Model
from symnorm_jax.scoring.mahalanobis import distance
from symnorm_jax.settings import contrasts_of
from symnorm_jax.systems.contract import Batch

PLATFORMS = ("cpu", "cuda", "tpu")
PLACES = "jax_traceback_in_locations_limit"  # how many places in the source are told of an operation

Program = Callable[[Batch], dict[str, jax.Array]]


def programs(model: Model) -> dict[str, bytes]:
    """Lower what a slice goes through on a device, `{file: bytes}`, for batches of any size."""
    system, (size,) = model.system, export.symbolic_shape("B")
    of = lambda channels: jax.ShapeDtypeStruct((size, *model.config.data.size, channels), np.float32)  # noqa: E731
    batch = {"image": of(len(contrasts_of(model.config))), "brain": of(1), "index": jax.ShapeDtypeStruct((size,), "i4")}
    residual, embed = _programs(model._replace(variables=jax.device_get(model.variables)))
    if system.residual is None:
        return {EMBED: _lowered(embed, batch)}
    return {RESIDUAL: _lowered(residual, batch), EMBED: _lowered(embed, batch | {"difference": of(1)})}


def _programs(model: Model) -> tuple[Program, Program]:
    system, variables = model.system, model.variables

    def residual(batch: Batch) -> dict[str, jax.Array]:
        found = system.residual(variables, batch)
        return {"map": found.map, **found.scalars}

    def embed(batch: Batch) -> dict[str, jax.Array]:
        found = system.embed(variables, batch)
        more = {name: x for name in ("predicted", "map") if (x := getattr(found, name)) is not None}
        return {"z": found.z, "mahalanobis": distance(model.gaussian, found.z), **found.scalars, **more}

    return residual, embed


def _lowered(program: Program, batch: Batch) -> bytes:
    """Lower and serialise a program, without the places in its source, which are paths of whoever exports it."""
    before = getattr(jax.config, PLACES)
    jax.config.update(PLACES, 0)
    try:
        return bytes(export.export(jax.jit(program), platforms=PLATFORMS)(batch).serialize())
    finally:
        jax.config.update(PLACES, before)

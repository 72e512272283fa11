"""The mesh, and where arrays lie on it: examples are spread over all devices, everything else is on each.

The same lines serve one CPU and a pod. Mesh axes are Auto: the step is written for the global batch, and the compiler
inserts the collectives.
"""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from symnorm_jax.errors import ConfigError

DATA = "data"


def make_mesh() -> Mesh:
    """One axis, `data`, over every device of every host."""
    return jax.make_mesh((jax.device_count(),), (DATA,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def by_example(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(DATA))


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """A host's part of a batch as part of the global one, spread by example."""
    return {name: jax.make_array_from_process_local_data(by_example(mesh), x) for name, x in batch.items()}


def check_batch_size(key: str, batch_size: int) -> None:
    """Raise ConfigError unless examples spread evenly over the devices."""
    if batch_size < 1 or batch_size % jax.device_count():
        raise ConfigError(f"{key}={batch_size}; a positive multiple of the {jax.device_count()} devices is allowed.")

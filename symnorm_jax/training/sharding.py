"""The mesh, and where arrays lie on it: examples over all devices, large arrays of the model over the axis `fsdp`.

Mesh axes are Auto: the step is written for the global batch, and the compiler inserts the collectives. Fully sharded
data parallelism is as in ZeRO-3 (Rajbhandari et al. 2020): devices hold parts of an array, and gather it when needed.
"""

import math
import os
from collections.abc import Callable
from typing import Any

import jax
import joblib
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from symnorm_jax import ranges
from symnorm_jax.errors import ConfigError
from symnorm_jax.settings import check_rules, flat

DATA, FSDP = "data", "fsdp"
FORCED = "xla_force_host_platform_device_count"


def share_cores(config: ConfigDict, begun: int | None) -> None:
    """Make a device of each core of a CPU, as many as batches fit: XLA computes these networks on one core a device.

    Before any other use of JAX, and where the user has not said how many. A run that was `begun` on some number of them
    goes on with it and so ends in the bits it would have had. Accelerators are left as they are. Raises ConfigError for
    a number out of its range.
    """
    ranges.check(config)
    if jax.config.jax_num_cpu_devices >= 0 or FORCED in os.environ.get("XLA_FLAGS", ""):
        return
    each = [value for key, value in flat(config).items() if key.endswith("batch_size")]
    whole = math.gcd(*(size // config.train.accumulate for size in each))
    fit = [n for n in range(1, joblib.cpu_count() + 1) if whole % n == 0 and n % config.sharding.fsdp == 0]
    jax.config.update("jax_num_cpu_devices", begun or max(fit, default=1))


def make_mesh(fsdp: int = 1, devices: list[jax.Device] | None = None) -> Mesh:
    """Make a mesh of axes `data` and `fsdp` over `devices`, by default all of every host."""
    devices = jax.devices() if devices is None else devices
    shape = (len(devices) // fsdp, fsdp)
    return jax.make_mesh(shape, (DATA, FSDP), axis_types=(AxisType.Auto,) * 2, devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def by_example(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Spread examples, which lie along `axis` of an array, over both axes of the mesh, in parts of equal size."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * axis, (DATA, FSDP)))


def layout(tree: Any, mesh: Mesh, smallest: int) -> Any:
    """Shard each array of `smallest` values or more over `fsdp`, by its longest axis that divides.

    Gradients and optimizer moments have the shapes of the parameters, and so lie with them.
    """

    def of_one(x: jax.ShapeDtypeStruct) -> NamedSharding:
        parts = mesh.shape[FSDP]
        divides = [axis for axis, side in enumerate(x.shape) if side % parts == 0]
        if parts == 1 or math.prod(x.shape) < smallest or not divides:
            return replicated(mesh)
        longest = max(divides, key=lambda axis: x.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*(FSDP if axis == longest else None for axis in range(longest + 1))))

    return jax.tree.map(of_one, tree)


def created(make, arguments: tuple, mesh: Mesh, smallest: int) -> Any:
    """Run `make(*arguments)` compiled, with its arrays created where `layout` has them: never whole on one device."""
    shardings = layout(jax.eval_shape(make, *arguments), mesh, smallest)
    return jax.jit(make, out_shardings=shardings)(*arguments)


def put_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Place a host's part of a batch as part of the global one, spread by example."""
    with jax.transfer_guard("allow"):  # of many hosts JAX takes this for one that nobody asked for
        return {name: jax.make_array_from_process_local_data(by_example(mesh), x) for name, x in batch.items()}


def put_whole(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Place a batch that every host has whole, spread by example."""
    place = by_example(mesh)
    return {name: jax.make_array_from_callback(x.shape, place, x.__getitem__) for name, x in batch.items()}


def evenly(size: int, mesh: Mesh) -> int:
    """Round a batch size up to examples that spread evenly over the devices of a mesh."""
    return -(-size // mesh.size) * mesh.size


def answering(of: Callable, mesh: Mesh) -> Callable:
    """Jit `of(variables, batch)` for batches that every host has whole: devices share them and have all answers."""
    jitted = jax.jit(of, out_shardings=replicated(mesh))
    return lambda variables, batch: jitted(variables, put_whole(batch, mesh))


def check_batch_size(key: str, batch_size: int, parts: int = 1) -> None:
    """Raise ConfigError unless examples of each of the `parts` of a batch spread evenly over the devices."""
    if batch_size < 1 or batch_size % (jax.device_count() * parts):
        times = f" times train.accumulate={parts}" if parts > 1 else ""
        allowed = f"a positive multiple of the {jax.device_count()} devices{times}"
        raise ConfigError(f"{key}={batch_size}; {allowed} is allowed.")


def check_sharding(config: ConfigDict) -> None:
    """Raise ConfigError unless the section `sharding` fits the devices."""
    devices = jax.device_count()
    divides = (lambda fsdp: fsdp > 0 and devices % fsdp == 0, f"a divisor of the {devices} devices is")
    check_rules(config, {"fsdp": divides}, "sharding.")

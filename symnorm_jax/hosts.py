"""One program on many hosts: how they find each other, who writes files, and where they wait for one another.

Hosts share one file system. The first of them, the lead, alone writes to the terminal and what is not a checkpoint.
"""

from collections.abc import Callable

import jax
from jax.experimental import multihost_utils

from symnorm_jax.errors import ConfigError, RunError, one_line


def join(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Join the hosts of a run; without arguments as TPU pods, SLURM and Open MPI tell. Before any other use of JAX.

    Raises RunError where neither arguments nor the surroundings say who takes part.
    """
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        hint = "JAX knows of no pod here; give --coordinator, --processes and --process."
        raise RunError(f"--pod: {error} {hint}") from None


def lead() -> bool:
    """Say whether this process is the one that writes files. Raises ConfigError where `check_jax` does."""
    check_jax()
    return jax.process_index() == 0


def check_jax() -> None:
    """Raise ConfigError where JAX finds no device of the kind that is asked for, or computes in 64 bits."""
    if jax.config.jax_enable_x64:
        raise ConfigError("JAX_ENABLE_X64=1; networks, sums and checkpoints are of 32 bits, and only 0 is allowed.")
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter, without a word, for a kind whose plugin is missing
        asked, said = f"JAX_PLATFORMS={jax.config.jax_platforms or ''}", one_line(error).partition(" (set JAX")[0]
        told = f"JAX finds no such device here ({said})"
        raise ConfigError(f"{asked}: {told}; unset it, or name one of cpu, cuda and tpu that is here.") from None


def wait(name: str) -> None:
    """Return once every host has come to the place of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def agreed(mine: bool) -> bool:
    """Say whether every host says so."""
    return bool(multihost_utils.process_allgather(jax.numpy.asarray(mine)).all()) if jax.process_count() > 1 else mine


def on_lead(write: Callable[[], None]) -> None:
    """Call `write` on the lead while the others wait. Where it fails no host goes on: RunError on the others."""
    failed = None
    if lead():
        try:
            write()
        except Exception as error:
            failed = error
    if not agreed(failed is None):
        raise failed or RunError("the first host has failed, and says why.")

"""The flags that begin a run, for every launcher that does: a config, the directory of the run, and its hosts."""

from pathlib import Path
from typing import Any

import jax
from absl import flags, logging
from ml_collections import ConfigDict, config_flags

from symnorm_jax.hosts import join

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/, perhaps with :tiny.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run directory; runs/<config name>, as runs/lgg_dae, unless given.")
_POD = flags.DEFINE_bool("pod", False, "Join the other hosts of a TPU pod or a cluster, which JAX finds by itself.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "With --pod where JAX cannot: host:port of the first host.")
_PROCESSES = flags.DEFINE_integer("processes", None, "The number of processes that take part, likewise.")
_PROCESS = flags.DEFINE_integer("process", None, "The number of this process among them, from 0, likewise.")
_PROFILE = flags.DEFINE_string("profile", None, "Steps whose JAX profile is written, as unet:20-25.")
flags.mark_flags_as_required(["config"])


def begin() -> tuple[ConfigDict, Path, dict[str, Any]]:
    """The config, the run directory, and the config's file with what was overridden, from the flags.

    Logs become quiet, and XLA's cache lies beside the run. Raises RunError where --pod finds no other hosts.
    """
    logging.set_verbosity(logging.WARNING)  # Orbax tells a long story of every save
    if _POD.value or _COORDINATOR.value:
        join(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    flag = flags.FLAGS["config"]
    path, _, size = config_flags.get_config_filename(flag).partition(":")
    words = [word for word in size.split(",") if word != "full"]
    workdir = Path(_WORKDIR.value or Path("runs") / "_".join(filter(None, (Path(path).stem, *words))))
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(workdir.absolute().parent / ".xla"))
    shown = path if not Path(path).is_absolute() else Path(path).name  # folders may have the names of people
    begun = {"config": ":".join(filter(None, (shown, size)))}
    if _PROFILE.value:
        _CONFIG.value.train.profile = _PROFILE.value
    return _CONFIG.value, workdir, begun | config_flags.get_override_values(flag)

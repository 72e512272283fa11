"""The run directory: what was run and on what, and metrics as JSON lines."""

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from symnorm_jax.errors import RunError
from symnorm_jax.files import locked, named, read_json, remove_partial, write_json, write_text
from symnorm_jax.hosts import agreed, by_lead, lead
from symnorm_jax.settings import flat, leaves

INDIFFERENT = (  # keys that change where and how fast, not what
    *("data.store", "data.threads", "data.workers", "network.remat", "sharding.fsdp", "sharding.smallest"),
    *("train.writers", "train.profile", "train.log_every", "train.checkpoint_every"),
)
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "nibabel", "numpy", "scipy", "scikit-learn")


@contextmanager
def claimed(workdir: Path) -> Iterator[None]:
    """Keeps other processes out of a run directory while the block runs. Raises RunError where there is one in it."""
    with ExitStack() as stack:
        if lead():
            workdir.mkdir(parents=True, exist_ok=True)
        if not agreed(stack.enter_context(locked(workdir / ".lock")) if lead() else True):
            raise RunError(f"{workdir} is in use by another process; wait for its end, or choose another --workdir.")
        yield


@by_lead
def open_run(workdir: Path, config: ConfigDict, overrides: dict[str, Any]) -> None:
    """Begin a run in `workdir`, or make sure that the one there was begun with the same config.

    Raises RunError that names the keys that differ.
    """
    path = workdir / "config.json"
    if path.exists():
        _refuse_other_config(path, config)
    workdir.mkdir(parents=True, exist_ok=True)
    remove_partial(workdir)  # of a run that was cut off before it had a config, too
    if path.exists():
        return
    write_json(workdir / "overrides.json", overrides)
    write_json(workdir / "environment.json", environment())
    write_json(path, json.loads(config.to_json()))


def read_config(workdir: Path) -> ConfigDict:
    """The config a run was begun with. Raises RunError where `workdir` holds no run."""
    path = Path(workdir) / "config.json"
    if not path.exists():
        raise RunError(f"{workdir} holds no run: there is no config.json; begin one with launch/train.py.")
    return ConfigDict(read_json(path)).lock()


def _refuse_other_config(path: Path, config: ConfigDict) -> None:
    was, now = leaves(read_json(path)), flat(config)
    keys = [key for key in sorted(was | now) if was.get(key) != now.get(key) and key not in INDIFFERENT]
    if keys:
        differences = ", ".join(f"{key} (there {was.get(key)!r}, here {now.get(key)!r})" for key in keys)
        raise RunError(f"{path.parent} was begun with another config: {differences}; choose another --workdir.")


def environment() -> dict[str, Any]:
    """Versions, commit and devices. No user or host name."""
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "commit": _commit(),
        "devices": [str(device.device_kind) for device in jax.devices()],
        "processes": jax.process_count(),
    }


def _commit() -> str | None:
    """The commit of this code; None outside a repository, and where there is no git."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    with suppress(FileNotFoundError):
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None
    return None


class MetricsLog:
    """A JSON-lines file of metrics by step; lines after `start`, left by a run that was cut off, are dropped."""

    def __init__(self, path: Path, start: int):
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= start]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(kept))
        self._path = path

    def write(self, step: int, metrics: dict[str, float]) -> None:
        with named(self._path), self._path.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics file."""
    return [json.loads(line) for line in path.read_text().splitlines()]

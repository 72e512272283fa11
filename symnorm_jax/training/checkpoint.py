"""Orbax checkpoints of the whole model and the optimizer of its stage, with sums by which damage is found."""

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import reduce
from logging import getLogger
from operator import add
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from symnorm_jax.errors import RunError
from symnorm_jax.hosts import agreed, lead, wait

KEEP = 2
MARKERS = ("commit_success.txt", "_CHECKPOINT_METADATA")  # what Orbax writes last
STRIDE = (np.uint32(7919) ** np.arange(8, dtype=np.uint32)).astype(np.uint32)  # any, so that places differ
WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}  # unsigned integers by their bytes

# Orbax raises the first error of many arrays; asyncio would log every other at length, whenever it is collected.
getLogger("asyncio").addFilter(lambda record: "orbax" not in record.getMessage())


class Checkpoints(AbstractContextManager):
    """The checkpoints of one stage, `<folder>/<step>/{variables,opt}` and their sums; leaving ends all writing.

    Checkpoints whose writing was cut off are removed, and a warning says so.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        for one in folder.glob("[0-9]*") if lead() else ():
            if one.name.isdecimal() and not any((one / marker).exists() for marker in MARKERS):
                logging.warning("%s was not written to its end and is removed", one)
                shutil.rmtree(one)
        wait(f"checkpoints {folder}")
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, create=True, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __exit__(self, failed, *_) -> None:
        with suppress(RunError) if failed else nullcontext(), self._writing():  # one error at a time is told
            self._manager.close()

    def latest(self) -> int | None:
        """Find the step of the last whole checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, variables: Any, opt: Any) -> None:
        """Write in the background. Raises RunError where this or the one before could not be written."""
        items = {"variables": variables, "opt": opt}
        items |= {f"{name}_sums": {"sums": fingerprint(item)} for name, item in items.items()}
        args = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        with self._writing():
            self._manager.save(step, args=ocp.args.Composite(**args), force=True)

    def wait(self) -> None:
        """Wait until everything saved is on disk. Raises RunError where it could not be written."""
        with self._writing():
            self._manager.wait_until_finished()

    def restore(self, variables: Any, opt: Any) -> tuple[int, Any, Any]:
        """Read step, variables and optimizer of the last checkpoint that is sound, laid out like those given.

        Damaged ones after it are removed, with a warning. Without a checkpoint it is step 0 and what was given.
        Raises RunError where there are checkpoints and none is sound: nothing is removed then.
        """
        damaged, told = {}, "%s/%s is damaged and removed, step %s is taken: %s"
        for step in sorted(self._manager.all_steps(), reverse=True):
            found, damage = _read(self._manager, step, {"variables": variables, "opt": opt})
            if damage is None:
                for one, reason in damaged.items():
                    logging.warning(told, self._folder, one, step, reason)
                    self._manager.delete(one)
                for old in sorted(self._manager.all_steps())[:-KEEP]:  # whose removal was cut off
                    self._manager.delete(old)
                return step, found["variables"], found["opt"]
            damaged[step] = damage
        if damaged:
            last = damaged[max(damaged)]
            raise RunError(f"{self._folder}: no checkpoint can be read, remove it to begin anew: {last}")
        return 0, variables, opt

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of the file system, in whatever words Orbax and TensorStore have for it
            told = f"{self._folder}: a checkpoint could not be written, those before it stay: {_brief(error)}"
            raise RunError(told) from None


def restore_last(folder: Path, variables: Any) -> Any:
    """Read the last checkpoint in a folder, laid out like `variables`, writing nothing. Raises RunError for damage."""
    with _reading(folder) as manager:
        step = manager.latest_step()
        found, damage = _read(manager, step, {"variables": variables})
    if damage:
        raise RunError(f"{folder}/{step} is damaged: {damage}; remove it and train again.")
    return found["variables"]


def networks_of(folder: Path, section: str = "params") -> set[str]:
    """Name the networks whose parameters, or whose `stats`, the last checkpoint in a folder has."""
    with _reading(folder) as manager:
        last = folder.absolute() / str(manager.latest_step()) / "variables"
    return set(ocp.StandardCheckpointHandler().metadata(last).tree.get(section, ()))


def _reading(folder: Path) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(folder.absolute(), options=ocp.CheckpointManagerOptions(create=False))


@jax.jit
def fingerprint(tree: Any) -> jax.Array:
    """Sum each array of a tree to a number, `[arrays]` uint32, which changes with any one bit of the array.

    It does not depend on how arrays lie on devices: sums of integers have no order, as sums of floats do.
    """

    def of_one(x: jax.Array) -> jax.Array:
        bits = jax.lax.bitcast_convert_type(x, WORDS[x.dtype.itemsize]).astype(jnp.uint32)
        along = (jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * STRIDE[axis] for axis in range(x.ndim))
        return (bits * (2 * reduce(add, along, jnp.uint32(0)) + 1)).sum(dtype=jnp.uint32)  # odd, so no bit is lost

    return jnp.stack([of_one(x) for x in jax.tree.leaves(tree)] or [jnp.uint32(0)])


def _read(manager: ocp.CheckpointManager, step: int, wanted: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Read the items of a checkpoint and None, or what is wrong with it; every host comes to the same answer."""
    shapes = {name: jax.tree.map(ocp.tree.to_shape_dtype_struct, item) for name, item in wanted.items()}
    for name, item in wanted.items():  # arrays of the host, which is to read them whatever devices wrote them
        shapes[f"{name}_sums"] = {"sums": np.zeros(jax.eval_shape(fingerprint, item).shape, np.uint32)}
    args, damage = {name: ocp.args.StandardRestore(item) for name, item in shapes.items()}, None
    try:
        found = manager.restore(step, args=ocp.args.Composite(**args))
    except Exception as error:  # damaged files end in many kinds of error
        damage = _brief(error)
    if not agreed(damage is None):
        return {}, damage or "another host cannot read it"
    for name in wanted:  # only now, for all hosts together make these sums
        if (np.asarray(fingerprint(found[name])) != found[f"{name}_sums"]["sums"]).any():
            return {}, f"its {name} are not those that were written"
    return found, None


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

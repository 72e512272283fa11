"""Orbax checkpoints: the whole model, and beside it the optimizer of the stage that wrote it."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

KEEP = 2


class Checkpoints:
    """The checkpoints of one stage, `<folder>/<step>/{variables,opt}`; a context manager that ends all writing."""

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=KEEP, create=True, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

    def latest(self) -> int | None:
        """The step of the last whole checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, step: int, variables: Any, opt: Any) -> None:
        items = ocp.args.Composite(variables=ocp.args.StandardSave(variables), opt=ocp.args.StandardSave(opt))
        self._manager.save(step, args=items, force=True)

    def wait(self) -> None:
        """Return once everything saved is on disk."""
        self._manager.wait_until_finished()

    def restore(self, step: int, variables: Any, opt: Any = None) -> tuple[Any, Any]:
        """Variables and optimizer as saved at `step`, laid out like those given; `opt=None` leaves the optimizer."""
        wanted = {"variables": variables} if opt is None else {"variables": variables, "opt": opt}
        found = self._manager.restore(step, args=_like(wanted))
        return found["variables"], None if opt is None else found["opt"]


def restore_last(folder: Path, variables: Any) -> Any:
    """The variables of the last whole checkpoint in a folder that is only read, laid out like those given."""
    with ocp.CheckpointManager(folder.absolute(), options=ocp.CheckpointManagerOptions(read_only=True)) as manager:
        return manager.restore(manager.latest_step(), args=_like({"variables": variables}))["variables"]


def _like(items: dict[str, Any]) -> ocp.args.Composite:
    shapes = {name: jax.tree.map(ocp.tree.to_shape_dtype_struct, item) for name, item in items.items()}
    return ocp.args.Composite(**{name: ocp.args.StandardRestore(shape) for name, shape in shapes.items()})

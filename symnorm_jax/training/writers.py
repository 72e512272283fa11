"""Writers of metrics: `metrics.jsonl` and, both optional, TensorBoard and Weights & Biases, for watching many runs."""

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from symnorm_jax.errors import ConfigError
from symnorm_jax.hosts import lead
from symnorm_jax.rundir import LOG, metrics_writer

Write = Callable[[int, dict[str, float]], None]


def tensorboard(library, folder: Path, stack: ExitStack) -> Write:
    """Write scalars to `<folder>/tensorboard`."""
    writer = stack.enter_context(library.SummaryWriter(str(folder / "tensorboard")))

    def write(step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            writer.add_scalar(f"{folder.name}/{name}", value, step)
        writer.flush()

    return write


def wandb(library, folder: Path, stack: ExitStack) -> Write:
    """Write a run, named after run directory and stage, to `<folder>/wandb`; WANDB_MODE alone has anything sent."""
    places = {f"WANDB_{kind}_DIR": str(folder / "wandb") for kind in ("CACHE", "CONFIG", "DATA")}  # else in the home
    for name, value in (places | {"WANDB_ERROR_REPORTING": "false"}).items():  # which is on even while offline
        os.environ.setdefault(name, value)
    mode = os.environ.get("WANDB_MODE", "offline")
    run = library.init(dir=str(folder), project="symnorm_jax", name=f"{folder.parent.name}/{folder.name}", mode=mode)
    stack.callback(run.finish)
    return lambda step, metrics: run.log(metrics, step=step)


WRITERS = {"tensorboard": (tensorboard, "tensorboardX"), "wandb": (wandb, "wandb")}


def check_writers(names: tuple[str, ...]) -> None:
    """Raise ConfigError unless each of `train.writers` is known and its library installed."""
    for name in names:
        if name not in WRITERS:
            raise ConfigError(f"train.writers={name!r}; some of {sorted(WRITERS)} are allowed.")
        _library(name)


def _library(name: str):
    try:
        return importlib.import_module(WRITERS[name][1])
    except ImportError:
        raise ConfigError(f"train.writers={name!r} needs {WRITERS[name][1]}: pip install -e '.[{name}]'") from None


@contextmanager
def recording(folder: Path, start: int, names: tuple[str, ...]) -> Iterator[Write]:
    """Write metrics by step to `<folder>/metrics.jsonl` and with the writers of these names; on the lead only."""
    with ExitStack() as stack:
        writers = [metrics_writer(folder / LOG, start)] if lead() else []
        writers += [WRITERS[name][0](_library(name), folder, stack) for name in names if lead()]

        def write(step: int, metrics: dict[str, float]) -> None:
            for one in writers:
                one(step, metrics)

        yield write

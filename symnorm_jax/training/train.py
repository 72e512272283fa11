"""The trainer: one loop, for every stage of every system."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict

from symnorm_jax.errors import Preempted, RunError
from symnorm_jax.progress import progress
from symnorm_jax.rundir import CHECKPOINTS, MAPS
from symnorm_jax.systems.contract import Stage, System, Variables
from symnorm_jax.training.checkpoint import Checkpoints
from symnorm_jax.training.meter import Meter, profiled
from symnorm_jax.training.sharding import created, make_mesh, put_batch, replicated
from symnorm_jax.training.step import compiled, make_optimizer, make_step
from symnorm_jax.training.transfer import restored, schedule
from symnorm_jax.training.writers import recording

Batches = Callable[[int, int], Iterator[dict[str, np.ndarray]]]  # (batch size, first step) -> batches
WithMaps = Callable[[Variables], Batches]  # of networks that make maps


def train(
    system: System, config: ConfigDict, batches: Batches, workdir: Path, with_maps: WithMaps | None = None
) -> Variables:
    """Train every stage in turn and return the whole model; stages and steps already in `workdir` are not repeated.

    Stages that are `of_maps` have their batches by `with_maps`, once the stages before are trained.
    With `init_from` the networks come from that run, and `finetune` names the stages.
    Raises NonFiniteError, with the last good checkpoint in place, RunError where checkpoints contradict each other or
    cannot be written, and Preempted after a checkpoint when SIGTERM or Ctrl-C asks the program to end.
    """
    mesh = make_mesh(config.sharding.fsdp)
    variables = initial_variables(system, config, next(batches(jax.device_count(), 0)), mesh)
    if config.init_from:
        variables = restored(config.init_from, system, variables)
    stages = schedule(config, system)
    for place, (name, settings) in enumerate(stages.items(), 1):
        with Checkpoints(workdir / name / CHECKPOINTS) as checkpoints:
            stage, after = system.stages[name], [*stages][place:]
            if (checkpoints.latest() or 0) < settings.steps:
                _refuse_later(name, after if stage.of_maps else [MAPS, *after], workdir)
            loop = _Loop(name, stage, settings, config, workdir / name, checkpoints, mesh)
            variables = loop.run(variables, partial(_with_maps, with_maps, variables) if stage.of_maps else batches)
    return variables


def _with_maps(with_maps: WithMaps, variables: Variables, batch_size: int, start: int) -> Iterator[dict]:
    return with_maps(variables)(batch_size, start)  # called where there are steps to be taken, and not before


def _refuse_later(name: str, after: list[str], workdir: Path) -> None:
    """Raise RunError for what an unfinished stage would belie: maps, or checkpoints of the stages after it."""
    for one in after:
        held = "is there" if one == MAPS else "has checkpoints"
        if (workdir / MAPS).exists() if one == MAPS else any((workdir / one / CHECKPOINTS).glob("[0-9]*")):
            raise RunError(f"{workdir}: {one} {held}, but {name} before it is not finished; remove {one}.")


def initial_variables(system: System, config: ConfigDict, batch: dict[str, np.ndarray], mesh: Mesh) -> Variables:
    """Initialise variables where they are to lie; `batch` is a host's part of one.

    The seed is no part of what is compiled: XLA takes long over random numbers, and its cache then serves every seed.
    """
    seed = np.asarray(jax.random.key_data(jax.random.key(config.seed)))
    make = lambda seed, batch: system.init(jax.random.wrap_key_data(seed), batch)  # noqa: E731
    return created(make, (seed, put_batch(batch, mesh)), mesh, config.sharding.smallest)


@contextmanager
def warned() -> Iterator[Callable[[int], int]]:
    """Give a function of the step: the signal to stop for after it, or 0; on many hosts, at the same step on each.

    So SIGTERM, by which SLURM, Kubernetes and clouds warn that they take the machine away, and Ctrl-C end training at
    the next step with a checkpoint; Ctrl-C again ends it at once. Elsewhere they end the program: the rest is done
    again.
    """
    if jax.process_count() > 1:  # JAX listens for SIGTERM itself, and agrees on the step
        yield lambda step: signal.SIGTERM if multihost_utils.reached_preemption_sync_point(step) else 0
        return
    received = []
    if threading.current_thread() is not threading.main_thread():  # where Python lets no handler be set
        yield lambda step: 0
        return

    def note(number: int, _) -> None:
        received.append(number)
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)

    heard = [one for one in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(one) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield lambda step: received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:  # at the last step, which needs no checkpoint but its own: the program ends all the same
        signal.raise_signal(received[0])


class _Loop(NamedTuple):  # over the steps of one stage
    name: str
    stage: Stage
    settings: ConfigDict  # steps, batch_size, optimizer
    config: ConfigDict
    folder: Path
    checkpoints: Checkpoints
    mesh: Mesh

    def run(self, variables: Variables, batches: Batches) -> Variables:
        """Train from the last checkpoint, or from `variables`, to the last step."""
        steps, smallest = self.settings.steps, self.config.sharding.smallest
        optimizer = make_optimizer(steps=steps, **self.settings.optimizer)
        opt = created(optimizer.init, (_part(variables["params"], self.stage.trains),), self.mesh, smallest)
        start, variables, opt = self.checkpoints.restore(variables | {"stats": self._begun(variables["stats"])}, opt)
        if start >= steps:
            return variables
        params, often = variables["params"], self.config.train
        frozen = _part(params, params.keys() - set(self.stage.trains))
        state = {"params": _part(params, self.stage.trains), "stats": variables["stats"], "opt": opt}
        state["step"] = jax.jit(lambda: np.int32(start), out_shardings=replicated(self.mesh))()
        step = make_step(self.name, self.stage, optimizer, self.config.seed, steps, self.mesh, often.accumulate)
        stream = batches(self.settings.batch_size, start)  # makes maps first where the stage has its batches from them
        with recording(self.folder, start, often.writers) as write, warned() as stops, jax.transfer_guard("disallow"):
            return self._steps(step, state, frozen, stream, start, write, stops)

    def _begun(self, stats: dict[str, Any]) -> dict[str, Any]:
        """Set what the stage measures to 0, as it lay; the rest of the stats is taken over."""
        zeros = partial(jax.tree.map, jnp.zeros_like)
        measured = {name: stats[name] for name in self.stage.measures}
        return stats | created(zeros, (measured,), self.mesh, self.config.sharding.smallest)

    def _steps(self, step, state, frozen, stream, start: int, write, stops) -> Variables:
        """Take steps from `start` to the last one, with metrics and checkpoints as often as configured."""
        steps, often = self.settings.steps, self.config.train
        batch = next(stream)
        step = compiled(step, state, frozen, batch, self.mesh)
        meter = Meter(write, self.name, start, step.flops, self.settings.batch_size)
        model = lambda: {"params": frozen | state["params"], "stats": state["stats"]}  # noqa: E731
        for t in progress(range(start + 1, steps + 1), f"training {self.name}", steps, start):
            with meter.timed("host"), profiled(self.name, t, often.profile, self.folder):
                state, metrics = step.run(state, frozen, put_batch(batch, self.mesh))
            meter.add(t, metrics)
            ends = stops(t)
            saves = ends or t == steps or t % often.checkpoint_every == 0
            if saves or t % often.log_every == 0:
                meter.flush()  # before saving, so that no checkpoint is taken after a loss that is not finite
            if saves:
                self.checkpoints.save(t, model(), state["opt"])
            if ends and t < steps:
                self.checkpoints.wait()
                where = f"step {t} of {steps} of {self.name}"
                raise Preempted(f"stopped at {where}, which is saved; the same command goes on.", ends)
            if t < steps:
                with meter.timed("data"):
                    batch = next(stream)
        self.checkpoints.wait()
        return model()


def _part(params: dict[str, Any], nets: Iterable[str]) -> dict[str, Any]:
    return {net: params[net] for net in nets}

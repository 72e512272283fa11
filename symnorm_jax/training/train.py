"""The trainer: one loop, for every stage of every system."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from symnorm_jax.errors import Preempted, RunError
from symnorm_jax.progress import progress
from symnorm_jax.systems.contract import Stage, System, Variables
from symnorm_jax.training import preemption
from symnorm_jax.training.checkpoint import Checkpoints
from symnorm_jax.training.meter import Meter
from symnorm_jax.training.optim import make_optimizer
from symnorm_jax.training.profile import profiled
from symnorm_jax.training.sharding import created, make_mesh, put_batch, replicated
from symnorm_jax.training.step import State, compiled, make_step
from symnorm_jax.training.transfer import restored, schedule
from symnorm_jax.training.writers import recording

Batches = Callable[[int, int], Iterator[dict[str, np.ndarray]]]  # (batch size, first step) -> batches


def train(system: System, config: ConfigDict, batches: Batches, workdir: Path) -> Variables:
    """Train every stage in turn and return the whole model; stages and steps already in `workdir` are not repeated.

    With `init_from` the networks are those of that run, and the stages those that `finetune` asks for.
    Raises NonFiniteError, with the last good checkpoint in place, RunError where checkpoints contradict each other or
    cannot be written, and Preempted after a checkpoint when SIGTERM asks the program to end.
    """
    mesh = make_mesh(config.sharding.fsdp)
    variables = initial_variables(system, config, next(batches(jax.device_count(), 0)), mesh)
    if config.init_from:
        variables = restored(config.init_from, system, variables)
    stages = schedule(config, system)
    names = list(stages)
    for name, settings in stages.items():
        run = lambda start, size=settings.batch_size: batches(size, start)  # noqa: E731
        with Checkpoints(workdir / name / "ckpt") as checkpoints:
            if (checkpoints.latest() or 0) < settings.steps:
                _refuse_if_begun(names[names.index(name) + 1 :], name, workdir)
            task = _Task(name, system.stages[name], settings, workdir / name)
            variables = _train_stage(task, config, variables, run, checkpoints, mesh)
    return variables


def initial_variables(system: System, config: ConfigDict, batch: dict[str, np.ndarray], mesh: Mesh) -> Variables:
    """Freshly initialised variables, created where they are to lie; `batch` is a host's part of one.

    The seed is no part of what is compiled: XLA takes long over random numbers, and its cache then serves every seed.
    """
    seed = np.asarray(jax.random.key_data(jax.random.key(config.seed)))
    make = lambda seed, batch: system.init(jax.random.wrap_key_data(seed), batch)  # noqa: E731
    return created(make, (seed, put_batch(batch, mesh)), mesh, config.sharding.smallest)


class _Task(NamedTuple):
    name: str
    stage: Stage
    settings: ConfigDict  # steps, batch_size, optimizer
    folder: Path


def _train_stage(task: _Task, config, variables, batches, checkpoints, mesh) -> Variables:
    steps, optimizer = task.settings.steps, make_optimizer(steps=task.settings.steps, **task.settings.optimizer)
    trained = _part(variables["params"], task.stage.trains)
    opt = created(optimizer.init, (trained,), mesh, config.sharding.smallest)
    start, variables, opt = checkpoints.restore(variables, opt)
    if start >= steps:
        return variables
    trained = _part(variables["params"], task.stage.trains)
    frozen = _part(variables["params"], variables["params"].keys() - trained.keys())
    state = {"params": trained, "stats": variables["stats"], "opt": opt}
    state["step"] = jax.jit(lambda: np.int32(start), out_shardings=replicated(mesh))()
    step = make_step(task.name, task.stage, optimizer, config.seed, steps, mesh, config.train.accumulate)
    with ExitStack() as stack:
        write = stack.enter_context(recording(task.folder, start, config.train.writers))
        should_stop = stack.enter_context(preemption.warned())
        stack.enter_context(jax.transfer_guard("disallow"))
        loop = _Loop(task, config, step, batches(start), write, should_stop, checkpoints, mesh)
        state = _run_steps(loop, state, frozen, start)
    return {"params": frozen | state["params"], "stats": state["stats"]}


class _Loop(NamedTuple):
    task: _Task
    config: ConfigDict
    step: Callable
    stream: Iterator[dict[str, np.ndarray]]
    write: Callable[[int, dict[str, float]], None]
    should_stop: Callable[[int], bool]
    checkpoints: Checkpoints
    mesh: Mesh


def _run_steps(loop: _Loop, state: State, frozen: dict[str, Any], start: int) -> State:
    """From step `start` to the last one, with metrics and checkpoints as often as configured."""
    name, steps, often = loop.task.name, loop.task.settings.steps, loop.config.train
    batch = next(loop.stream)
    step = compiled(loop.step, state, frozen, batch, loop.mesh)
    meter = Meter(loop.write, name, start, step.flops, loop.task.settings.batch_size)
    for t in progress(range(start + 1, steps + 1), f"training {name}", steps, start):
        with meter.timed("host"), profiled(name, t, often.profile, loop.task.folder):
            state, metrics = step.run(state, frozen, put_batch(batch, loop.mesh))
        meter.add(t, metrics)
        ends = loop.should_stop(t)
        saves = ends or t == steps or t % often.checkpoint_every == 0
        if saves or t % often.log_every == 0:
            meter.flush()  # before saving, so that no checkpoint is taken after a loss that is not finite
        if saves:
            loop.checkpoints.save(t, {"params": frozen | state["params"], "stats": state["stats"]}, state["opt"])
        if ends and t < steps:
            loop.checkpoints.wait()
            raise Preempted(f"stopped at step {t} of {steps} of {name}, which is saved; the same command goes on.")
        if t < steps:
            with meter.timed("data"):
                batch = next(loop.stream)
    loop.checkpoints.wait()
    return state


def _part(params: dict[str, Any], nets: Iterable[str]) -> dict[str, Any]:
    return {net: params[net] for net in nets}


def _refuse_if_begun(stages: list[str], before: str, workdir: Path) -> None:
    """Raise RunError where a stage has checkpoints that an unfinished stage before it would belie."""
    for name in stages:
        if any((workdir / name / "ckpt").glob("[0-9]*")):
            raise RunError(f"{workdir}: {name} has checkpoints, but {before} before it is not finished; remove {name}.")

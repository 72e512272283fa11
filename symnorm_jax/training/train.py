"""The trainer: one pure step and one loop, for every stage of every system."""

import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from symnorm_jax.errors import NonFiniteError, RunError
from symnorm_jax.systems.contract import Batch, Stage, System, Variables
from symnorm_jax.training.checkpoint import Checkpoints
from symnorm_jax.training.optim import make_optimizer
from symnorm_jax.training.runlog import MetricsLog, progress
from symnorm_jax.training.sharding import by_example, make_mesh, put_batch, replicated
from symnorm_jax.training.transfer import restored, schedule

State = dict[str, Any]  # "step", "params" of the nets in training, "stats", "opt"
Batches = Callable[[int, int], Iterator[dict[str, np.ndarray]]]  # (batch size, first step) -> batches


def train(system: System, config: ConfigDict, batches: Batches, workdir: Path) -> Variables:
    """Train every stage in turn and return the whole model; stages and steps already in `workdir` are not repeated.

    With `init_from` the networks are those of that run, and the stages those that `finetune` asks for.
    Raises NonFiniteError, with the last good checkpoint in place, and RunError where checkpoints contradict each other.
    """
    mesh = make_mesh()
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
    """Freshly initialised variables, created where they are to lie."""
    init = jax.jit(lambda batch: system.init(jax.random.key(config.seed), batch), out_shardings=replicated(mesh))
    return init(put_batch(batch, mesh))


def make_step(name: str, stage: Stage, optimizer: optax.GradientTransformation, seed: int, steps: int, mesh: Mesh):
    """The jitted step `(state, frozen, batch) -> (state, metrics)`; `frozen` is the params of the other networks.

    All randomness comes from the seed, the stage's name and the step, so that none of it needs to be saved.
    """

    def step(state: State, frozen: dict[str, Any], batch: Batch) -> tuple[State, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
        key = jax.random.fold_in(key, state["step"])
        batch = batch | {"progress": state["step"] / steps}

        def loss(params):
            return stage.loss({"params": frozen | params, "stats": state["stats"]}, batch, key)

        (value, aux), grads = jax.value_and_grad(loss, has_aux=True)(state["params"])
        updates, opt = optimizer.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        metrics = {"loss": value, "gradient_norm": optax.tree.norm(grads), **aux.metrics}
        return {"step": state["step"] + 1, "params": params, "stats": aux.stats, "opt": opt}, metrics

    everywhere = replicated(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, everywhere, by_example(mesh)),
        out_shardings=(everywhere, everywhere),
        donate_argnums=0,
    )


class _Task(NamedTuple):
    name: str
    stage: Stage
    settings: ConfigDict  # steps, batch_size, optimizer
    folder: Path


def _train_stage(task: _Task, config, variables, batches, checkpoints, mesh) -> Variables:
    name, stage, settings, folder = task
    steps, start = settings.steps, checkpoints.latest() or 0
    optimizer = make_optimizer(steps=steps, **settings.optimizer)
    opt = jax.jit(optimizer.init, out_shardings=replicated(mesh))(_part(variables["params"], stage.trains))
    if start:
        variables, opt = checkpoints.restore(start, variables, opt)
    if start >= steps:
        return variables
    trained = _part(variables["params"], stage.trains)
    frozen = _part(variables["params"], variables["params"].keys() - trained.keys())
    state = {"params": trained, "stats": variables["stats"], "opt": opt}
    state["step"] = jax.device_put(np.int32(start), replicated(mesh))
    step = make_step(name, stage, optimizer, config.seed, steps, mesh)
    log = _Log(MetricsLog(folder / "metrics.jsonl", start), name, start)
    whole = lambda: {"params": frozen | state["params"], "stats": state["stats"]}  # noqa: E731
    with jax.transfer_guard("disallow"):
        stream = batches(start)
        for t in progress(range(start + 1, steps + 1), f"training {name}", steps, start):
            with log.waiting():
                batch = next(stream)
            state, metrics = step(state, frozen, put_batch(batch, mesh))
            log.add(t, metrics)
            last = t == steps
            if last or t % config.train.log_every == 0 or t % config.train.checkpoint_every == 0:
                log.flush()  # before saving, so that no checkpoint is taken after a loss that is not finite
            if last or t % config.train.checkpoint_every == 0:
                checkpoints.save(t, whole(), state["opt"])
        checkpoints.wait()
    return whole()


def _part(params: dict[str, Any], nets: Iterable[str]) -> dict[str, Any]:
    return {net: params[net] for net in nets}


def _refuse_if_begun(stages: list[str], before: str, workdir: Path) -> None:
    """Raise RunError where a stage has checkpoints that an unfinished stage before it would belie."""
    for name in stages:
        if any((workdir / name / "ckpt").glob("[0-9]*")):
            raise RunError(f"{workdir}: {name} has checkpoints, but {before} before it is not finished; remove {name}.")


class _Log:
    """Gathers the metrics of steps on the device and fetches them together, so that the loop rarely waits."""

    def __init__(self, file: MetricsLog, name: str, start: int):
        self._file, self._name, self._pending = file, name, []
        self._since, self._time, self._waited = start, time.perf_counter(), 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time in which the loop waits for a batch."""
        begun = time.perf_counter()
        yield
        self._waited += time.perf_counter() - begun

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        self._pending.append((step, metrics))

    def flush(self) -> None:
        """Write the mean over the steps since the last flush. Raises NonFiniteError with the step and the value."""
        fetched = [(step, jax.device_get(metrics)) for step, metrics in self._pending]
        for step, metrics in fetched:
            for metric, value in metrics.items():
                if not np.isfinite(value):
                    raise NonFiniteError(
                        f"{self._name}: {metric} is {value} at step {step}; the last checkpoint stays."
                    )
        now, step = time.perf_counter(), fetched[-1][0]
        means = {metric: float(np.mean([m[metric] for _, m in fetched])) for metric in fetched[0][1]}
        seconds = max(now - self._time, 1e-9)
        pace = {"steps_per_second": (step - self._since) / seconds, "waited": self._waited / seconds}
        self._file.write(step, means | {name: round(value, 4) for name, value in pace.items()})
        self._pending, self._since, self._time, self._waited = [], step, now, 0.0

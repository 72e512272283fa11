"""One training step, and its optimizer, for every stage of every system, on every mesh."""

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from symnorm_jax.systems.contract import Aux, Batch, Stage
from symnorm_jax.training.flops import count
from symnorm_jax.training.sharding import by_example, put_batch, replicated

State = dict[str, Any]  # "step", "params" of the networks in training, "stats", "opt"


class Step(NamedTuple):
    """A compiled step `(state, frozen, batch) -> (state, metrics)`, which takes the memory of the state it is given."""

    run: Callable[[State, dict[str, Any], Batch], tuple[State, dict[str, jax.Array]]]
    flops: float  # of all devices together


def make_optimizer(
    *, steps: int, learning_rate: float, warmup_steps: int, weight_decay: float, clip_norm: float
) -> optax.GradientTransformation:
    """Make AdamW with linear warm-up, cosine decay to zero and gradients clipped by their global norm."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, min(warmup_steps, steps - 1), steps)
    return optax.chain(optax.clip_by_global_norm(clip_norm), optax.adamw(schedule, weight_decay=weight_decay))


def make_step(
    name: str, stage: Stage, optimizer: optax.GradientTransformation, seed: int, steps: int, mesh: Mesh, parts: int = 1
) -> Callable:
    """Make the pure step `(state, frozen, batch) -> (state, metrics)`; `frozen` is the params of the other networks.

    All randomness comes from the seed, the stage's name and the step, so that none of it needs to be saved.
    Gradients are the mean over the `parts` of a batch, one of which is in memory at a time. `stats` pass from part to
    part. A loss that compares examples, as contrastive ones do, stays within a part.
    """

    def step(state: State, frozen: dict[str, Any], batch: Batch) -> tuple[State, dict[str, jax.Array]]:
        key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))
        key = jax.random.fold_in(key, state["step"])
        progress = state["step"] / steps

        def loss(params, stats, part):
            value, aux = stage.loss({"params": frozen | params, "stats": stats}, part | {"progress": progress}, key)
            return value, Aux({"loss": value, **aux.metrics}, aux.stats)

        gradients = partial(jax.grad(loss, has_aux=True), state["params"])
        if parts == 1:
            grads, aux = gradients(state["stats"], batch)
        else:
            grads, aux = _accumulated(gradients, state, _in_parts(batch, parts, by_example(mesh, axis=1)))
        updates, opt = optimizer.update(grads, state["opt"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        metrics = aux.metrics | {"gradient_norm": optax.tree.norm(grads)}
        return {"step": state["step"] + 1, "params": params, "stats": aux.stats, "opt": opt}, metrics

    return step


def compiled(step: Callable, state: State, frozen: dict[str, Any], batch: dict[str, Any], mesh: Mesh) -> Step:
    """Compile a step for arguments like these, whose state it lays out as it finds it; `batch` is a host's part."""
    kept = jax.tree.map(lambda x: x.sharding, state)
    jitted = jax.jit(step, out_shardings=(kept, replicated(mesh)), donate_argnums=0)
    traced = jitted.trace(state, frozen, put_batch(batch, mesh))
    return Step(traced.lower().compile(), count(traced.jaxpr.jaxpr))


def _in_parts(batch: Batch, parts: int, place: NamedSharding) -> Batch:
    """Divide `[B, ...]` into `[parts, B / parts, ...]`, each over all devices; example i goes to part i % parts."""
    divided = {name: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1) for name, x in batch.items()}
    return jax.lax.with_sharding_constraint(divided, place)


def _accumulated(gradients: Callable, state: State, batch: Batch) -> tuple[Any, Aux]:
    """Average gradients and metrics over the parts of a batch; the stats are those after the last."""

    def of_part(carry, part):
        total, stats = carry
        grads, aux = gradients(stats, part)
        return (jax.tree.map(jnp.add, total, grads), aux.stats), aux.metrics

    nothing = jax.tree.map(jnp.zeros_like, state["params"])
    (total, stats), metrics = jax.lax.scan(of_part, (nothing, state["stats"]), batch)
    parts = len(metrics["loss"])
    return jax.tree.map(lambda x: x / parts, total), Aux(jax.tree.map(lambda x: x.mean(0), metrics), stats)

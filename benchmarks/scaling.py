"""A training step on many devices that are not there: compiled for them, and its time on paper, as Markdown tables.

python benchmarks/scaling.py --config=configs/mets.py --devices=256
python benchmarks/scaling.py --config=configs/mets.py --devices=32 --batch=16 --config.sharding.fsdp=8
python benchmarks/scaling.py --config=configs/mets.py --devices=256 --config.network.dtype=bfloat16 --no-compile
python benchmarks/scaling.py --config=configs/simclr.py:full --devices=1 --batch=1 --config.network.remat=True

The devices are simulated on the CPU. Nothing is run and no array of the model is made: its state is shapes with
shardings, and the step is compiled ahead of time. So the collectives are those of XLA for CPUs: where others have a
reduce-scatter, it has an all-reduce and takes a part of the result. What waits for a backward pass is counted too.
"""

import math
import sys
import time
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from jax.extend import core
from jax.sharding import Mesh
from ml_collections import ConfigDict
from roofline import CHIPS, Chip, batch_shapes, collectives, traffic

from symnorm_jax import notebooks
from symnorm_jax.checks import check_devices, checked
from symnorm_jax.cli import at_least_one, parsed
from symnorm_jax.errors import ConfigError, reported
from symnorm_jax.systems.contract import System
from symnorm_jax.training.flops import count
from symnorm_jax.training.sharding import by_example, layout, make_mesh, replicated
from symnorm_jax.training.step import make_optimizer, make_step
from symnorm_jax.training.transfer import schedule

MIB = 2**20
ADAM = 7  # arrays of the size of the parameters that an update reads and writes: p, m, v, gradient; p, m, v
RESERVE = 0.1  # of a chip's memory, assumed: its runtime, workspaces of convolutions, gaps between arrays


class Plan(NamedTuple):
    """The step of a stage, traced, and the shapes it is given with where they lie."""

    traced: jax.stages.Traced
    state: dict
    frozen: dict


def simulate(devices: int) -> None:
    """Have so many CPU devices. Raises ConfigError where JAX already has others."""
    if jax.config.jax_num_cpu_devices != devices:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", devices)
    if jax.device_count() != devices:
        raise ConfigError(f"--devices={devices}; JAX has {jax.device_count()} already, and no others are allowed.")


def plan(system: System, config: ConfigDict, name: str, mesh: Mesh, slices: int) -> Plan:
    """The step of stage `name` for `slices` slices on `mesh`; nothing is run and no memory taken."""

    def placed(tree):
        kept = layout(tree, mesh, config.sharding.smallest)
        return jax.tree.map(lambda x, place: x.update(sharding=place), tree, kept)

    settings, stage = schedule(config, system)[name], system.stages[name]
    batch = batch_shapes(config, slices, system.asked(name))
    batch = {key: x.update(sharding=by_example(mesh)) for key, x in batch.items()}
    variables = placed(jax.eval_shape(lambda batch: system.init(jax.random.key(config.seed), batch), batch))
    trained = {net: variables["params"].pop(net) for net in stage.trains}
    optimizer = make_optimizer(steps=settings.steps, **settings.optimizer)
    state = {"params": trained, "stats": variables["stats"], "opt": placed(jax.eval_shape(optimizer.init, trained))}
    state["step"] = jax.ShapeDtypeStruct((), np.int32, sharding=replicated(mesh))
    step = make_step(name, stage, optimizer, config.seed, settings.steps, mesh, config.train.accumulate)
    kept = jax.tree.map(lambda x: x.sharding, state)
    jitted = jax.jit(step, out_shardings=(kept, replicated(mesh)), donate_argnums=0)
    return Plan(jitted.trace(state, variables["params"], batch), state, variables["params"])


def whole(tree) -> int:
    """Bytes of all arrays of a tree, each once."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def held(tree) -> int:
    """Bytes of a tree that one device holds."""
    return sum(int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def of_step(found: Plan, alone: Plan) -> dict[str, float]:
    """What is known before compiling, for one device: operations, bytes that move, bytes that it holds."""
    jaxpr = alone.traced.jaxpr.jaxpr
    return {
        "GFLOP": count(jaxpr) / 1e9,
        "MB moved": traffic(jaxpr) / 1e6,
        "MiB parameters": held(found.state["params"]) / MIB,
        "MiB frozen": held(found.frozen) / MIB,
        "MiB optimizer": held(found.state["opt"]) / MIB,
    }


def of_compiled(compiled: jax.stages.Compiled) -> dict[str, float]:
    """What the compiler says of one device; it counts the body of a loop once."""
    memory, costs = compiled.memory_analysis(), compiled.cost_analysis()
    kept = {"MiB arguments": memory.argument_size_in_bytes, "MiB temporaries": memory.temp_size_in_bytes}
    return {"GFLOP, XLA": costs["flops"] / 1e9} | {name: x / MIB for name, x in kept.items()}


def activations(system: System, config: ConfigDict, name: str, alone: Plan, slices: int) -> dict[str, float]:
    """MiB that wait for the backward pass of stage `name` once `slices` samples have gone forward, from shapes alone.

    *Kept* is what differentiation asks for, and a compiler may make some of it again from the rest; *least* what
    convolutions and max-pooling read and write; of that, *convolved* what convolutions write.
    """

    def loss(params, frozen, stats, batch):
        given = {"params": frozen | params, "stats": stats}
        return system.stages[name].loss(given, batch | {"progress": 0.0}, jax.random.key(config.seed))

    def residuals(params, *others):
        return jax.vjp(lambda params: loss(params, *others), params, has_aux=True)[1]

    arguments = (
        alone.state["params"],
        alone.frozen,
        alone.state["stats"],
        batch_shapes(config, slices, system.asked(name)),
    )
    forward, backward = (jax.make_jaxpr(function)(*arguments).jaxpr for function in (loss, residuals))
    written, read = (x / MIB for x in convolved(forward))
    return {"MiB kept": kept(backward) / MIB, "MiB least": written + read, "MiB convolved": written}


def kept(jaxpr: core.Jaxpr) -> int:
    """Bytes of the results of a jaxpr, each once, that are neither its arguments nor constants."""
    found = {x for x in jaxpr.outvars if not isinstance(x, core.Literal)} - {*jaxpr.invars, *jaxpr.constvars}
    return whole([x.aval for x in found])


def convolved(jaxpr: core.Jaxpr) -> tuple[int, int]:
    """Bytes of what the convolutions of a forward pass write, and of what else they and max-pooling read, each once.

    Kernels do not count, nor what stands in a loop, as networks do that a stage runs and does not train.
    """
    written, read, inner = set(), set(), []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            written.add(equation.outvars[0])
        if equation.primitive.name in ("conv_general_dilated", "reduce_window_max"):
            read.add(equation.invars[0])
        elif equation.primitive.name not in ("scan", "while"):
            inner += [convolved(one) for one in core.jaxprs_in_params(equation.params)]
    own = (whole([x.aval for x in some]) for some in (written, read - written))
    return tuple(sum(parts) for parts in zip(own, *inner, strict=True))


def fitting(chip: Chip, alone: Plan, slices: int, step: dict[str, float]) -> dict[str, int]:
    """How many samples fit a chip beside a model on it whole, by each count of what `slices` of them take."""
    still = 2 * whole(alone.state["params"]) + whole(alone.frozen) + whole(alone.state["opt"])  # 2: and gradients
    room = ((1 - RESERVE) * chip.memory - still) / MIB
    taken = {name: step.get(f"MiB {name}") for name in ("least", "kept", "temporaries")}
    return {f"fit, {name}": max(0, int(room * slices / x)) for name, x in taken.items() if x}


def sent(compiled: jax.stages.Compiled, devices: int) -> list[dict]:
    """What a device exchanges in a step, a row for each kind of collective and size of its groups."""
    found = pd.DataFrame(
        [(*one, one.sent / 1e6) for one in collectives(compiled.as_text(), devices)],
        columns=["kind", "payload", "group", "times", "MB sent, ring"],
    )
    found["MB"] = found.payload * found.times / 1e6
    grouped = found.groupby(["kind", "group"])[["times", "MB", "MB sent, ring"]]
    return grouped.sum().reset_index().to_dict("records")


def on_paper(chip: Chip, alone: Plan, double: Plan, devices: int, slices: int) -> dict[str, float]:
    """Microseconds of a step under each roof, and the slices a device from which links or memory are not the longest.

    Of the bytes that move, those of the parameters stay as they are when slices are `double`. Replicated parameters:
    one all-reduce of the gradients, and a whole update on each device.
    """
    operations, moved = (of(alone.traced.jaxpr.jaxpr) for of in (count, traffic))
    more = traffic(double.traced.jaxpr.jaxpr)
    model = whole(alone.state["params"])
    update, links = ADAM * model / chip.bandwidth, 2 * (devices - 1) / devices * model / chip.link
    arithmetic, memory = operations / slices / chip.flops, (more - moved) / slices / chip.bandwidth  # of a slice
    fixed = moved / chip.bandwidth - slices * memory
    seconds = {"arithmetic": slices * arithmetic, "memory": fixed + slices * memory, "update": update, "links": links}
    longest = max(seconds["arithmetic"], seconds["memory"] + update, links)
    bound = (fixed + update) / (arithmetic - memory) if arithmetic > memory else math.inf
    return {f"{name}, µs": 1e6 * x for name, x in seconds.items()} | {
        "samples/s at most": slices * devices / longest,
        "links hidden from": min(links / arithmetic, max(links - fixed, 0) / memory),
        "arithmetic longest from": bound,
        "FLOP a byte": operations / moved,
        "ridge": chip.flops / chip.bandwidth,
    }


def table(rows: list[dict]) -> str:
    """Rows as a Markdown table."""
    shown = [[x if isinstance(x, str | int) else f"{x:,.4g}" for x in row.values()] for row in rows]
    lines = [list(rows[0]), ["---"] * len(rows[0]), *shown]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def report(
    system: System, config: ConfigDict, mesh: Mesh, name: str, compiles: bool
) -> tuple[list[dict], list[dict], list[dict]]:
    """Of one stage the rows of the three tables: the step, what it exchanges, its time on paper."""
    slices = schedule(config, system)[name].batch_size // mesh.size
    begins = {"stage": name, "slices a device": slices}
    alone, double = (plan(system, config, name, make_mesh(1, jax.devices()[:1]), n * slices) for n in (1, 2))
    found = plan(system, config, name, mesh, slices * mesh.size)
    waiting = activations(system, config, name, alone, slices)
    step, rows = begins | of_step(found, alone) | waiting, []
    if compiles:
        start = time.perf_counter()
        compiled = found.traced.lower().compile()
        step |= of_compiled(compiled) | {"s to compile": time.perf_counter() - start}
        rows = [{"stage": name} | row for row in sent(compiled, mesh.size)]
        gradients = whole(found.state["params"]) / 1e6
        expected = {"kind": "gradients alone", "group": mesh.size, "times": 1, "MB": gradients}
        rows.append({"stage": name} | expected | {"MB sent, ring": 2 * (mesh.size - 1) / mesh.size * gradients})
    times = [
        begins | {"chip": chip} | on_paper(x, alone, double, mesh.size, slices) | fitting(x, alone, slices, step)
        for chip, x in CHIPS.items()
    ]
    return [step], rows, times


OPTIONS = {
    "--config": {"required": True, "help": "a notebook, perhaps with :tiny"},
    "--devices": {"type": at_least_one, "default": 8, "help": "devices that are simulated"},
    "--batch": {"type": at_least_one, "help": "samples a device; those of the config unless given"},
    "--no-compile": {"action": "store_true", "help": "only what is known before: FLOPs, bytes, times"},
}


def main(arguments: list[str]) -> None:
    args = parsed("scaling.py", __doc__, OPTIONS, arguments)
    with reported():
        config = notebooks.read(args.config, args.settings).config
        simulate(args.devices)
        for stage in (*config.train.values(), *config.finetune.values()):
            if isinstance(stage, ConfigDict):
                stage.batch_size = args.devices * (args.batch or stage.batch_size)
        config.score.batch_size = args.devices  # not used here, and checked all the same
        system = checked(config)
        check_devices(config, system)
        mesh = make_mesh(config.sharding.fsdp)
        print(f"jax {jax.__version__}, simulated devices {dict(mesh.shape)}, {config.network.dtype}; of one device:")
        stages = [report(system, config, mesh, name, not args.no_compile) for name in schedule(config, system)]
        for tables in zip(*stages, strict=True):
            if rows := [row for part in tables for row in part]:
                print("", table(rows), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])

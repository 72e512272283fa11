"""How long a training step takes on the devices there are, and how much memory; or moments, or input.

python benchmarks/training.py --config=configs/mets.py --dtype=float32,bfloat16 --remat=false,true
python benchmarks/training.py --config=configs/mets.py --batch=8,64,512 --dtype=bfloat16 --output=steps.csv
python benchmarks/training.py --moments=20000,200000
python benchmarks/training.py --config=configs/simclr.py:full --batch=2 --input=8 --config.data.threads=0

Steps of all combinations are taken in turn, on made-up samples that lie on the device already; `ratio` compares their
pace with that of the stage's first combination. A step's memory is what the compiler plans: arguments, results and
temporaries.
"""

import itertools
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from absl import flags
from ml_collections import ConfigDict
from rich.console import Console
from rich.table import Table
from roofline import batch_shapes

from symnorm_jax import notebooks
from symnorm_jax.checks import check_devices, checked
from symnorm_jax.cli import at_least_one, comma_list, parsed
from symnorm_jax.data.pipeline import training_batches
from symnorm_jax.data.store import SampleSource, write
from symnorm_jax.errors import ConfigError, reported
from symnorm_jax.files import write_text
from symnorm_jax.progress import progress
from symnorm_jax.scoring.moments import stream
from symnorm_jax.systems.contract import System
from symnorm_jax.training.flops import peak
from symnorm_jax.training.meter import memory
from symnorm_jax.training.sharding import created, make_mesh, put_batch, replicated
from symnorm_jax.training.step import Step, compiled, make_optimizer, make_step
from symnorm_jax.training.train import initial_variables
from symnorm_jax.training.transfer import schedule

WARM_UP = 3  # steps before the first that is timed
MIB = 2**20


class Drawn:
    """Embeddings `[N, D]` of which none are kept: a block is drawn when it is asked for, the same each time."""

    def __init__(self, count: int, dimensions: int):
        self.shape = (count, dimensions)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(len(self))
        return np.random.default_rng(start).standard_normal((stop - start, self.shape[1]), np.float32)


def moments(counts: list[int], dimensions: int) -> list[dict[str, Any]]:
    """Seconds, and MiB that the process has grown by at most, for the moments of so many embeddings after another."""
    jax.block_until_ready(stream(Drawn(2048, dimensions)))  # compiles
    rows = []
    for count in counts:
        before, start = _most_memory(), time.perf_counter()
        found = jax.block_until_ready(stream(Drawn(count, dimensions)))
        seconds = time.perf_counter() - start
        row = {"vectors": int(found.n), "dimensions": dimensions, "s": seconds, "vectors/s": count / seconds}
        rows.append(row | {"MiB grown": (_most_memory() - before) / MIB, "MiB all": count * dimensions * 4 / MIB})
    return rows


def loaded(config: ConfigDict, name: str, number: int) -> dict[str, Any]:
    """How many samples this process reads in a second, of the clock and of CPU time, for `number` batches of a stage.

    Samples are noise throughout, which no compression makes smaller, and in the system's memory once they are read.
    """
    system = checked(config)
    stage = system.stages[name]
    rows = pd.DataFrame({"store": [*"abcd"], "patient": [*"abcd"], "record": 0, "records_in_scan": 1})
    size, made = schedule(config, system)[name].batch_size, _made_up(config, 1, ("lesion",))
    sample = np.concatenate([made["image"], made["brain"], made["lesion"][..., None]], -1)
    with tempfile.TemporaryDirectory() as folder:
        for key in rows.store:
            write(Path(folder), key, sample, {})
        maps = np.zeros((len(rows), *sample.shape[1:-1]), np.float16) if stage.of_maps else None
        batches = training_batches(
            SampleSource(folder, rows, differences=maps), config, size, asks=() if stage.of_maps else system.asks
        )
        next(batches)
        start = np.array([time.perf_counter(), time.process_time()])
        for _ in range(number):
            next(batches)
        clock, busy = number * size / (np.array([time.perf_counter(), time.process_time()]) - start)
    about = {"stage": name, "samples": size, "threads": config.data.threads, "MB a sample": sample.nbytes / 2e6}
    return about | {"samples/s": clock, "samples/s of CPU": busy}


class Ready(NamedTuple):
    """A compiled step of one combination and what it is given."""

    about: dict[str, Any]  # the cells of its row that are known before it runs
    step: Step
    state: dict
    frozen: dict
    batch: dict


def ready(config: ConfigDict, name: str) -> Ready:
    """The step of stage `name` of a config, compiled, with a made-up batch on the devices."""
    system = checked(config)
    check_devices(config, system)
    mesh = make_mesh(config.sharding.fsdp)
    settings = schedule(config, system)[name]
    slices, optimizer = settings.batch_size, make_optimizer(steps=settings.steps, **settings.optimizer)
    batch = _made_up(config, slices // jax.process_count(), system.asked(name))
    state, frozen = _begun(system, config, name, optimizer, mesh, batch)
    start = time.perf_counter()
    step = make_step(name, system.stages[name], optimizer, config.seed, settings.steps, mesh, config.train.accumulate)
    step = compiled(step, state, frozen, batch, mesh)
    about = {"stage": name, "dtype": config.network.dtype, "remat": config.network.remat, "slices": slices}
    about |= {"s to compile": time.perf_counter() - start, "MiB a device": _planned(step) / MIB}
    return Ready(about, step, state, frozen, put_batch(batch, mesh))


def measured(combinations: list[Ready], number: int) -> list[dict[str, Any]]:
    """A row for each combination of a stage. They take turns, so that what else the machine does meets them all."""
    states = [one.state for one in combinations]
    found = np.empty((WARM_UP + number, len(combinations)))
    for turn, i in np.ndindex(*found.shape):
        start = time.perf_counter()
        states[i], metrics = combinations[i].step.run(states[i], combinations[i].frozen, combinations[i].batch)
        jax.block_until_ready((states[i], metrics))
        found[turn, i] = time.perf_counter() - start
    pairs = zip(combinations, np.median(found[WARM_UP:], 0).tolist(), strict=True)
    return [one.about | _pace(one, seconds) for one, seconds in pairs]


def _pace(one: Ready, seconds: float) -> dict[str, float]:
    share = {"MFU": one.step.flops / seconds / peak()} if peak() else {}
    pace = {"ms a step": 1000 * seconds, "slices/s": one.about["slices"] / seconds}
    return pace | {"TFLOP/s": one.step.flops / seconds / 1e12} | share


def _made_up(config: ConfigDict, size: int, asks: tuple[str, ...]) -> dict[str, np.ndarray]:
    """A batch of noise in which every pixel is brain and every other patch, where `asks` has them, hidden."""
    rng, shapes = np.random.default_rng(0), batch_shapes(config, size, asks)
    batch = {name: np.zeros(x.shape, x.dtype) for name, x in shapes.items()}
    batch["image"] = rng.random(batch["image"].shape, np.float32)
    batch["brain"] += 1
    batch["index"] = batch["patient"] = np.arange(size, dtype=np.int32)
    if "hidden" in asks:
        batch["hidden"][..., ::2] = True
    return batch


def _begun(system: System, config: ConfigDict, name: str, optimizer, mesh, batch) -> tuple[dict, dict]:
    """The state of a stage at its first step, and the networks that it does not train."""
    variables = initial_variables(system, config, batch, mesh)
    trained = {net: variables["params"].pop(net) for net in system.stages[name].trains}
    opt = created(optimizer.init, (trained,), mesh, config.sharding.smallest)
    count = jax.jit(lambda: np.int32(0), out_shardings=replicated(mesh))()
    return {"params": trained, "stats": variables["stats"], "opt": opt, "step": count}, variables["params"]


def _planned(step: Step) -> int:
    """Bytes on one device; a result that takes the place of an argument counts once."""
    plan = step.run.memory_analysis()
    sizes = (plan.argument_size_in_bytes, plan.output_size_in_bytes, plan.temp_size_in_bytes)
    return sum(sizes) - plan.alias_size_in_bytes


def _most_memory() -> int:
    """The most bytes that this process has had so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _combinations(config: ConfigDict, args) -> Iterator[ConfigDict]:
    """The config at every combination of what the options list; batches become those of all devices."""
    network = config.network
    remats = [_truth(word) for word in args.remat] or [network.remat]
    batches = _whole("batch", args.batch) or [None]
    for batch, dtype, remat in itertools.product(batches, args.dtype or [network.dtype], remats):
        one = config.copy_and_resolve_references()  # ConfigDict(config) would share its sections
        one.network.update({"dtype": dtype, "remat": remat})
        for stage in (*one.train.values(), *one.finetune.values()):
            if isinstance(stage, ConfigDict):
                stage.batch_size = (batch or stage.batch_size) * jax.device_count()
        one.score.batch_size = jax.device_count()  # not used here, and checked all the same
        yield one


def _truth(word: str) -> bool:
    if word not in ("false", "true"):
        raise ConfigError(f"--remat={word}; false and true are allowed.")
    return word == "true"


def _whole(option: str, words: list[str]) -> list[int]:
    if bad := [word for word in words if not word.isdecimal() or int(word) < 1]:
        raise ConfigError(f"--{option}={bad[0]}; positive whole numbers are allowed.")
    return [int(word) for word in words]


def _measured(args) -> pd.DataFrame:
    if args.moments:
        return pd.DataFrame(moments(_whole("moments", args.moments), args.dimensions))
    if not args.config:
        raise ConfigError("--config: a notebook is needed, as mets; only --moments goes without.")
    every = list(_combinations(notebooks.read(args.config, args.settings).config, args))
    names = list(schedule(every[0], checked(every[0])))
    if args.input:
        return pd.DataFrame([loaded(one, name, args.input) for name in names for one in every])
    pairs = progress(itertools.product(names, every), "compiling", len(names) * len(every))
    steps = [ready(one, name) for name, one in pairs]
    parts = [steps[i : i + len(every)] for i in range(0, len(steps), len(every))]
    found = pd.DataFrame([row for part in parts for row in measured(part, args.steps)])
    found["ratio"] = found["slices/s"] / found.groupby("stage")["slices/s"].transform("first")
    return found


OPTIONS = {
    "--config": {"help": "a notebook, perhaps with :tiny"},
    "--dtype": {"type": comma_list, "default": [], "help": "types that networks compute in"},
    "--remat": {"type": comma_list, "default": [], "help": "false, true or both"},
    "--batch": {"type": comma_list, "default": [], "help": "slices a device; those of the config"},
    "--steps": {"type": at_least_one, "default": 20, "help": "timed steps, whose median is shown"},
    "--output": {"help": "write the table to this CSV file too"},
    "--moments": {"type": comma_list, "default": [], "help": "moments of so many embeddings; ascending"},
    "--input": {"type": at_least_one, "help": "read so many batches of made-up samples instead"},
    "--dimensions": {"type": at_least_one, "default": 1024, "help": "moments: of an embedding"},
}


def main(arguments: list[str]) -> None:
    args = parsed("training.py", __doc__, OPTIONS, arguments)
    flags.FLAGS.mark_as_parsed()  # Grain asks absl for flags
    with reported():
        found = _measured(args)
        if args.output:
            write_text(Path(args.output), found.to_csv(index=False))
    shown = Table(*found)
    for row in found.itertuples(index=False):
        shown.add_row(*(f"{x:,.4g}" if isinstance(x, float) else str(x) for x in row))
    Console(width=150).print(shown)
    most = ", ".join(f"{name.replace('_', ' ')} {x:.2f} GiB" for name, x in memory().items())
    print(f"jax {jax.__version__}, {jax.device_count()} x {jax.devices()[0].device_kind}; most used so far: {most}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""What a training loop reports: metrics of its steps, time, memory and arithmetic, and a profile of some steps."""

import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jax
import numpy as np

from symnorm_jax.errors import ConfigError, NonFiniteError
from symnorm_jax.training.flops import peak

GIB = 2**30
SHARES = ("data", "host", "device")  # of the time of a loop
PACE = (*(f"{what}_share" for what in SHARES), "steps_per_second", "examples_per_second", "teraflops", "mfu")
PACE += ("host_memory", "device_memory")


class Meter:
    """Gathers the metrics of steps on the device and fetches them together, so that the loop rarely waits.

    Time goes to waiting for `data`, to the `host`, which places batches and starts steps, and to waiting for the
    `device`; each is reported as a share.
    """

    def __init__(self, write, name: str, start: int, flops: float, batch_size: int):
        self._write, self._name, self._flops, self._batch_size = write, name, flops, batch_size
        self._pending, self._spent = [], defaultdict(float)
        self._since, self._time = start, time.perf_counter()

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add the time of the block to that of `what`: data, host or device."""
        begun = time.perf_counter()
        yield
        self._spent[what] += time.perf_counter() - begun

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Take the metrics of a step that has been started; waits for the step before, so that one queues at most."""
        with self.timed("device"):
            jax.block_until_ready(self._pending[-1:])
        self._pending.append((step, metrics))

    def flush(self) -> None:
        """Write the mean over the steps since the last flush. Raises NonFiniteError with the step and the value."""
        with self.timed("device"):
            fetched = [(step, jax.device_get(metrics)) for step, metrics in self._pending]
        for step, metrics in fetched:
            for name, value in metrics.items():
                if not np.isfinite(value):
                    raise NonFiniteError(f"{self._name}: {name} is {value} at step {step}; the last checkpoint stays.")
        step = fetched[-1][0]
        means = {metric: float(np.mean([m[metric] for _, m in fetched])) for metric in fetched[0][1]}
        self._write(step, means | {name: round(value, 4) for name, value in self._pace(step).items()})
        self._pending = []

    def _pace(self, step: int) -> dict[str, float]:
        now = time.perf_counter()
        seconds = max(now - self._time, 1e-9)
        speed = (step - self._since) / seconds
        achieved, best = self._flops * speed, peak()
        pace = {f"{what}_share": self._spent[what] / seconds for what in SHARES}
        pace |= {"steps_per_second": speed, "examples_per_second": speed * self._batch_size}
        self._since, self._time, self._spent = step, now, defaultdict(float)
        return pace | {"teraflops": achieved / 1e12} | ({"mfu": achieved / best} if best else {}) | memory()


def memory() -> dict[str, float]:
    """Measure the most memory in use so far, GiB: of this process, and of its first device where that keeps count."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    device = jax.local_devices()[0].memory_stats() or {}
    counted = {"device_memory": device["peak_bytes_in_use"] / GIB} if "peak_bytes_in_use" in device else {}
    return {"host_memory": most / GIB, **counted}


@contextmanager
def profiled(stage: str, step: int, wanted: str, folder: Path) -> Iterator[None]:
    """Name a step for profilers; write `<folder>/profile`, for TensorBoard, of those `wanted`."""
    named, first, last = parse_profile(wanted) if wanted else ("", 0, 0)
    if named == stage and step == first:
        jax.profiler.start_trace(str(folder / "profile"))
    with jax.profiler.StepTraceAnnotation(stage, step_num=step):
        yield
    if named == stage and step == last:
        with suppress(RuntimeError):  # there is none to stop where a run goes on after the first of the steps
            jax.profiler.stop_trace()


def parse_profile(wanted: str) -> tuple[str, int, int]:
    """Read stage, first and last step of "unet:20-25". Raises ConfigError for anything else."""
    stage, _, steps = wanted.partition(":")
    first, _, last = steps.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last)):
        raise ConfigError(f"train.profile={wanted!r}; a stage and its steps are allowed, as 'unet:20-25'.")
    return stage, int(first), int(last)

"""A profile of some steps, to be opened with TensorBoard, XProf or Perfetto."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jax

from symnorm_jax.errors import ConfigError


@contextmanager
def profiled(stage: str, step: int, wanted: str, folder: Path) -> Iterator[None]:
    """Name a step for profilers, and write `<folder>/profile` from the first to the last of the steps `wanted`."""
    named, first, last = parse(wanted) if wanted else ("", 0, 0)
    if named == stage and step == first:
        jax.profiler.start_trace(str(folder / "profile"))
    with jax.profiler.StepTraceAnnotation(stage, step_num=step):
        yield
    if named == stage and step == last:
        with suppress(RuntimeError):  # there is none to stop where a run goes on after the first of the steps
            jax.profiler.stop_trace()


def parse(wanted: str) -> tuple[str, int, int]:
    """Read stage, first and last step of "unet:20-25". Raises ConfigError for anything else."""
    stage, _, steps = wanted.partition(":")
    first, _, last = steps.partition("-")
    if not (first.isdecimal() and last.isdecimal() and 0 < int(first) <= int(last)):
        raise ConfigError(f"train.profile={wanted!r}; a stage and its steps are allowed, as 'unet:20-25'.")
    return stage, int(first), int(last)

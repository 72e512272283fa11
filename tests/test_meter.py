"""The meter finds where the time goes, stops at what is not finite, lets one step queue; a profile of some steps."""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from symnorm_jax.errors import ConfigError, NonFiniteError
from symnorm_jax.training import meter as module
from symnorm_jax.training.meter import SHARES, Meter, memory, parse_profile, profiled


class Clock:
    """Time that passes only when it is told to, in seconds."""

    def __init__(self):
        self.now = 100.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def perf_counter(self) -> float:
        return self.now


class Pending:
    """A metric that a device is still computing, for `seconds` once somebody waits for it."""

    def __init__(self, clock: Clock, seconds: float = 0.0):
        self.clock, self.seconds, self.ready = clock, seconds, False

    def block_until_ready(self):
        self.clock.sleep(0 if self.ready else self.seconds)
        self.ready = True
        return self

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.block_until_ready() and 1.0, dtype)


@pytest.fixture
def clock(monkeypatch):
    own = Clock()
    monkeypatch.setattr(module, "time", own)
    return own


@pytest.fixture
def written():
    return []


def make(written, start: int = 0, flops: float = 1e9) -> Meter:
    return Meter(lambda step, metrics: written.append((step, metrics)), "unet", start, flops, batch_size=8)


@pytest.mark.parametrize("slow", SHARES)
def test_shares_find_the_slow_part(slow, written, clock):
    """Six steps of 7 seconds for the slow part and 1 for the others, and 1 in which none of them is at work."""
    seconds = {part: 7 if part == slow else 1 for part in SHARES}
    meter = make(written)
    for t in range(1, 7):
        with meter.timed("host"):
            clock.sleep(seconds["host"])
        meter.add(t, {"loss": Pending(clock, seconds["device"])})
        with meter.timed("data"):
            clock.sleep(seconds["data"])
        clock.sleep(1)
    meter.flush()
    found = {part: written[0][1][f"{part}_share"] for part in SHARES}
    assert found == {part: 0.7 if part == slow else 0.1 for part in SHARES}


def test_shares_and_steps_begin_anew_with_every_report(written, clock):
    meter = make(written)
    for t, what in ((1, "data"), (2, "host")):
        with meter.timed(what):
            clock.sleep(1)
        meter.add(t, {"loss": jnp.float32(1)})
        meter.flush()
    assert [(found["data_share"], found["host_share"]) for _, found in written] == [(1, 0), (0, 1)]
    assert [found["steps_per_second"] for _, found in written] == [1, 1]


def test_time_is_told_as_it_passes(written):
    """By a real clock, on however busy a machine."""
    meter = make(written)
    with meter.timed("data"):
        time.sleep(0.2)
    meter.add(1, {"loss": jnp.float32(1)})
    meter.flush()
    found = written[0][1]
    assert 0 < found["data_share"] <= sum(found[f"{part}_share"] for part in SHARES) <= 1.001
    assert found["steps_per_second"] <= 5


def test_one_step_queues_at_most(written, clock):
    """A step is given to the meter once it has been started: then all steps before it are done."""
    meter, metrics = make(written), [Pending(clock) for _ in range(4)]
    for t, metric in enumerate(metrics):
        meter.add(t + 1, {"loss": metric})
        assert [m.ready for m in metrics[: t + 1]] == [True] * t + [False]


def test_metrics_are_means_since_the_last_report(written):
    meter = make(written, start=10)
    for t in range(11, 17):
        meter.add(t, {"loss": jnp.float32(t), "gradient_norm": jnp.float32(2 * t)})
        if t % 3 == 1:
            meter.flush()
    assert [(step, metrics["loss"], metrics["gradient_norm"]) for step, metrics in written] == [
        (13, 12.0, 24.0),
        (16, 15.0, 30.0),
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_told_with_its_step_and_not_written(bad, written):
    meter = make(written)
    for t in (1, 2, 3):
        meter.add(t, {"loss": jnp.float32(bad if t == 2 else 1)})
    with pytest.raises(NonFiniteError, match=f"unet: loss is {bad} at step 2; the last checkpoint stays."):
        meter.flush()
    assert not written


def test_pace_counts_steps_examples_and_arithmetic(written, clock):
    meter = make(written, start=10, flops=3e12)
    clock.sleep(4)
    meter.add(12, {"loss": jnp.float32(1)})
    meter.flush()
    found = written[0][1]
    assert found["steps_per_second"] == 0.5 and found["examples_per_second"] == 4.0 and found["teraflops"] == 1.5


@pytest.mark.parametrize("peak, expected", [(None, None), (6e12, 0.25)])
def test_utilisation_is_told_where_the_peak_is_known(peak, expected, written, clock, monkeypatch):
    monkeypatch.setattr(module, "peak", lambda: peak)
    meter = make(written, flops=3e12)
    clock.sleep(2)
    meter.add(1, {"loss": jnp.float32(1)})
    meter.flush()
    assert written[0][1].get("mfu") == expected


def test_memory_is_the_most_that_was_in_use():
    found = memory()
    assert found["host_memory"] > 0 and found.get("device_memory", 1) > 0
    status = Path("/proc/self/status")
    if status.exists():  # Linux keeps the same number elsewhere
        high = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        assert found["host_memory"] == pytest.approx(int(high.split()[1]) / 2**20, rel=0.1)


@pytest.mark.parametrize("wanted, expected", [("unet:20-25", ("unet", 20, 25)), ("vae:3-3", ("vae", 3, 3))])
def test_profiles_are_asked_for_by_stage_and_steps(wanted, expected):
    assert parse_profile(wanted) == expected


@pytest.mark.parametrize("wanted", ["unet", "unet:20", "unet:25-20", "unet:0-3", "unet:a-b", "20-25:unet"])
def test_other_words_for_a_profile_are_refused(wanted):
    with pytest.raises(ConfigError, match=f"train.profile='{wanted}'; a stage and its steps are allowed"):
        parse_profile(wanted)


def profile(folder: Path, steps, stage: str = "unet", wanted: str = "unet:2-3") -> list[Path]:
    double = jax.jit(lambda x: 2 * x)
    for t in steps:
        with profiled(stage, t, wanted, folder):
            double(jnp.ones(3)).block_until_ready()
    return list(folder.glob("profile/**/*.xplane.pb"))


def test_a_profile_has_the_steps_it_was_asked_for_by_name(tmp_path):
    (path,) = profile(tmp_path, range(1, 6))
    planes = jax.profiler.ProfileData.from_file(str(path)).planes
    named = [event for plane in planes for line in plane.lines for event in line.events if event.name == "unet"]
    assert sorted(dict(event.stats)["step_num"] for event in named) == [2, 3]


@pytest.mark.parametrize("stage, wanted", [("vae", "unet:2-3"), ("unet", "")])
def test_nothing_is_profiled_that_was_not_asked_for(tmp_path, stage, wanted):
    assert not profile(tmp_path, range(1, 6), stage, wanted)
    with pytest.raises(RuntimeError, match="No profile started"):
        jax.profiler.stop_trace()


def test_a_run_that_goes_on_within_the_steps_of_a_profile_is_not_stopped_by_it(tmp_path):
    assert not profile(tmp_path, range(3, 6))

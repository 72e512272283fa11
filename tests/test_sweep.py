"""Sweeps: which points there are, what they are called, how they are run, and the table of those that are finished."""

import io
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from commands import symnorm
from rich.console import Console
from test_comparison import noisy_truth, run_named

from configs import demo, mets, sweeps
from symnorm_jax import masking, notebooks
from symnorm_jax.compare import sweep as table
from symnorm_jax.compare.pairs import compare
from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.files import read_json
from symnorm_jax.run import FROM_METRICS, FROM_SCORES
from symnorm_jax.sweeps import local, points, process

TINY = "configs/demo.py:tiny"
SAFE = re.compile(r"[A-Za-z0-9_.=+-]{1,100}")


def swept(*arguments, train=None):
    """`symnorm study sweep`, with another command that trains if given."""
    command = [sys.executable, str(train)] if train else process.TRAIN
    with mock.patch("jax.config.update"), mock.patch("symnorm_jax.sweeps.sweep.TRAIN", command):
        return symnorm("study", "sweep", *arguments)


class TestValues:
    @pytest.mark.parametrize(
        ("text", "values"),
        [
            ("0,1,2", ["0", "1", "2"]),
            ("(64,64)", ["(64,64)"]),
            ("(64,64),[96, 96]", ["(64,64)", "[96, 96]"]),
            ("((1,2),3),4", ["((1,2),3)", "4"]),
            (r"/data/a\,b,/c", ["/data/a,b", "/c"]),
            (r"C:\data", [r"C:\data"]),
            ("", [""]),
            ("a,", ["a", ""]),
        ],
    )
    def test_commas_separate_but_inside_brackets_and_after_a_backslash(self, text, values):
        assert points.split(text) == values

    def test_a_list_without_brackets_is_one_value_as_it_is_for_training(self):
        given = {"data.size": "32,32", "unet.widths": "(8,16),(8,32)", "seed": "1,2"}
        assert points.several(TINY, given) == {
            "data.size": ["32,32"],
            "unet.widths": ["(8,16)", "(8,32)"],
            "seed": ["1", "2"],
        }

    def test_every_point_meets_every_combination_and_the_command_line_wins(self):
        listed = [{"mask.kind": "paired"}, {"seed": 7}]
        settings = {"seed": ["0", "1"], "data.size": ["(64,64)"]}
        found = points.crossed(listed, settings)
        assert len(found) == 2 * 2 * 1
        assert found[0] == {"mask.kind": "paired", "seed": "0", "data.size": "(64,64)"}
        assert [one["seed"] for one in found] == ["0", "1", "0", "1"]

    def test_a_grid_is_the_product(self):
        found = sweeps.grid({"a": (1, 2, 3), "b": (4, 5)})
        assert [(one["a"], one["b"]) for one in found] == list(itertools.product((1, 2, 3), (4, 5)))


class TestLabels:
    def test_are_unique_safe_and_bounded_whatever_the_values(self, rng):
        letters = [*"ab/ .,'\"$\n(é=+A"]
        texts = ["".join(rng.choice(letters, rng.integers(5, 60))) for _ in range(150)] + ["x/y", "x y", "X Y", ""]
        settings = [{"data.root": text, "score.groups": text[::-1]} for text in texts]
        labels = [point.label for point in points.labelled([], TINY, settings)]
        assert all(SAFE.fullmatch(label) for label in labels)
        assert len({label.casefold() for label in labels}) == len(labels)

    def test_say_what_sets_points_apart_and_nothing_else(self):
        found = points.labelled([], TINY, [{"seed": "1", "mask.kind": kind} for kind in ("paired", "none")])
        assert [point.label for point in found] == ["mask.kind=paired", "mask.kind=none"]
        assert [p.label for p in points.labelled([], TINY, [{}, {"seed": "3"}])] == ["default", "seed=3"]

    def test_stay_as_they_are_when_points_are_added(self, tmp_path):
        first = points.planned(tmp_path, TINY, [{"mask.kind": "paired"}, {"mask.kind": "none"}])
        points.record(tmp_path, first)
        more = [{"mask.kind": kind, "seed": seed} for seed in ("1", "0") for kind in ("paired", "none")]
        found = points.planned(tmp_path, TINY, more)  # seed 0 is that of the config: two are there already
        assert found[:2] == first
        assert [point.label for point in found[2:]] == ["mask.kind=paired+seed=1", "mask.kind=none+seed=1"]


class TestPlan:
    def test_points_with_equal_configs_are_one(self, tmp_path):
        wanted = [{}, {"mask.kind": "random"}, {"difference.blur": "3.50"}, {"data.workers": "3"}, {"seed": "1"}]
        assert [point.settings for point in points.planned(tmp_path, TINY, wanted)] == [{}, {"seed": "1"}]

    def test_a_sweep_without_a_point_that_is_there_is_refused(self, tmp_path):
        points.record(tmp_path, points.planned(tmp_path, TINY, [{"seed": "0"}, {"seed": "1"}]))
        with pytest.raises(
            RunError, match="has the point seed=1, which is not among those asked for.*another --output"
        ):
            points.planned(tmp_path, TINY, [{"seed": "0"}, {"seed": "2"}])
        with pytest.raises(RunError, match="has the point seed=0"):
            points.planned(tmp_path, "configs/demo.py", [{"seed": "0"}, {"seed": "1"}])

    def test_a_config_is_the_one_that_training_reads(self):
        settings = {"data.size": "(16, 32)", "mask.mirror_context": "False", "init_from": "", "difference.blur": "0"}
        config = points.config_of(TINY, settings)
        expected = demo.get_config("tiny")
        expected.update_from_flattened_dict(
            {"data.size": (16, 32), "mask.mirror_context": False, "init_from": "", "difference.blur": 0.0}
        )
        assert config.to_json() == expected.to_json() and config.is_locked


class TestPoints:
    def test_the_functions_that_come_along_are_found_by_what_they_are(self):
        assert points.packaged() == ["ablations", "dal_parts", "differences", "masks", "saca_parts", "transfers"]

    def test_ablations_are_twelve_that_differ_in_one_thing_and_are_allowed(self):
        listed = sweeps.ablations()
        assert len(listed) == 12 and listed[0] == {} and all(len(point) == 1 for point in listed[1:])
        settings = points.crossed(listed, {})
        chosen = points.planned(Path("/nowhere"), "configs/mets.py", settings)
        assert len(chosen) == 12
        points.check(chosen, [points.config_of(point.config, point.settings) for point in chosen])
        assert {point["mask.kind"] for point in listed if "mask.kind" in point} | {"random"} == {*masking.PARTITIONS}

    @pytest.mark.parametrize(("name", "config"), [("masks", "mets"), ("differences", "mets"), ("transfers", "ssa")])
    def test_the_others_are_allowed_too(self, name, config):
        settings = points.crossed(getattr(sweeps, name)(), {})
        chosen = points.planned(Path("/nowhere"), f"configs/{config}.py", settings)
        assert len(chosen) == len(settings)
        points.check(chosen, [points.config_of(point.config, point.settings) for point in chosen])


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--config.mask.kindd=paired,none"], r"the point mask.kindd=paired: no such config key: .*kindd"),
            (["--config.mask.ratio=0.5,0.25", "--points=masks"], r"the point mask.kind=hemisphere, mask.ratio=0.25: "),
            (["--config.seed=0,x", "--points="], r"the point seed=x: flag --config.seed=x"),
            (["--points=", "--config.seed=3"], r"nothing to sweep; give the config a function sweep\(\), --points"),
            (["--points=nothing"], r"--points=nothing: one of \['ablations', .* is allowed"),
        ],
    )
    def test_are_one_sentence_before_anything_is_run(self, tmp_path, arguments, message):
        done = swept(f"--config={TINY}", f"--output={tmp_path / 'out'}", *arguments)
        assert done.returncode == 1 and re.match(f"error: .*{message}", done.stderr), done.stderr
        assert done.stderr.count("\n") == 1 and not (tmp_path / "out").exists()

    def test_a_config_without_a_sweep_needs_several_values(self, tmp_path):
        done = swept("--config=configs/oasis.py", f"--output={tmp_path}", "--how=print")
        assert done.returncode == 1 and "configs/oasis.py: nothing to sweep" in done.stderr

    def test_a_source_that_is_not_finished_is_refused_before_the_first_run(self, tmp_path):
        transfer = ["--config=configs/ssa.py:tiny", f"--config.init_from={tmp_path}", f"--output={tmp_path / 'out'}"]
        done = swept(*transfer)
        assert done.returncode == 1 and "not a finished run" in done.stderr and not (tmp_path / "out").exists()


def test_printed_commands_are_read_back_as_the_points_and_nothing_else_happens(tmp_path):
    out = tmp_path / "it's here"
    done = swept(
        "--config=configs/mets.py:tiny", "--config.data.root=/a b/$x", "--config.data.size=(32, 64)",
        "--config.seed=0,1", f"--output={out}", "--how=print",
    )  # fmt: skip
    commands = [shlex.split(line) for line in done.stdout.splitlines()]
    # One cover is what a tiny config has already.
    listed = [point for point in mets.sweep() if point != {"mask.covers": 1}]
    assert len(commands) == 2 * len(listed) and not out.exists()
    workdirs = set()
    for (point, seed), command in zip(itertools.product(listed, (0, 1)), commands, strict=True):
        assert command[:2] == ["symnorm", "train"] and command[-1].startswith("--workdir=")
        config, workdir = (
            notebooks.read(command[2].partition("=")[2], command[3:-1]).config,
            command[-1].partition("=")[2],
        )
        expected = mets.get_config("tiny")
        expected.update_from_flattened_dict(point | {"data.root": "/a b/$x", "data.size": (32, 64), "seed": seed})
        assert config.to_json() == expected.to_json()
        workdirs.add(workdir)
    assert len(workdirs) == len(commands) and all(Path(one).parent == out for one in workdirs)


def task(folder, label, code, steps=None):
    """A task whose process runs `code` with `out` as its run directory."""
    workdir = folder / label
    begin = f"import os, pathlib, signal, sys, time; out = pathlib.Path({str(workdir)!r}); out.mkdir(exist_ok=True)\n"
    command = [sys.executable, "-S", "-c", begin + code]
    return local.Task(workdir, command, (workdir / "done").exists, steps or {})


DONE = "(out / 'done').touch()"


def run_all(tasks, lanes=({},), show=lambda states: None):
    return local.run_all(tasks, list(lanes), show, pause=0.02)


class TestScheduler:
    def test_a_failure_stops_no_other_and_tells_its_last_line(self, tmp_path):
        bad = task(tmp_path, "bad", "print('first'); print('\\x1b[2Kerror: no such scan.\\r\\n\\n'); sys.exit(3)")
        empty = task(tmp_path, "empty", "pass")
        states = run_all([bad, empty, task(tmp_path, "good", DONE)])
        assert [state.name for state in states.values()] == [local.FAILED, local.FAILED, local.FINISHED]
        assert "status 3" in states["bad"].detail and "error: no such scan." in states["bad"].detail
        assert "status 0: nothing was said" in states["empty"].detail

    def test_what_is_finished_is_not_started_again(self, tmp_path):
        one = task(tmp_path, "one", f"(out / f'started{{time.time_ns()}}').touch(); {DONE}")
        assert run_all([one]) == run_all([one]) == {"one": local.State(local.FINISHED)}
        assert len([*one.workdir.glob("started*")]) == 1

    def test_as_many_run_at_a_time_as_there_are_lanes_each_in_its_own(self, tmp_path):
        code = f"(out / 'lane').write_text(os.environ['LANE']); time.sleep(0.5); {DONE}"
        seen = []
        tasks = [task(tmp_path, f"t{k}", code) for k in range(4)]
        run_all(tasks, [{"LANE": "a"}, {"LANE": "b"}], lambda states: seen.append([s.name for s in states.values()]))
        assert max(names.count(local.RUNNING) for names in seen) == 2
        assert {(one.workdir / "lane").read_text() for one in tasks} == {"a", "b"}

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_lets_runs_save_and_the_next_call_goes_on(self, tmp_path, number):
        waits = "time.sleep(60)" if not (tmp_path / "again").exists() else DONE
        handler = "signal.signal(signal.SIGTERM, lambda *_: ((out / 'saved').touch(), sys.exit(143)))"
        code = f"{handler}\n(out / 'up').touch()\n{waits}"
        tasks = [task(tmp_path, "first", code), task(tmp_path, "second", DONE)]
        before = signal.getsignal(number)

        def once_up(states):
            if (tmp_path / "first" / "up").exists():
                os.kill(os.getpid(), number)

        with pytest.raises(SystemExit) as stopped:
            run_all(tasks, show=once_up)
        assert stopped.value.code == 128 + number and signal.getsignal(number) == before
        assert (tmp_path / "first" / "saved").exists() and not (tmp_path / "second").exists()
        again = [task(tmp_path, "first", DONE), tasks[1]]
        assert {state.name for state in run_all(again).values()} == {local.FINISHED}

    def test_the_step_of_the_last_stage_begun_is_read(self, tmp_path):
        steps = {"unet": 20, "vae": 10}
        assert local.reached(tmp_path, steps) == "preparing"
        for stage, lines in (("unet", '{"step": 5}\n{"step": 15}\n'), ("vae", '{"step": 10}\n')):
            (tmp_path / stage).mkdir()
            (tmp_path / stage / "metrics.jsonl").write_text(lines)
            seen = local.reached(tmp_path, steps)
            assert seen == {"unet": "unet 15 of 20", "vae": "scoring"}[stage]
        (tmp_path / "vae" / "metrics.jsonl").write_text('{"step": 10')
        assert local.reached(tmp_path, steps) == "vae"

    def test_states_are_drawn_on_a_terminal_and_told_once_elsewhere(self):
        states = {"mask[b]": local.State(local.RUNNING, "unet 5 of 20"), "other": local.State(local.WAITING)}
        for terminal, times in ((True, 2), (False, 1)):
            file = io.StringIO()
            with local.shown(Console(file=file, force_terminal=terminal, width=80)) as show:
                show(states)
                show(states)
            assert file.getvalue().count("mask[b]") >= times and "unet 5 of 20" in file.getvalue()
            if not terminal:
                assert file.getvalue().count("mask[b]") == 1

    def test_gpus_are_dealt_out_and_shared_only_where_there_are_too_few(self, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
        assert local.lanes(1) == [{}]
        assert [lane["CUDA_VISIBLE_DEVICES"] for lane in local.lanes(3)] == ["4", "6", "4"]
        assert all("XLA_PYTHON_CLIENT_MEM_FRACTION" not in lane for lane in local.lanes(2))
        assert {lane["XLA_PYTHON_CLIENT_MEM_FRACTION"] for lane in local.lanes(3)} == {"0.450"}
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,-1,6")
        assert local.gpus() == ["4"]

    @pytest.mark.parametrize("hidden", ["", "-1"])
    def test_without_gpus_the_cores_are_shared(self, monkeypatch, hidden):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        with mock.patch("joblib.cpu_count", return_value=5):
            assert local.lanes(2) == [{"LOKY_MAX_CPU_COUNT": "2"}] * 2 and local.lanes(1) == [{}]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child whose parent was killed")
def test_a_run_does_not_outlive_a_sweep_that_is_killed(tmp_path):
    code = (
        "import sys, time\nfrom symnorm_jax.sweeps.process import start\n"
        "child = start([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\nprint(child.pid, flush=True)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    until = time.monotonic() + 30
    while "sleep(60)" not in (command := Path(f"/proc/{child}/cmdline").read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    assert "sleep(60)" in command
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert _gone(child)


def test_what_does_not_end_when_asked_is_killed(tmp_path):
    code = f"signal.signal(15, signal.SIG_IGN); open({str(tmp_path / 'up')!r}, 'w'); time.sleep(60)"
    deaf = process.start([sys.executable, "-S", "-c", f"import signal, time; {code}"])
    until = time.monotonic() + 60
    while not (tmp_path / "up").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.stop([deaf], seconds=0.2)
    assert deaf.returncode == -signal.SIGKILL


def _gone(pid):
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


FAKE = """import pathlib, shutil, sys
given = dict(one.lstrip("-").split("=", 1) for one in sys.argv[1:])
print("seed", given["config.seed"])
if pathlib.Path({folder!r}, "broken" + given["config.seed"]).exists():
    sys.exit("error: the disk is full.")
shutil.copytree(pathlib.Path({folder!r}, given["config.seed"]), given["workdir"])
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A stand-in for `symnorm train`, which copies a finished run; the third judges other people."""
    folder = tmp_path_factory.mktemp("trained")
    quick = {"maps": False, "evaluation.replicates": 20}
    sharp = run_named(folder, "0", noisy_truth(1.2), **quick)
    run_named(folder, "2", noisy_truth(1.2), test_patients=6, **quick)
    shutil.copytree(sharp, folder / "1")
    table = pd.read_csv(sharp / "scores.csv", index_col="index", keep_default_na=False)
    table.assign(mse=noisy_truth(40.0, seed=1)(table)).to_csv(folder / "1" / "scores.csv")
    for run, name in itertools.product("012", (*FROM_SCORES, *FROM_METRICS, "cost.json")):
        (folder / run / name).touch()
    (folder / "train.py").write_text(FAKE.format(folder=str(folder)))
    return folder


@pytest.fixture(scope="module")
def sweep_of_three(trained, tmp_path_factory):
    """A sweep whose second point failed at first, and what the two calls said."""
    folder = tmp_path_factory.mktemp("sweep") / "seeds"
    command = [f"--config={TINY}", "--points=", "--config.seed=0,1,2", f"--output={folder}"]
    (trained / "broken1").touch()
    first = swept(*command, train=trained / "train.py")
    half = (folder / "sweep.md").read_text()
    (trained / "broken1").unlink()
    second = swept(*command, train=trained / "train.py")
    return folder, first, half, second


class TestCommand:
    def test_a_failed_point_is_named_and_the_same_command_goes_on_with_it_alone(self, sweep_of_three):
        folder, first, half, second = sweep_of_three
        assert first.returncode == 1 and "error: 1 of 3 points failed: seed=1;" in first.stderr
        assert "seed=1: failed: status 1: error: the disk is full." in first.stdout
        assert "Not finished: seed=1." in half
        assert second.returncode == 0 and "seed=1: finished" in second.stdout
        assert (folder / "seed=1.log").read_text().count("seed 1") == 2
        assert (folder / "seed=0.log").read_text().count("seed 0") == 1
        assert [one["label"] for one in read_json(folder / "sweep.json")["points"]] == ["seed=0", "seed=1", "seed=2"]

    def test_the_table_has_each_run_once_and_pairs_those_that_judge_the_same_people(self, sweep_of_three):
        folder, *_ = sweep_of_three
        page = (folder / "sweep.md").read_text()
        rows = {line.split(" | ")[0].strip("| *\\"): line for line in page.splitlines() if line.startswith("|")}
        assert [name for name in rows if name.startswith("seed")] == ["seed=0, mse", "seed=1, mse", "seed=2, mse"]
        assert page.count("| position") == 1
        assert "Not paired, because they judge other test cases than seed=0" in page
        assert re.search(r"otherwise: seed=2\.", page) and "Not finished" not in page
        together = compare([folder / "seed=0", folder / "seed=1"])
        paired = next(line["paired"] for line in together["lines"] if line["name"] == "seed=1")
        assert f"{paired['difference']['value']:.3f} (" in rows["seed=1, mse"] and "superior" in rows["seed=1, mse"]
        assert "superior" not in rows["seed=2, mse"]

    def test_the_numbers_stand_beside_the_settings(self, sweep_of_three):
        folder, *_ = sweep_of_three
        numbers = pd.read_csv(folder / "sweep.csv").set_index("name")
        assert numbers["config.seed"].dropna().to_dict() == {"seed=0": 0, "seed=1": 1, "seed=2": 2}
        third = compare([folder / "seed=2"])["lines"][0]["sample"]["auroc"]["value"]
        assert numbers.loc["seed=2", "sample.auroc.value"] == pytest.approx(third)
        assert np.isnan(numbers.loc["seed=2", "paired.difference.value"])
        assert (folder / "comparison" / "comparison.tex").exists()

    def test_the_table_alone_needs_no_config_and_says_where_there_is_no_sweep(self, sweep_of_three, tmp_path):
        folder, *_ = sweep_of_three
        (folder / "sweep.md").unlink()
        assert swept(f"--output={folder}", "--how=table").returncode == 0 and (folder / "sweep.md").exists()
        nothing = swept(f"--output={tmp_path / 'none'}", "--how=table")
        assert nothing.returncode == 1 and "holds no sweep" in nothing.stderr

    def test_nothing_finished_is_one_sentence(self, tmp_path):
        with pytest.raises(RunError, match="no point of the sweep is finished"):
            table.write(tmp_path, [], [])

    def test_a_stop_is_told_with_the_status_of_a_shell(self, trained, tmp_path):
        waits = tmp_path / "train.py"
        waits.write_text("import time; time.sleep(60)")
        timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with mock.patch("symnorm_jax.sweeps.local.start", side_effect=_then(timer)):
            done = swept(f"--config={TINY}", "--points=", "--config.seed=0,1", f"--output={tmp_path}", train=waits)
        assert done.returncode == 143 and "stopped by SIGTERM: the same command continues." in done.stderr


def _then(timer):
    def begun(*arguments):
        timer.start()
        return process.start(*arguments)

    return begun


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("configs/none.py", "--config=configs/none.py: there is no such file"),
        ("configs/demo.py:huge", "ValueError: config size 'huge'; full or tiny is allowed"),
    ],
)
def test_a_config_that_cannot_be_read_is_one_sentence(config, message):
    with pytest.raises(ConfigError, match=message) as error:
        points.config_of(config, {})
    assert "\n" not in str(error.value)

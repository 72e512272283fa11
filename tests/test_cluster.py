"""Runs on clusters: what SLURM is asked for, what happens when time is short, and the commands for a TPU slice."""

import os
import pickle
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import submitit
from commands import symnorm

from symnorm_jax.errors import ConfigError
from symnorm_jax.sweeps import slurm
from symnorm_jax.sweeps.process import TRAIN
from symnorm_jax.sweeps.slurm import Training

POD = Path(__file__).parents[1] / "launch" / "tpu_pod.sh"
SBATCH = """#!/bin/sh
cat "$1" >> {folder}/scripts
echo "Submitted batch job 77"
"""


def job(*arguments):
    with mock.patch("jax.config.update"):
        return symnorm("study", "job", *arguments)


def checked_by_bash(text):
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return text


def options(text):
    """What a script asks sbatch for."""
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    return {line.partition("=")[0]: line.partition("=")[2] for line in lines}


def python(code):
    return [sys.executable, "-S", "-c", code]


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A machine on which SLURM's commands are there, and keep what they are given."""
    for name, text in (("srun", "#!/bin/sh\n"), ("sbatch", SBATCH.format(folder=tmp_path))):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


class TestSettings:
    def test_numbers_are_numbers_and_hyphens_are_read(self):
        found = slurm.settings_of(["partition=gpu", "time=90", "cpus-per-task=8", "constraint=a100&ib"])
        assert found == {"partition": "gpu", "time": 90, "cpus_per_task": 8, "constraint": "a100&ib"}

    @pytest.mark.parametrize(
        ("given", "message"),
        [(["gpu"], "--slurm=gpu: <key>=<value>"), (["time=4:00:00"], "time=4:00:00: a whole number of minutes")],
    )
    def test_other_forms_are_refused(self, given, message):
        with pytest.raises(ConfigError, match=message):
            slurm.settings_of(given)

    def test_a_parameter_that_sbatch_does_not_have_is_refused(self, tmp_path):
        with pytest.raises(ConfigError, match="--slurm: Unavailable parameter.*partitoin"):
            slurm.script(tmp_path, {"partitoin": "gpu"})

    def test_off_slurm_one_sentence_says_so(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ConfigError, match="SLURM cannot be reached from here.*srun"):
            slurm.executor(tmp_path, {})

    @pytest.mark.parametrize(
        ("nodes", "gpus", "tasks"), [(1, 0, 1), (1, 1, 1), (1, 8, 1), (2, 8, 8), (4, 1, 1), (3, 0, 1)]
    )
    def test_several_nodes_have_a_process_for_each_gpu(self, nodes, gpus, tasks):
        found = slurm.layout(nodes, gpus)
        assert (found["nodes"], found["ntasks_per_node"], found.get("gpus_per_node", 0)) == (nodes, tasks, gpus)

    @pytest.mark.parametrize(("nodes", "gpus"), [(0, 1), (1, -1)])
    def test_no_nodes_are_refused(self, nodes, gpus):
        with pytest.raises(ConfigError, match="1 or more nodes"):
            slurm.layout(nodes, gpus)


class TestScript:
    def test_a_job_is_warned_queued_again_and_logged(self, tmp_path):
        asked = options(checked_by_bash(slurm.script(tmp_path, {"partition": "gpu", "time": 90, "gpus_per_node": 2})))
        assert asked["partition"] == "gpu" and asked["time"] == "90" and asked["gpus-per-node"] == "2"
        assert "requeue" in asked and asked["signal"] == f"USR2@{slurm.WARNING}" and "array" not in asked
        assert asked["output"].startswith(str(tmp_path))

    def test_several_jobs_are_one_array(self, cluster):
        slurm.submit(slurm.executor(cluster / "logs", {"array_parallelism": 2}), [["true"]] * 5)
        assert options(checked_by_bash((cluster / "scripts").read_text()))["array"] == "0-4%2"

    def test_submitting_gives_sbatch_one_array_of_all_commands(self, cluster):
        executor = slurm.executor(cluster / "logs", {"partition": "gpu"})
        jobs = slurm.submit(executor, [["echo", str(k)] for k in range(3)])
        asked = options(checked_by_bash((cluster / "scripts").read_text()))
        assert [job.job_id for job in jobs] == ["77_0", "77_1", "77_2"] and asked["array"] == "0-2%3"
        commands = [job.submission().function.command for job in jobs]
        assert commands == [["echo", "0"], ["echo", "1"], ["echo", "2"]]
        assert job_timeouts(jobs[0]) > 100


def job_timeouts(job):
    return job.submission()._timeout_countdown


class TestTraining:
    def test_a_job_runs_its_command_and_fails_where_that_does(self, tmp_path):
        executor = submitit.LocalExecutor(tmp_path / "logs")
        executor.update_parameters(timeout_min=10)
        good, bad = slurm.submit(
            executor, [python(f"print('up'); open({str(tmp_path / 'made')!r}, 'w')"), python("raise SystemExit(3)")]
        )
        assert good.result() is None and (tmp_path / "made").exists() and "up" in good.stdout()
        assert "RuntimeError: status 3" in str(bad.exception())

    def test_short_of_time_it_saves_and_the_next_start_has_the_same_command(self, tmp_path):
        saves = f"lambda *_: (open({str(tmp_path / 'saved')!r}, 'w'), sys.exit(143))"
        code = f"import signal, sys, time; signal.signal(signal.SIGTERM, {saves}); open({str(tmp_path / 'up')!r}, 'w')"
        training, queued = Training(python(f"{code}; time.sleep(60)")), []

        class Requeued(Exception):
            pass

        def short_of_time(*_):  # as submitit's handler does, between two instructions of the call
            if (tmp_path / "up").exists():
                signal.setitimer(signal.ITIMER_REAL, 0)  # once, however long the end takes
                queued.append(training.checkpoint())
                raise Requeued

        before = signal.signal(signal.SIGALRM, short_of_time)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        try:
            with pytest.raises(Requeued):
                training()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert (tmp_path / "saved").exists() and training._process.wait(60) == 143
        again = pickle.loads(pickle.dumps(queued[0])).function
        assert again.command == training.command and again._process is None

    def test_slurms_warning_to_the_job_does_not_end_training_unsaved(self, tmp_path):
        code = "import os, signal; os.kill(os.getpid(), signal.SIGUSR2)"
        assert Training(python(f"{code}; open({str(tmp_path / 'lives')!r}, 'w')"))() is None
        assert (tmp_path / "lives").exists()

    def test_a_warning_on_another_node_is_passed_on(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SLURM_PROCID", "3")
        warns = "os.kill(os.getppid(), signal.SIGUSR2) or time.sleep(0.2)"  # until somebody listens
        code = f"import os, signal, time; [{warns} for _ in range(300)]"
        before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        try:
            with pytest.raises(RuntimeError, match="status -15"):
                Training(python(code), patience=0.0)()
        finally:
            signal.signal(signal.SIGUSR2, before)

    def test_warned_by_slurm_it_leaves_the_end_of_the_job_to_slurm(self):
        with mock.patch("symnorm_jax.sweeps.slurm.time.sleep") as slept, pytest.raises(RuntimeError, match="143"):
            Training(python("raise SystemExit(143)"), patience=77.0)()
        assert mock.call(77.0) in slept.mock_calls


class TestCommand:
    def test_a_dry_run_shows_the_script_and_the_command_of_every_task(self):
        given = ["--config=mets", "--config.data.root=/a b", "--slurm=partition=gpu,time=30", "--dry_run"]
        done = job(*given, "--nodes=2", "--gpus=4", "--workdir=/shared/runs/mets")
        asked = options(checked_by_bash(done.stdout))
        assert (asked["nodes"], asked["ntasks-per-node"], asked["gpus-per-node"]) == ("2", "4", "4")
        command = shlex.split(done.stdout.splitlines()[-1].partition(": ")[2])
        assert command[: len(TRAIN)] == TRAIN
        assert command[len(TRAIN) :] == [*given[:2], "--workdir=/shared/runs/mets", "--pod"]

    def test_on_one_node_a_single_process_has_every_gpu_and_no_pod(self):
        done = job("--config=configs/mets.py", "--gpus=8", "--dry_run")
        assert options(done.stdout)["ntasks-per-node"] == "1" and "--pod" not in done.stdout

    def test_it_submits_and_tells_the_job(self, cluster):
        logs = cluster / "logs"
        done = job("--config=configs/mets.py:tiny", f"--logs={logs}")
        assert done.returncode == 0 and done.stdout == f"job 77, logs: {logs}\n"
        assert "requeue" in options((cluster / "scripts").read_text())

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ("--config.mask.kind=checkers", "mask.kind='checkers'; one of"),
            ("--config.seed=0,1", "--config.seed=0,1"),
        ],
    )
    def test_what_training_would_refuse_is_refused_before_the_queue(self, argument, message):
        done = job("--config=configs/mets.py", argument, "--dry_run")
        assert done.returncode == 1 and message in done.stderr and "#SBATCH" not in done.stdout


def pod(*arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TPU_")}
    return subprocess.run(["bash", POD, *arguments], capture_output=True, text=True, env=environment)


class TestPod:
    @pytest.mark.parametrize(
        ("command", "words"),
        [
            ("create", ["tpu-vm create symnorm", "--accelerator-type=v6e-16", "--spot", "--zone=here"]),
            ("copy", ["tar -czf", "--worker=all", "pip\\ install", "gcsfuse"]),
            ("collect", ["mkdir -p runs", "scp --recurse symnorm:/shared/runs/x runs --worker=0"]),
            ("delete", ["tpu-vm delete symnorm --quiet"]),
        ],
    )
    def test_a_dry_run_prints_commands_that_a_shell_can_read(self, command, words):
        given = ["--type=v6e-16", "--zone=here", "--workdir=/shared/runs/x", "--bucket=mine", "--spot"]
        done = pod(command, "--dry_run", *given)
        text = checked_by_bash(done.stdout)
        assert done.returncode == 0 and all(word in text for word in words), text

    def test_a_queued_resource_is_one_at_both_ends(self):
        for command in ("create", "delete"):
            assert "gcloud compute tpus queued-resources" in pod(command, "--dry_run", "--queued").stdout

    def test_settings_reach_training_as_they_were_given(self):
        given = ["--config=configs/demo.py:tiny", "--config.data.size=(32, 64)", "--config.data.root=/it's $HOME"]
        line = pod("run", "--dry_run", "--workdir=/shared/runs/x", "--", *given).stdout
        there = next(word for word in shlex.split(line) if word.startswith("--command="))
        words = shlex.split(there.removeprefix("--command="))
        assert words[: words.index("launch/train.py")][:3] == ["cd", "~/symnorm", "&&"]
        assert words[words.index("launch/train.py") + 1 :] == [*given, "--workdir=/shared/runs/x", "--pod"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "no command; one of create, copy, run, collect, delete"),
            (["start"], "start; one of create"),
            (["run", "--", "--config=configs/demo.py"], "--workdir is needed"),
            (["run", "--workdir=runs/x", "--", "--config=configs/demo.py"], "an absolute path is allowed"),
            (["run", "--workdir=/shared/x"], "flags of launch/train.py are needed after --"),
            (["create", "--config=configs/demo.py"], "is no flag of create"),
            (["delete", "--", "x"], "nothing may stand after --"),
        ],
    )
    def test_refusals_are_one_sentence(self, arguments, message):
        done = pod(*arguments, "--dry_run") if arguments and "--" not in arguments else pod(*arguments)
        assert done.returncode == 1 and done.stderr.startswith("error: ") and message in done.stderr
        assert done.stdout == "" and done.stderr.count("\n") == 1

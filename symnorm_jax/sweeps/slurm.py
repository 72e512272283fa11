"""Training as jobs of SLURM, through submitit. Imports no JAX: on a node the training process alone takes devices.

A job that runs into its time limit, or is preempted, saves a checkpoint, is queued again and goes on.
"""

import importlib.util
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from symnorm_jax.errors import PREEMPTED, ConfigError, one_line
from symnorm_jax.sweeps import process

WARNING = 180  # seconds before the time limit at which SLURM sends its signal; most of them are for the checkpoint
RESTARTS = 1000  # time-outs after which a job is queued again; submitit's own limit is 3
DEFAULTS = {"job_name": "symnorm", "time": 24 * 60, "signal_delay_s": WARNING}
DEFAULTS |= {"additional_parameters": {"requeue": True}}


class Training:
    """A training command as a job. A class, because submitit looks for a method `checkpoint` when time is short."""

    def __init__(self, command: list[str], patience: float = 600.0):
        self.command, self.patience, self._process = command, patience, None

    def __call__(self) -> None:
        """Run the command to its end. Raises RuntimeError with its status where it fails."""
        self._process = process.start(self.command)
        if os.environ.get("SLURM_PROCID", "0") != "0":  # on every node but the first submitit does nothing
            signal.signal(signal.SIGUSR2, lambda *_: self._process.terminate())
        # In short steps: a signal handler that runs inside wait() could not wait for the same process itself.
        while (status := self._process.poll()) is None:
            time.sleep(0.2)
        if status in (PREEMPTED, -signal.SIGTERM):  # SLURM warned it; whether to cancel or requeue the job is SLURM's
            time.sleep(self.patience)
        if status:
            raise RuntimeError(f"status {status}: {' '.join(self.command)}")

    def checkpoint(self):
        """Give the same command for the next start of this job, once the process has saved its state and ended."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            pid, until = self._process.pid, time.monotonic() + WARNING - 60
            with suppress(ProcessLookupError, ChildProcessError):  # it had ended
                os.kill(pid, signal.SIGTERM)
                # Without reaping it.
                while time.monotonic() < until and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
                    time.sleep(0.1)
        return DelayedSubmission(Training(self.command, self.patience))


def executor(folder: Path, settings: dict[str, Any]):
    """Make submitit's executor with logs in `folder`. Raises ConfigError off SLURM and for unknown settings."""
    try:
        return _set(_submitit().SlurmExecutor(folder, max_num_timeout=RESTARTS), settings)
    except RuntimeError as error:
        raise ConfigError(f"SLURM cannot be reached from here: {error}") from None


def submit(executor, commands: list[list[str]]) -> list:
    """Submit training commands, several as one array, and return submitit's jobs."""
    with executor.batch():
        return [executor.submit(Training(command)) for command in commands]


def script(folder: Path, settings: dict[str, Any]) -> str:
    """Write the text that would go to sbatch for one job, also where there is no SLURM."""
    anywhere = type("Anywhere", (_submitit().SlurmExecutor,), {"affinity": classmethod(lambda cls: 1)})
    made = _set(anywhere(folder), settings)
    return made._make_submission_file_text(made._submitit_command_str, "")  # submitit shows it no other way


def settings_of(given: list[str]) -> dict[str, Any]:
    """Read sbatch's parameters `key=value`; `time` is in minutes. Raises ConfigError for what has another form."""
    found = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not (key and equals):
            raise ConfigError(f"--slurm={one}: <key>=<value> is allowed, such as partition=gpu.")
        found[key.replace("-", "_")] = int(value) if value.isdecimal() else value
    if not isinstance(found.get("time", 1), int):
        raise ConfigError(f"--slurm=time={found['time']}: a whole number of minutes is allowed.")
    return found


def layout(nodes: int, gpus: int) -> dict[str, int]:
    """Lay one run out on nodes, GPUs and processes, as sbatch's parameters.

    On one node a single process drives every GPU. On several there is one process a GPU, or one a node without GPUs:
    JAX's own reading of SLURM gives each process the one device that has its local number.
    """
    if nodes < 1 or gpus < 0:
        raise ConfigError(f"--nodes={nodes} --gpus={gpus}; 1 or more nodes with 0 or more GPUs each are allowed.")
    tasks = max(gpus, 1) if nodes > 1 else 1
    wanted = {"nodes": nodes, "ntasks_per_node": tasks} | ({"gpus_per_node": gpus} if gpus else {})
    # Without it the other processes of a run would wait in vain for one that has failed.
    return wanted | ({"srun_args": ["--kill-on-bad-exit=1"]} if nodes > 1 else {})


def _set(found, settings: dict[str, Any]):
    try:
        found.update_parameters(**DEFAULTS | settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"--slurm: {one_line(error)}") from None
    return found


def _submitit():
    if not importlib.util.find_spec("submitit"):
        raise ConfigError("submitit is not installed: `pip install -e '.[slurm]'`.")
    return importlib.import_module("submitit")

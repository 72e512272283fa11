"""A training process that does not outlive the one that started it. Imports no JAX: nothing here takes a device."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import IO

# A command that trains; -P: a folder `configs` of the user's is none of ours.
TRAIN = [sys.executable, "-P", "-m", "symnorm_jax.cli", "train"]
# Runs first in the child, then becomes the command. The kernel ends it when its parent ends, in whatever way; a fork
# with preexec_fn would do the same, and is not safe beside JAX's threads. SIGUSR2 is SLURM's word to the parent.
_BOUND = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
if os.getppid() != int(sys.argv[1]):  # it ended before the line above
    sys.exit("error: the process that started this one has ended.")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def start(command: list[str], log: IO | None = None, environment: dict[str, str] | None = None) -> subprocess.Popen:
    """Start `command` with its output in `log`, in a session of its own: Ctrl-C reaches the parent alone.

    On Linux the child is killed when the thread that started it ends, so that thread is to wait for it.
    """
    bound = [sys.executable, "-S", "-c", _BOUND, str(os.getpid()), *command]
    streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": None if log is None else subprocess.STDOUT}
    return subprocess.Popen(bound, env=os.environ | (environment or {}), start_new_session=True, **streams)


def stop(processes: list[subprocess.Popen], seconds: float = 120.0) -> None:
    """Ask processes to end by SIGTERM, at which training saves a checkpoint, and wait; kill what is left then."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        sweep_away(process)


def sweep_away(process: subprocess.Popen) -> None:
    """End what a process that has ended left behind in its session, such as workers that prepare scans."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)

"""Train one config as a job of SLURM, on one node or many; it is queued again until it has come to its end.

python launch/slurm.py --config=configs/mets.py --config.data.root=/data/brainmetshare-3 --nodes=2 --gpus=8 \
    --slurm=partition=gpu,time=720,cpus_per_task=8

`--slurm` takes any of sbatch's parameters; `time` is in minutes. `--config.*` settings go to launch/train.py as they
are. `--dry_run` writes the script for sbatch to the terminal and submits nothing.
"""

import shlex
import sys
from pathlib import Path

import jax
from absl import app, flags

from symnorm_jax.checks import check_devices, checked
from symnorm_jax.errors import reported
from symnorm_jax.sweeps import points, slurm

_CONFIG = flags.DEFINE_string("config", None, "A file of configs/, perhaps with :tiny.", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run directory, on a file system that every node sees.")
_NODES = flags.DEFINE_integer("nodes", 1, "Nodes of the run.")
_GPUS = flags.DEFINE_integer("gpus", 1, "GPUs of each node.")
_SLURM = flags.DEFINE_list("slurm", [], "sbatch's parameters, as partition=gpu,time=720.")
_LOGS = flags.DEFINE_string("logs", "runs/slurm", "The folder of the job's logs, on the same file system.")
_DRY = flags.DEFINE_boolean("dry_run", False, "Show the script and the command, and submit nothing.")
TRAIN = Path(__file__).parent / "train.py"


def main(arguments: list[str]) -> None:
    with reported():
        asked = slurm.layout(_NODES.value, _GPUS.value) | slurm.settings_of(_SLURM.value)
        _check(arguments[1:], _NODES.value * max(_GPUS.value, 1))
        command = [sys.executable, str(TRAIN), f"--config={_CONFIG.value}", *arguments[1:]]
        command += [f"--workdir={_WORKDIR.value}"] if _WORKDIR.value else []
        command += ["--pod"] if asked["nodes"] * asked["ntasks_per_node"] > 1 else []
        if _DRY.value:
            print(slurm.script(Path(_LOGS.value), asked), f"# each task: {shlex.join(command)}", sep="\n")
            return
        [job] = slurm.submit(slurm.executor(Path(_LOGS.value), asked), [command])
    print(f"job {job.job_id}, logs: {_LOGS.value}")


def _check(arguments: list[str], devices: int) -> None:
    """Refuse before the queue what would be refused after it."""
    jax.config.update("jax_platforms", "cpu")  # a login node's devices are not the run's
    jax.config.update("jax_num_cpu_devices", devices)
    config = points.config_of(_CONFIG.value, points.given(arguments))
    check_devices(config, checked(config))


if __name__ == "__main__":
    app.run(main, flags_parser=lambda arguments: flags.FLAGS(arguments, known_only=True))

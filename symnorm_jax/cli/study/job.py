"""Train one config as a job of SLURM, on one node or many; it is queued again until it has come to its end.

example:
  symnorm study job --config=mets --config.data.root=/data/brainmetshare-3 --nodes=2 --gpus=8 \\
      --slurm=partition=gpu,time=720,cpus_per_task=8

--slurm takes any of sbatch's parameters; `time` is in minutes. Settings `--config.KEY=VALUE` go to `symnorm train` as
they are. --dry-run writes the script for sbatch to the terminal and submits nothing.
"""

import shlex
from pathlib import Path

from symnorm_jax.cli import comma_list
from symnorm_jax.cli.train import NOTEBOOK

OPTIONS = {
    "--config": {"required": True} | NOTEBOOK,
    "--workdir": {"help": "the run directory, on a file system that every node sees"},
    "--nodes": {"type": int, "default": 1, "help": "nodes of the run; 1 unless given"},
    "--gpus": {"type": int, "default": 1, "help": "GPUs of each node; 1 unless given"},
    "--slurm": {"type": comma_list, "default": [], "help": "sbatch's parameters, as partition=gpu,time=720"},
    "--logs": {"type": Path, "default": Path("runs/slurm"), "help": "the folder of the job's logs"},
    "--dry-run --dry_run": {"action": "store_true", "help": "show the script, and submit nothing"},
}


def run(args) -> None:
    import jax

    from symnorm_jax import notebooks
    from symnorm_jax.checks import check_devices, checked
    from symnorm_jax.sweeps import slurm
    from symnorm_jax.sweeps.process import TRAIN

    asked = slurm.layout(args.nodes, args.gpus) | slurm.settings_of(args.slurm)
    jax.config.update("jax_platforms", "cpu")  # a login node's devices are not the run's
    jax.config.update("jax_num_cpu_devices", args.nodes * max(args.gpus, 1))
    config = notebooks.read(args.config, args.settings).config
    check_devices(config, checked(config))  # what would be refused after the queue is refused before it
    command = [*TRAIN, f"--config={args.config}", *args.settings]
    command += [f"--workdir={args.workdir}"] if args.workdir else []
    command += ["--pod"] if asked["nodes"] * asked["ntasks_per_node"] > 1 else []
    if args.dry_run:
        return print(slurm.script(args.logs, asked), f"# each task: {shlex.join(command)}", sep="\n")
    [job] = slurm.submit(slurm.executor(args.logs, asked), [command])
    print(f"job {job.job_id}, logs: {args.logs}")

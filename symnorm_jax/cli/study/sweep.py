"""Train one config at many points, a run each, and put the finished ones in one table.

examples:
  symnorm study sweep --config=mets --config.data.root=/data/brainmetshare-3 --output=runs/mets_sweep
  symnorm study sweep --config=demo --points= --config.seed=0,1,2 --config.mask.kind=exclusive,paired \\
      --output=runs/demo_seeds --jobs=2

The points come from the notebook's `sweep()`, or from another function that --points names. Further settings
`--config.KEY=VALUE` go to every point; one with several values, between commas, is crossed with the points. The value
of a key that is a list stands in brackets, and a comma after a backslash separates nothing. The same command continues
where it stopped, and with more values adds to the sweep.

--how=local runs them here, `slurm` submits one array of jobs, `print` writes one command a line, and `table` makes the
table of what is finished.
"""

from pathlib import Path

from symnorm_jax.cli import at_least_one, comma_list
from symnorm_jax.cli.train import NOTEBOOK

OPTIONS = {
    "--config": NOTEBOOK,
    "--output": {"required": True, "type": Path, "help": "the folder of all runs"},
    "--points": {"default": "sweep", "help": "the function that lists the points; empty for none"},
    "--how": {"choices": ("local", "slurm", "print", "table"), "default": "local", "help": "what is done with them"},
    "--jobs": {"type": at_least_one, "default": 1, "help": "local: runs at a time; with GPUs, each has one of them"},
    "--slurm": {"type": comma_list, "default": [], "help": "slurm: sbatch's parameters, as partition=gpu,time=240"},
}


def run(args) -> None:
    from symnorm_jax.sweeps.sweep import sweep

    sweep(args)

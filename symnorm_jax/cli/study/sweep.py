"""Train one config at many points, a run each, and put the finished ones in one table.

examples:
  symnorm study sweep --config=mets --config.data.root=/data/brainmetshare-3 --output=runs/mets_sweep
  symnorm study sweep --config=demo --points= --config.seed=0,1,2 --config.mask.kind=exclusive,paired \\
      --output=runs/demo_seeds --jobs=2

The points are those of the notebook's `sweep()`, or of another function that --points names. Further settings
`--config.KEY=VALUE` go to every point; one with several values, between commas, is crossed with the points. The value
of a key that is a list stands in brackets, and a comma after a backslash separates nothing. The same command continues
where it stopped, and with more values adds to the sweep.

--how=local runs them here, `slurm` submits one array of jobs, `print` writes one command a line, and `table` makes the
table of what is finished.
"""

from argparse import ArgumentParser, Namespace

from symnorm_jax.cli import at_least_one, comma_list


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--config", metavar="NOTEBOOK", help="perhaps with :tiny; not needed for --how=table")
    parser.add_argument("--output", required=True, help="the folder of all runs")
    parser.add_argument("--points", default="sweep", help="the function that lists the points; empty for none")
    parser.add_argument("--how", choices=("local", "slurm", "print", "table"), default="local")
    parser.add_argument("--jobs", type=at_least_one, default=1, help="local: runs at a time; with GPUs, one GPU each")
    parser.add_argument("--slurm", type=comma_list, default=[], help="slurm: sbatch's parameters, as partition=gpu")


def run(args: Namespace) -> None:
    from symnorm_jax.sweeps.sweep import sweep

    sweep(args)

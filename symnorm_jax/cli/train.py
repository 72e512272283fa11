"""Train a config and see it through to its report, or go on where an earlier call stopped.

examples:
  symnorm train --config=demo
  symnorm train --config=lgg --config.data.root=/data/kaggle_3m --config.mask.kind=paired
  symnorm train --config=mets --config.data.root=/data/brainmetshare-3 --pod

`--config.KEY=VALUE` changes any value of the config. The status is 0 when the report is written, 1 with a sentence of
what is wrong, and 143 or 130 when SIGTERM or Ctrl-C stopped training after a checkpoint.
"""

from pathlib import Path
from typing import Any

NOTEBOOK = {"metavar": "NOTEBOOK", "help": "one of the package, as demo, or a file; perhaps with :tiny or :full,PRESET"}
OPTIONS = {
    "--config": {"required": True} | NOTEBOOK,
    "--workdir": {"help": "the run directory; runs/NAME, as runs/lgg_dae, unless given"},
    "--pod": {"action": "store_true", "help": "join the other hosts of a TPU pod or a cluster"},
    "--coordinator": {"help": "host:port of the first host, where JAX cannot find it by itself"},
    "--processes": {"type": int, "help": "how many processes take part, likewise"},
    "--process": {"type": int, "help": "the number of this process among them, from 0, likewise"},
    "--profile": {"help": "steps whose JAX profile is written, as unet:20-25"},
}


def run(args) -> None:
    from symnorm_jax.hosts import lead
    from symnorm_jax.report.page import print_results
    from symnorm_jax.run import Run
    from symnorm_jax.rundir import claimed, open_run

    config, workdir, overrides = begin(args)
    run = Run(config, workdir)
    run.check_devices()
    with claimed(workdir):
        open_run(workdir, config, overrides)
        if run.finished:
            print(f"{workdir}: nothing is left to do.")
        else:
            run.everything()
    if lead():
        print_results(workdir)


def begin(args) -> tuple[Any, Path, dict[str, Any]]:
    """Read the config, join other hosts, and put XLA's cache beside the run; give config, run directory and overrides.

    Raises RunError where --pod finds no other hosts, or no run can be kept in the directory.
    """
    from symnorm_jax import notebooks
    from symnorm_jax.cli.compiled import keep_beside
    from symnorm_jax.hosts import join
    from symnorm_jax.paths import check_place
    from symnorm_jax.rundir import cpu_devices
    from symnorm_jax.training.sharding import share_cores

    notebook = notebooks.read(args.config, args.settings)
    workdir = Path(args.workdir or Path("runs") / notebook.name)
    check_place(workdir)
    if args.pod or args.coordinator:
        join(args.coordinator, args.processes, args.process)
    else:
        share_cores(notebook.config, cpu_devices(workdir))
    keep_beside(workdir)
    if args.profile:
        notebook.config.train.profile = args.profile
    return notebook.config, workdir, notebook.overrides

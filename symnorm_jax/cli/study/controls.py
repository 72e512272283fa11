"""Negative controls of a finished run: labels that mean nothing, and what a leaking split would add to its numbers.

example:
  symnorm study controls --run=runs/lgg

Writes `controls.json` into the run, and its report again.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def options(parser: ArgumentParser) -> None:
    parser.add_argument("--run", required=True, help="the run directory")


def run(args: Namespace) -> None:
    from symnorm_jax.evaluation.controls import controls
    from symnorm_jax.files import write_json
    from symnorm_jax.report.page import write_report
    from symnorm_jax.run import Run
    from symnorm_jax.rundir import claimed, read_config

    workdir = Path(args.run)
    config = read_config(workdir)
    run = Run(config, workdir)
    with claimed(workdir):
        run.evaluate()
        found = controls(workdir, config)
        write_json(workdir / "controls.json", found)
        write_report(workdir, config)
    print(*found["notes"], f"controls: {workdir / 'controls.json'}; report: {workdir / 'report.html'}", sep="\n")

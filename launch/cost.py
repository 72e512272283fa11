"""Measure anew what a slice or volume costs each of several finished runs, in turn on the same idle machine.

python launch/cost.py --runs=runs/lgg,runs/lgg_dae

A run measures its own cost when it is made, beside whatever else the machine does then; for a comparison of seconds
they are to be measured together. Writes `cost.json` into each run, and its report again.
"""

from pathlib import Path

from absl import app, flags, logging
from rich.console import Console
from rich.table import Table

from symnorm_jax.errors import reported
from symnorm_jax.evaluation.wording import sample_of
from symnorm_jax.files import read_json
from symnorm_jax.report.page import write_report
from symnorm_jax.run import Run
from symnorm_jax.rundir import claimed, read_config

_RUNS = flags.DEFINE_list("runs", None, "Run directories.", required=True)


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)  # libraries tell long stories
    shown = Table("run", "of a", "passes", "parameters", "ms", "device")
    with reported():
        for workdir in map(Path, _RUNS.value):
            run = Run(read_config(workdir), workdir)
            with claimed(workdir):
                run.measure_cost(anew=True)
                write_report(workdir, run.config)
            cost = read_json(workdir / "cost.json")
            cells = [str(cost["passes"]), f"{cost['parameters']:,}", f"{1000 * cost['seconds_per_sample']:.2f}"]
            shown.add_row(workdir.name, sample_of(run.config).noun, *cells, cost["device"])
    Console().print(shown)


if __name__ == "__main__":
    app.run(main)

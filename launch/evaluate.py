"""Judge a run anew from its `scores.csv`, `thresholds.json` and embeddings, and write its report again.

python launch/evaluate.py --run=runs/demo
"""

from pathlib import Path

from absl import app, flags, logging

from symnorm_jax.errors import reported
from symnorm_jax.report.page import print_results
from symnorm_jax.run import Run
from symnorm_jax.rundir import claimed, read_config

_RUN = flags.DEFINE_string("run", None, "The run directory.", required=True)


def main(_) -> None:
    workdir = Path(_RUN.value)
    logging.set_verbosity(logging.WARNING)  # libraries tell long stories
    with reported():
        run = Run(read_config(workdir), workdir)
        with claimed(workdir):
            run.evaluate(anew=True)
    print_results(workdir)


if __name__ == "__main__":
    app.run(main)

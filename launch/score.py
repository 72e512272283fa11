"""Fit the healthy Gaussian of a run anew from its embeddings, whatever wrote them, and judge the scores that follow.

python launch/score.py --run=runs/demo
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
            run.fit(anew=True)
            run.score()
            run.evaluate(anew=True)
    print_results(workdir)


if __name__ == "__main__":
    app.run(main)

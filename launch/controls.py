"""Negative controls of a finished run: labels that mean nothing, and what a leaking split would add to its numbers.

python launch/controls.py --run=runs/lgg

Writes `controls.json` into the run, and its report again.
"""

from pathlib import Path

from absl import app, flags, logging

from symnorm_jax.errors import reported
from symnorm_jax.evaluation.controls import controls
from symnorm_jax.files import write_json
from symnorm_jax.report.page import write_report
from symnorm_jax.run import Run
from symnorm_jax.rundir import claimed, read_config

_RUN = flags.DEFINE_string("run", None, "The run directory.", required=True)


def main(_) -> None:
    workdir = Path(_RUN.value)
    logging.set_verbosity(logging.WARNING)  # libraries tell long stories
    with reported():
        config = read_config(workdir)
        run = Run(config, workdir)
        with claimed(workdir):
            run.evaluate()
            found = controls(workdir, config)
            write_json(workdir / "controls.json", found)
            write_report(workdir, config)
    print("\n".join(found["notes"]))
    print(f"controls: {workdir / 'controls.json'}; report: {workdir / 'report.html'}")


if __name__ == "__main__":
    app.run(main)

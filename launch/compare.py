"""Compare finished runs on the same test cases: paired differences, tests, non-inferiority; as tables and a figure.

python launch/compare.py --runs=runs/lgg,runs/lgg_dae,runs/lgg_padim --output=runs/lgg_comparison

The first run is the reference. With `--level=patient` it is patients that are judged, so that runs of slices can be
compared with runs of whole volumes, if only their test patients are the same. The margin of non-inferiority is the one
in the first run's config, `evaluation.margin`, which was written down when the run was begun.
"""

from pathlib import Path

from absl import app, flags, logging

from symnorm_jax.compare import tables
from symnorm_jax.compare.pairs import compare
from symnorm_jax.errors import reported
from symnorm_jax.evaluation.cases import LEVELS

_RUNS = flags.DEFINE_list("runs", None, "Run directories, the reference first.", required=True)
_LEVEL = flags.DEFINE_enum("level", "sample", LEVELS, "What is judged; patients alone need not be cut alike.")
_OUTPUT = flags.DEFINE_string("output", "runs/comparison", "The folder to write to.")


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)  # libraries tell long stories
    with reported():
        compared = compare([Path(run) for run in _RUNS.value], _LEVEL.value)
        paths = tables.write(compared, Path(_OUTPUT.value))
    for table in tables.brief(compared):
        table.print()
    print(f"comparison: {', '.join(map(str, paths))}")


if __name__ == "__main__":
    app.run(main)

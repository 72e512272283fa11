"""Train a config and see it through to its report, or go on where an earlier call stopped.

python launch/train.py --config=configs/demo.py
python launch/train.py --config=configs/lgg.py --config.data.root=/data/kaggle_3m --config.mask.kind=paired
"""

import sys
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from symnorm_jax.errors import reported
from symnorm_jax.evaluation.report import print_results
from symnorm_jax.run import Run
from symnorm_jax.training.runlog import open_run

_CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/, perhaps with :tiny.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run directory; runs/<config name> unless given.")
flags.mark_flags_as_required(["config"])


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)  # Orbax tells a long story of every save
    flag = flags.FLAGS["config"]
    path, _, size = config_flags.get_config_filename(flag).partition(":")
    workdir = Path(_WORKDIR.value or Path("runs") / "_".join(filter(None, (Path(path).stem, size))))
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(workdir.absolute().parent / ".xla"))
    with reported():
        run = Run(_CONFIG.value, workdir)
        open_run(workdir, _CONFIG.value, config_flags.get_override_values(flag))
        if run.finished:
            print(f"{workdir}: nothing is left to do.")
        else:
            run.everything()
    print_results(workdir)


def parse(arguments: list[str]) -> list[str]:
    """The flags, or a sentence for a config key that does not exist, for which ml_collections has a traceback."""
    try:
        return app.parse_flags_with_usage(arguments)
    except AttributeError as error:
        sys.exit(f"error: no such config key: {' '.join(str(error).split())}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse)

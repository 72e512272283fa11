"""Train a config and see it through to its report, or go on where an earlier call stopped.

python launch/train.py --config=configs/demo.py
python launch/train.py --config=configs/lgg.py --config.data.root=/data/kaggle_3m --config.mask.kind=paired
"""

from absl import app, flags

from symnorm_jax.errors import reported
from symnorm_jax.evaluation.report import print_results
from symnorm_jax.run import Run
from symnorm_jax.training import commandline
from symnorm_jax.training.runlog import open_run

flags.adopt_module_key_flags(commandline)


def main(_) -> None:
    config, workdir, overrides = commandline.begin()
    with reported():
        run = Run(config, workdir)
        open_run(workdir, config, overrides)
        if run.finished:
            print(f"{workdir}: nothing is left to do.")
        else:
            run.everything()
    print_results(workdir)


if __name__ == "__main__":
    app.run(main, flags_parser=commandline.parse)

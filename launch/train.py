"""Train a config and see it through to its report, or go on where an earlier call stopped.

python launch/train.py --config=configs/demo.py
python launch/train.py --config=configs/lgg.py --config.data.root=/data/kaggle_3m --config.mask.kind=paired
python launch/train.py --config=configs/mets.py --config.data.root=/data/brainmetshare-3 --pod

It ends with status 0 when the report is written, 1 with a sentence of what is wrong, and 143 when SIGTERM stopped it
after a checkpoint.
"""

from absl import app, flags

from symnorm_jax.errors import parsed, reported
from symnorm_jax.hosts import lead
from symnorm_jax.report.page import print_results
from symnorm_jax.run import Run
from symnorm_jax.rundir import claimed, open_run
from symnorm_jax.training import commandline

flags.adopt_module_key_flags(commandline)


def main(_) -> None:
    with reported():
        config, workdir, overrides = commandline.begin()
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


if __name__ == "__main__":
    app.run(main, flags_parser=parsed)

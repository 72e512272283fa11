"""Your own scans, listed in a CSV file: see symnorm_jax/data/sources/table.py for its columns.

    python launch/train.py --config=configs/table.py --config.data.root=/my/scans.csv

Without brain masks, skull-stripped scans need `--config.data.brain=nonzero`, whole heads `--config.data.brain=head`;
without healthy people, `--config.data.train_on=lesion_free_slices`.
"""

from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "table"
    return finish(config, size)

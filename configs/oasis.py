"""OASIS-1: people from 18 to 96, with and without dementia; skull-stripped T1 in Talairach's space.

python launch/train.py --config=configs/oasis.py --config.data.root=/data/oasis1

Who is demented tells `oasis_cross-sectional.csv`. Nobody draws an atrophy: a patient's score is the mean over slices.
"""

from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "oasis"
    config.data.options.unassessed = "drop"  # young people without a CDR: or healthy
    config.data.brain = "nonzero"
    config.score.patient = "mean"
    return finish(config, size)

"""Brain metastases (BrainMetShare): the source set. Nobody is healthy there, so it learns from lesion-free slices.

python launch/train.py --config=configs/mets.py --config.data.root=/data/brainmetshare-3

T1 after gadolinium (`t1_gd`) unless another channel is asked for: bravo, t1_pre, flair. A transfer to T1-weighted scans
without contrast, as in configs/alz.py, wants `--config.data.options.channel=t1_pre`. Without the release,
`symnorm phantom --layout=brainmetshare --output=/tmp/mets` writes synthetic people in its tree.
"""

from configs import sweeps
from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "brainmetshare"
    config.data.options.channel = "t1_gd"  # or bravo, t1_pre, flair, or several, as "t1_gd,flair"
    config.data.brain = "nonzero"
    config.data.train_on = "lesion_free_slices"
    return finish(config, size)


def sweep():
    return sweeps.ablations()

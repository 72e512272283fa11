"""Lower-grade glioma (TCGA-LGG in the Kaggle layout): real tumours, and no healthy people.

python launch/train.py --config=configs/lgg.py --config.data.root=/data/kaggle_3m

Whole heads without brain masks: brains are extracted. For results see docs/results.md.
"""

from configs import sweeps
from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "lgg"
    config.data.options.channel = "flair"  # or t1_pre, t1_post, or several, as "flair,t1_pre,t1_post"
    config.data.brain = "extract"
    config.data.normalise = "robust"  # FLAIR, where fluid and lesions are at the ends
    config.data.slice_spacing = 0.0
    config.data.spacing = 3.75
    config.data.train_on = "lesion_free_slices"
    return finish(config, size, {"mask.patch": 16, "difference.kind": "positive"})  # and lesions are bright


def sweep():
    return sweeps.ablations()

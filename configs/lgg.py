"""Lower-grade glioma (TCGA-LGG in the Kaggle layout): real tumours, and no healthy people.

python launch/train.py --config=configs/lgg.py --config.data.root=/data/kaggle_3m

Under 20 minutes on two CPU cores for 60 patients, seed 0, with `--config.data.midline=centred`: Mahalanobis AUROC
within position 0.824 (0.731-0.882 over patients), average precision of pixels 0.113 (0.049-0.265).
"""

from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "lgg"
    config.data.options.channel = "flair"
    config.data.brain = "head"
    config.data.slice_spacing = 0.0
    config.data.spacing = 3.75
    config.data.train_on = "lesion_free_slices"
    return finish(config, size)

"""Lower-grade glioma (TCGA-LGG in the Kaggle layout): real tumours, and no healthy people.

python launch/train.py --config=configs/lgg.py --config.data.root=/data/kaggle_3m

Under an hour beside other work on two CPU cores for 60 patients, seed 0: Mahalanobis AUROC within position 0.854
(0.738-0.914 over patients), average precision of pixels 0.183 (0.084-0.316). In ten minutes, with
`--config.train.unet.steps=2000 --config.train.vae.steps=300`: 0.891 (0.780-0.945) and 0.226 (0.123-0.334). All of it
before covers hid both halves equally, and with the outline of the head as brain.
"""

from configs import sweeps
from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "lgg"
    config.data.options.channel = "flair"
    config.data.brain = "head"
    config.data.normalise = "robust"  # FLAIR, where fluid and lesions are at the ends
    config.data.slice_spacing = 0.0
    config.data.spacing = 3.75
    config.data.train_on = "lesion_free_slices"
    return finish(config, size, {"mask.patch": 16, "difference.kind": "positive"})  # and lesions are bright


def sweep():
    return sweeps.ablations()

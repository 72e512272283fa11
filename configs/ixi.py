"""IXI: real healthy heads; a share of them carries the shape of a real lesion, painted in, so that the truth is exact.

python launch/train.py --config=configs/ixi.py --config.data.root=/data/ixi

The lesion shapes are read from /data/stroke_masks, see `lesion_masks`; `--config.data.options.lesion_masks=''` leaves
everybody healthy. Under 20 minutes on two CPU cores for 120 people, seed 0, with `--config.data.midline=centred`:
Mahalanobis AUROC within position 0.602 (0.502-0.694 over patients), average precision of pixels 0.087 (0.041-0.144).
"""

from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "ixi"
    config.data.options.lesion_masks = "../stroke_masks"  # a folder of *_lesion.nii.gz in MNI space, from root
    config.data.options.channel = "t1"  # or t2, pd, without lesions
    config.data.options.planted = 0.35
    config.data.options.seed = 0
    return finish(config, size)

"""IXI: real healthy heads; a share of them carries the shape of a real lesion, painted in, so that the truth is exact.

python launch/train.py --config=configs/ixi.py --config.data.root=/data/ixi
"""

from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "ixi"
    config.data.options.lesion_masks = "../stroke_masks"  # a folder of *_lesion.nii.gz in MNI space, from root
    config.data.options.planted = 0.35
    config.data.options.seed = 0
    return finish(config, size)

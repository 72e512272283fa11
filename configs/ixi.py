"""IXI: real healthy heads; a share of them carries the shape of a real lesion, painted in, so that the truth is exact.

    python launch/train.py --config=configs/ixi.py --config.data.root=/data/ixi \
        --config.data.options.lesion_masks=/data/stroke_masks
"""

from ml_collections.config_dict import placeholder

from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "ixi"
    config.data.options.lesion_masks = placeholder(str)
    config.data.options.planted = 0.35
    config.data.options.seed = 0
    return finish(config, size)

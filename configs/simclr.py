"""3D-Neuro-SimCLR on IXI: an encoder of whole T1 heads, trained without labels; its features beside symnorm's.

python launch/train.py --config=configs/simclr.py:cpu --config.data.root=/data/ixi

`full` is the box of the paper at 1 mm, for GPUs; `ixi2mm` and `cpu` are the same box at 2 and 4 mm, the last with a
quarter of the widths.
"""

from configs.base import base, finish

SIZES = {
    "full": {"data.size": (192, 192, 150), "data.spacing": 1.0, "train.pretrain.batch_size": 8},
    "ixi2mm": {"data.size": (96, 96, 75), "data.spacing": 2.0, "train.pretrain.batch_size": 16},
    "cpu": {
        "data.size": (48, 48, 38),
        "data.spacing": 4.0,
        "resnet.widths": (16, 32, 64, 128),
        "train.pretrain.batch_size": 16,
        "train.pretrain.steps": 600,
        "score.batch_size": 16,
    },
    "tiny": {
        "data.size": (16, 16, 12),
        "data.spacing": 12.0,
        "resnet.widths": (4, 8),
        "resnet.depths": (1, 1),
        "resnet.stem_kernel": 3,
        "projector.hidden": 8,
        "projector.out": 4,
    },
}


def get_config(size: str = "full"):
    config = base()
    config.system = "simclr"
    config.data.source = "ixi"
    config.data.options.lesion_masks = "../stroke_masks"
    config.data.options.planted = 0.35
    config.data.options.seed = 0
    config.score.headline = "mahalanobis"
    if size not in SIZES:
        raise ValueError(f"config size {size!r}; one of {sorted(SIZES)} is allowed.")
    config = finish(config, "tiny" if size == "tiny" else "full")
    config.update_from_flattened_dict(SIZES[size])
    return config

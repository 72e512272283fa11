"""3D-Neuro-SimCLR on IXI: an encoder of whole T1 heads, trained without labels, and its rivals.

python launch/train.py --config=configs/simclr.py:cpu --config.data.root=/data/ixi
symnorm study downstream --runs=runs/simclr,runs/mae,runs/untrained --targets=age,sex=F --output=runs/downstream

The first scores heads by their Mahalanobis distance, some of which carry a planted lesion; the second predicts age and
sex from the features of such runs, see docs/volumes.md. `full` is the box of the paper at 1 mm, for GPUs; `ixi2mm` and
`cpu` are the same box at 2 and 4 mm, the last with a quarter of the widths and, where a voxel is as large as half the
release's first kernel, a first convolution of 3 voxels and stride 2. Its views are milder: with the release's, which
show down to a fifth of each side, the loss stays that of guessing, log 31, for 400 steps of 72 heads. A size may be
followed by a rival: mae, untrained, supervised, cnn.
"""

from configs.base import base, finish

SIZES = {
    "full": {"data.size": (192, 192, 150), "data.spacing": 1.0, "train.pretrain.batch_size": 8},
    "ixi2mm": {"data.size": (96, 96, 75), "data.spacing": 2.0, "mae.patch": 8, "train.pretrain.batch_size": 16},
    "cpu": {
        "data.size": (48, 48, 38),
        "data.spacing": 4.0,
        "resnet.widths": (16, 32, 64, 128),
        "resnet.stem_kernel": 3,
        "resnet.stem_stride": 2,
        "cnn.widths": (8, 16, 32, 64, 64),
        "mae.patch": 4,
        "mae.widths": (64, 32, 16),
        "train.pretrain.batch_size": 16,
        "train.pretrain.steps": 250,
        "train.pretrain.optimizer.learning_rate": 1e-3,
        "views.crop": (0.6, 0.6, 0.6),
        "views.rotate": (0.5, 0.35),
        "train.statistics.steps": 60,
        "train.finetune.steps": 120,
        "train.finetune.optimizer.learning_rate": 1e-3,
        "finetune.finetune.steps": 120,
        "finetune.finetune.optimizer.learning_rate": 1e-3,
        "score.batch_size": 16,
    },
    "tiny": {
        "data.size": (16, 16, 12),
        "data.spacing": 12.0,
        **{"resnet.widths": (4, 8), "resnet.depths": (1, 1), "resnet.stem_kernel": 3},
        **{"cnn.widths": (4, 8), "cnn.features": 8, "mae.patch": 4, "mae.widths": (4,)},
        **{"projector.hidden": 8, "projector.out": 4},
    },
}
SIZES["released"] = SIZES["full"] | {
    "init_from": "runs/neuro_simclr",  # made by symnorm convert
    "finetune.kind": "gaussian",
    "score.batch_size": 8,
}


def get_config(size: str = "full"):
    config = base()
    config.system = "simclr"
    config.data.source = "ixi"
    config.data.brain_values = "positive"  # the regions of a brain
    config.data.options.lesion_masks = "../stroke_masks"
    config.data.options.planted = 0.35
    config.data.options.pairs = 0
    config.data.options.seed = 0
    return finish(config, size, sizes=SIZES)

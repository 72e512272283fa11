"""SACA on IXI with planted lesions: heads are compared with their mirror images, by networks told who is healthy.

symnorm train --config=saca:cpu --config.data.root=/data/ixi --workdir=runs/saca
symnorm study sweep --config=saca:cpu --points=saca_parts --config.data.root=/data/ixi --output=runs/saca_parts

It is weakly supervised, see docs/saca.md. Everybody is there twice, without and with a planted lesion (`pairs`), so
that nothing else tells patients from healthy people. `full` sees the whole head at 2 mm in the 96 voxels a side that
the release has as crops; `crops` has these at 1 mm; `cpu` is the head at 4 mm, with a quarter of the width and small
windows; `tiny` is of synthetic people. A size may be followed by a part that is left out, or by a rival, as mae, which
learns from the healthy sessions alone.
"""

from configs import simclr, sweeps
from configs.base import base, finish
from configs.systems.saca import OWN, PRESETS

NARROW = {"swin.embed": 12, "swin.heads": (1, 2, 4, 8), "swin.window": 4}
CPU = {
    **{"data.size": (48, 48, 48), "data.spacing": 4.0},
    **{"train.pretrain.steps": 500, "train.pretrain.batch_size": 8},
    "train.pretrain.optimizer.learning_rate": 1e-3,
    "train.finetune.steps": 120,
    **{"train.segment.steps": 300, "train.segment.batch_size": 8, "train.segment.optimizer.learning_rate": 3e-3},
    "score.batch_size": 8,
}
SIZES = {
    "full": {"data.size": (96, 96, 96), "data.spacing": 2.0, "score.batch_size": 8},
    "crops": {"data.size": (192, 192, 192), "data.spacing": 1.0, "saca.crop": 96, "score.batch_size": 8},
    "cpu": simclr.SIZES["cpu"] | NARROW | CPU,
    "tiny": simclr.SIZES["tiny"]
    | {"data.size": (16, 16, 16)}
    | {"swin.embed": 4, "swin.depths": (1, 1), "swin.heads": (1, 2), "swin.window": 2, "swin.cross_heads": 2}
    | {"saca.features": 8},
}


def get_config(size: str = "full"):
    config = base()
    config.system = "saca"
    scale, _, preset = size.partition(",")
    tiny = scale == "tiny"
    if preset in ("", *PRESETS):  # a rival is told nothing, and has a score of its own
        config.update_from_flattened_dict(OWN)
    elif not tiny:
        config.data.train_on = "lesion_free_slices"  # healthy sessions of the same training people
    config.data.source = "phantom" if tiny else "ixi"
    config.data.options.seed = 0
    if tiny:
        config.data.options.update({"healthy": 20, "patients": 14, "disease": "glioma", "spacing": 6.0})
    else:
        config.data.brain_values = "positive"  # the regions of a brain
        config.data.options.update({"lesion_masks": "../stroke_masks", "planted": 1.0, "pairs": 1})
    return finish(config, size, sizes=SIZES)


def sweep():
    return sweeps.saca_parts()

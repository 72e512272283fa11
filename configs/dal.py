"""dal on IXI T1 with planted lesions, small enough for two CPU cores; its anatomy is learned from DLMUSE regions.

python launch/train.py --config=configs/dal.py --config.data.root=/data/ixi

`tiny` is of phantoms, who know their tissues. `:full,no edges` and its like leave out one part of the method, and
`symnorm study sweep --config=dal --points=dal_parts` each in turn. docs/dal.md says what is known of the method and
what was decided here.
"""

from configs import ixi, sweeps
from configs.base import base, finish

STEPS = {"train.anatomy.steps": 1000, "train.restore.steps": 700, "train.recouple.steps": 1400}
WIDTHS = {"anatomy.widths": (16, 32, 64), "restore.widths": (16, 32, 64, 64), "recouple.widths": (16, 32, 64)}


def get_config(size: str = "full"):
    config = base()
    config.system = "dal"
    config.score.headline = "highest"
    if not size.startswith("tiny"):
        ixi.describe(config)
        return finish(config, size, ixi.SETTINGS | STEPS | WIDTHS)
    config.data.source = "phantom"
    config.data.options = {"healthy": 24, "patients": 10, "contrast": "t1", "seed": 0, "spacing": 6.0}
    return finish(config, size, {"anatomy.classes": 3})


def sweep():
    return sweeps.dal_parts()

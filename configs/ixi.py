"""IXI: real healthy heads; a share of them carries the shape of a real lesion, painted in, so that the truth is exact.

python launch/train.py --config=configs/ixi.py --config.data.root=/data/ixi

The lesion shapes are read from /data/stroke_masks, see `lesion_masks`; `--config.data.options.lesion_masks=''` leaves
everybody healthy. docs/results.md has results.
"""

from configs import sweeps
from configs.base import base, finish

SETTINGS = {"mask.patch": 16, "difference.kind": "negative"}  # a stroke is dark on T1


def describe(config) -> None:
    """Say where the scans are and what is planted in them."""
    config.data.source = "ixi"
    config.data.brain_values = "positive"  # the regions of a brain
    config.data.options.lesion_masks = "../stroke_masks"  # a folder of *_lesion.nii.gz in MNI space, from root
    config.data.options.channel = "t1"  # or t2, pd, without lesions; or several, of heads that were laid on one grid
    config.data.options.planted = 0.35
    config.data.options.pairs = 0  # sessions with a lesion beside a healthy one, of each who receives any
    config.data.options.seed = 0


def get_config(size: str = "full"):
    config = base()
    describe(config)
    return finish(config, size, SETTINGS)


def sweep():
    return sweeps.ablations()

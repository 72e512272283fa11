"""Multiple sclerosis (MSLUB, the repository open_ms_data): FLAIR with lesions drawn by consensus; nobody is healthy.

python launch/train.py --config=configs/open_ms.py --config.data.root=/data/open_ms_data/cross_sectional

Lesions are smaller here than elsewhere: a slice counts as abnormal from 3 mm across, the smallest that criteria count.
"""

from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "open_ms"
    config.data.options.channel = "flair"  # or t1, t1_gd, t2, or several, as "flair,t1"
    config.data.options.space = "coregistered"  # with brain masks; or raw, resampled, mni
    config.data.normalise = "robust"  # FLAIR, where fluid and lesions are at the ends
    config.data.min_lesion = 9.0
    config.data.train_on = "lesion_free_slices"
    return finish(config, size, {"difference.kind": "positive"})  # and lesions are bright

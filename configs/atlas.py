"""Stroke (ATLAS v2.0): T1 on a symmetric template, with lesions traced; those of Testing are scored and not judged.

python launch/train.py --config=configs/atlas.py --config.data.root=/data/ATLAS_2

There are no brain masks, so an extractor is needed: `pip install -e ".[bet]"`, see docs/brain_masks.md.
"""

from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "atlas"
    config.data.brain = "extract"
    config.data.train_on = "lesion_free_slices"
    return finish(config, size)

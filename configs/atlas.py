"""Stroke (ATLAS v2.0): T1 on a symmetric template, with lesions traced; scans of Testing are scored and not judged.

python launch/train.py --config=configs/atlas.py --config.data.root=/data/ATLAS_2

A preset of BIDS: `<Training|Testing>/R001/sub-r001s001/ses-1/anat/` has `..._space-MNI152NLin2009aSym_T1w.nii.gz` and,
in Training, the same name with `label-L_desc-T1lesion_mask` in place of `T1w`. R001 is the cohort that contributed the
scan, taken here for the site. Nobody is healthy. A head without a mask is unlabelled, and a warning counts them.
There are no brain masks: brains are extracted, see docs/brain_masks.md.
"""

from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "bids"
    config.data.options.nested = True  # people lie below the folders of their parts and cohorts
    config.data.options.masks = "."  # beside the images
    config.data.options.standing = "masks"  # a mask says who is abnormal
    config.data.options.group_column = ""  # nobody is healthy
    config.data.options.site = r"sub-(r\d+)s\d+"
    config.data.brain = "extract"
    config.data.train_on = "lesion_free_slices"
    return finish(config, size, {"difference.kind": "negative"})  # a stroke is dark on T1

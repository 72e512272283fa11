"""Any data set in BIDS, with `participants.tsv` to say who is healthy and masks, where there are any, in `derivatives`.

python launch/train.py --config=configs/bids.py --config.data.root=/data/ds000001

Where there is no brain mask, a skull-stripped scan is taken as it is, and of a whole head the brain is extracted.
"""

from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "bids"
    config.data.brain = "auto"
    config.data.options.channel = "T1w"  # a suffix; or several on one grid, as "T1w,FLAIR"
    config.data.options.masks = "derivatives"  # the folder of masks, from root; '.' for masks beside their images
    config.data.options.group_column = "group"  # of participants.tsv; '' leaves everybody unlabelled
    config.data.options.healthy = "control,controls,healthy,hc"  # its values, whatever their case
    config.data.options.nested = False  # True: people at any depth below root
    config.data.options.standing = "table"  # or masks: a lesion mask says who is abnormal, others are unlabelled
    config.data.options.site = ""  # a pattern of subjects whose first group is the site, such as sub-(r[0-9]+)s[0-9]+
    return finish(config, size)

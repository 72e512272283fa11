"""Your own scans, listed in a CSV file: one line each, with the columns `path`, `patient` and `label`.

    python launch/train.py --config=configs/table.py --config.data.root=/my/manifest.csv

`label` is healthy, abnormal or unlabelled (scored, and neither trained on nor judged); `path` is a NIfTI file or a
folder of pictures. The columns `session`, `lesion_path`, `brain_path`, `tissue_path`, from which dal learns, and
`spacing_mm` are optional, and every other column is a group, such as age or site: see
symnorm_jax/data/sources/table.py. Where there is no brain mask, a skull-stripped scan is taken as it is, and of a whole
head the brain is extracted. Without healthy people, set `--config.data.train_on=lesion_free_slices`.
"""

from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "table"
    config.data.brain = "auto"
    config.data.options.channel = "path"  # the column of images; or those of several contrasts, as "t1,flair"
    return finish(config, size)

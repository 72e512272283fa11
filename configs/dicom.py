"""DICOM series, one folder each, listed in a CSV file with the columns `folder`, `patient` and `label`.

python launch/train.py --config=configs/dicom.py --config.data.root=/my/scans.csv

Needs `pip install -e ".[dicom]"`. Nothing that a header says of the person is kept or shown. Where there is no brain
mask, one is extracted.
"""

from configs.base import base, finish


def get_config(size: str = "full"):
    config = base()
    config.data.source = "dicom"
    config.data.options.table = "scans.csv"  # from root, where root is a folder
    config.data.brain = "auto"
    return finish(config, size)

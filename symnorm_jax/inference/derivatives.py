"""The folder of scored scans as BIDS derivatives: names, and what says of a folder what it is.

    OUT/dataset_description.json  README.md  .bidsignore  desc-symnorm_mask.json  desc-symnorm_dseg.json
    OUT/sub-01[/ses-1]/anat/sub-01[...]_desc-symnorm_map.nii.gz  _dseg.nii.gz  _mask.nii.gz  _score.json  _view.html

BIDS has no names for difference maps, scores and pages; `.bidsignore` lists these. The two JSON files at the top are of
all masks and all lesions below.
"""

import json
from importlib.metadata import version
from pathlib import Path

from symnorm_jax.data.volumes import Scan
from symnorm_jax.files import write_text

NAMES = {"score": "score.json", "map": "map.nii.gz", "lesions": "dseg.nii.gz", "brain": "mask.nii.gz"}
NAMES |= {"view": "view.html"}
MARK = "_desc-symnorm_"
DESCRIPTION = "dataset_description.json"
ABOUT = {"Name": "symnorm: what is not normal", "BIDSVersion": "1.10.0", "DatasetType": "derivative"}
UNKNOWN = ("map.nii.gz", "score.json", "view.html", "view.png")
MASK = {"Type": "Brain", "Description": "The brain that was looked at", "SpatialReference": "orig"}
LESIONS = {"Description": "Blobs of the map beyond its threshold, numbered by size", "SpatialReference": "orig"}
README = """# Scans scored by symnorm

Research use only. Not a medical device; not for diagnosis.

Of each scan there are the map of what is unlike the healthy (`_map`), what of it is beyond the threshold of the model
(`_dseg`), the brain (`_mask`), all that is said, with the unit of the map (`_score.json`), and a page for any browser.
"""
ONCE = {  # what is written where it is not there
    "README.md": README,
    ".bidsignore": "\n".join(("index.html", "scores.tsv", "excluded.tsv", *(f"*{MARK}{name}" for name in UNKNOWN), "")),
    "desc-symnorm_mask.json": json.dumps(MASK, indent=2) + "\n",
    "desc-symnorm_dseg.json": json.dumps(LESIONS, indent=2) + "\n",
}


def paths_of(scan: Scan, output: Path) -> dict[str, Path]:
    """Name the derivatives of an image: its entities without the suffix, which tells a contrast."""
    stem = Path(scan.files[0]).name.split(".")[0].rpartition("_")[0]
    folder = output.joinpath(*filter(None, (scan.patient, scan.session)), "anat")
    return {key: folder / f"{stem}{MARK}{name}" for key, name in NAMES.items()}


def describe(output: Path, model: str) -> None:
    """Say of a folder what it is, and by which model, told by its checksum, it was made."""
    by = {"Name": "symnorm_jax", "Version": version("symnorm_jax"), "Description": f"model {model}"}
    write_text(output / DESCRIPTION, json.dumps(ABOUT | {"GeneratedBy": [by]}, indent=2) + "\n")
    for name, content in ONCE.items():
        if not (output / name).exists():
            write_text(output / name, content)

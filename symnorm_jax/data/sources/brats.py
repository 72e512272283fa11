"""BraTS: brain tumours, each case four sequences and, in training sets, a map of the tumour's parts. Nobody is healthy.

A case is a folder, at any depth, its files also as .nii:

    BraTS-Africa/{95_Glioma,51_OtherNeoplasms}/BraTS-SSA-00002-000/BraTS-SSA-00002-000-{t1n,t1c,t2w,t2f,seg}.nii.gz
    ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/BraTS-GLI-00207-000/...     as above; also SSA, MET and others
    TrainingData/BraTS2021_00000/BraTS2021_00000_{t1,t1ce,t2,flair,seg}.nii.gz

The last number of a name is the session. An id of BraTS-Africa in both groups is one person, so that both scans are in
one split; the group stands in front of the session. Of two copies of a case one is taken: with the channel, then with a
map, then by path. Labels: 1 is the dead or not enhancing core, 2 oedema, enhancing tumour 4 until 2021 and 3 since.
Scans have no skull: data.brain='nonzero' fits, though a voxel of the brain may be negative.
"""

import re
from functools import partial
from pathlib import Path

import numpy as np

from symnorm_jax.data.masks import STRICT, Reading
from symnorm_jax.data.sources.contrasts import several
from symnorm_jax.data.sources.listing import case_folders, existing, kept, nifti_scan, one_each, refuse, some
from symnorm_jax.data.volumes import Scan, Volume, read_nifti, read_volume
from symnorm_jax.errors import ScanError, check_options

FORMAT = "brats format 1"  # raise it when the same files would give other voxels
CHANNELS = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}  # and their names in 2021
LABELS = {"whole": (1, 2, 3, 4), "core": (1, 3, 4), "enhancing": (3, 4)}
TUMOURS = {"glioma": "_glioma", "other": "_otherneoplasms"}  # and how the folders of BraTS-Africa end
CHOICES = {"channel": CHANNELS, "group": ("both", *TUMOURS), "labels": LABELS}
LAYOUT = "BraTS-SSA-00002-000/BraTS-SSA-00002-000-{t1n,t1c,t2w,t2f,seg}.nii.gz, or as in 2021 BraTS2021_00000/..."

_NAME = re.compile(r"(BraTS-[A-Za-z]+-\d+)-(\d+)|(BraTS2021_\d+)")


@several
def records(root: str, *, channel: str = "t1c", group: str = "both", labels: str = "whole") -> list[Scan]:
    """List one Scan a case, but none for those without `channel`: t1n, t1c, t2w or t2f, also for 2021.

    `group` is both, or glioma or other for one group of BraTS-Africa. `labels` is what counts as lesion: the whole
    tumour, its core without oedema, or what is enhancing.
    """
    check_options(CHOICES, channel=channel, group=group, labels=labels)
    folders = case_folders(existing(root, LAYOUT), lambda path, *_: bool(_NAME.fullmatch(path.name)))
    scans = [_scan(folder, channel, labels) for folder in some(root, folders, "cases", LAYOUT)]
    scans = [scan for scan in scans if group in ("both", scan.groups.get("tumour"))]
    some(root, scans, f"cases of group={group!r}", "BraTS-Africa/{95_Glioma,51_OtherNeoplasms}/...")
    names = [scan.patient for scan in scans]
    old, new = ([name for name in names if name.startswith(start)] for start in ("BraTS2021_", "BraTS-GLI-"))
    if old and new:
        both = f"{old[0]} and {new[0]}, and BraTS 2021 and BraTS-GLI name the same people differently"
        raise ScanError(f"{root}: holds {both}; a folder with one of them is allowed.")
    key, rank = lambda scan: (scan.patient, scan.session), lambda scan: (not scan.files, not scan.labelled)
    scans = one_each(root, scans, key, rank, "cases, each another copy of one")
    return kept(root, scans, lambda scan: scan.files, f"cases without {channel}")


def load(image: str, seg: str | None, brain: None, labels: str, reading: Reading = STRICT) -> Volume:
    """Read a scan and the lesion. Raises ScanError where a label is none of 0 to 4."""
    if seg is not None:
        drawn, _ = read_nifti(seg, reading.header)
        if (other := np.setdiff1d(drawn, (0, 1, 2, 3, 4))).size:
            raise ScanError(f"{seg}: holds the label {other[0]:g}; 0, 1, 2, 3 and 4 are allowed.")
        both = {3, 4} <= set(np.unique(drawn).tolist())
        refuse(seg, both, "holds both label 3 and label 4, as releases since 2024 do; those until 2023 are read")
    return read_volume(image, seg, brain, reading._replace(lesion=",".join(map(str, LABELS[labels]))))


def _scan(folder: Path, channel: str, labels: str) -> Scan:
    """Build the Scan of a case, without files where the channel is missing."""
    person, timepoint, old = _NAME.fullmatch(folder.name).groups()
    tumour = next((name for name, end in TUMOURS.items() if folder.parent.name.lower().endswith(end)), "")
    pieces = (f"_{CHANNELS[channel]}", "_seg") if old else (f"-{channel}", "-seg")
    files = [[folder / f"{folder.name}{piece}{end}" for end in (".nii.gz", ".nii")] for piece in pieces]
    image, seg = (next((path for path in paths if path.is_file()), None) for paths in files)
    about = {"patient": person or old, "session": "-".join(filter(None, (tumour, timepoint)))}
    about |= {"standing": "abnormal" if seg else "unlabelled", "groups": {"tumour": tumour} if tumour else {}}
    recipe = f"{FORMAT}, {channel}, {labels}"
    return nifti_scan(image, seg, read=partial(load, labels=labels), recipe=recipe, **about)

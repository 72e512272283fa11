"""BraTS: brain tumours, each case four sequences and, in training sets, a map of the tumour's parts.

A case is a folder, below whatever folders the copy has, its files also as .nii:

    BraTS-Africa/{95_Glioma,51_OtherNeoplasms}/BraTS-SSA-00002-000/BraTS-SSA-00002-000-{t1n,t1c,t2w,t2f,seg}.nii.gz
    ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/BraTS-GLI-00207-000/...     as above; also SSA, MET and others
    TrainingData/BraTS2021_00000/BraTS2021_00000_{t1,t1ce,t2,flair,seg}.nii.gz

Nobody is healthy: the other neoplasms of BraTS-Africa are tumours too. The last number of a name is the session. An id
of BraTS-Africa in both groups is taken for one person, so that both scans are in one split; the group stands in front
of the session. Of two copies of a case one is taken: with the channel, then with a map, then by path.

Labels: 1 is the dead or not enhancing core, 2 oedema, enhancing tumour 4 until 2021 and 3 since. With `labels` core or
enhancing, the rest of the tumour counts as normal tissue. Scans have no skull, so data.brain='nonzero' finds the brain:
the background is 0, while a voxel of the brain may be negative.
"""

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from symnorm_jax.data.sources.listing import case_folders, existing, kept, nifti_scan, nothing_found, one_each
from symnorm_jax.data.volumes import Scan, Volume, read_nifti, read_volume
from symnorm_jax.errors import ScanError, check_options

FORMAT = "brats format 1"  # raise it when the same files would give other voxels
CHANNELS = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}  # and their names in 2021
LABELS = {"whole": (1, 2, 3, 4), "core": (1, 3, 4), "enhancing": (3, 4)}
TUMOURS = {"glioma": "_glioma", "other": "_otherneoplasms"}  # and how the folders of BraTS-Africa end
CHOICES = {"channel": CHANNELS, "group": ("both", *TUMOURS), "labels": LABELS}
LAYOUT = "BraTS-SSA-00002-000/BraTS-SSA-00002-000-{t1n,t1c,t2w,t2f,seg}.nii.gz, or as in 2021 BraTS2021_00000/..."

_NAME = re.compile(r"(BraTS-[A-Za-z]+-\d+)-(\d+)|(BraTS2021_\d+)")


class _Case(NamedTuple):
    folder: Path
    patient: str
    session: str
    tumour: str  # a key of TUMOURS, or nothing outside BraTS-Africa
    image: Path | None
    seg: Path | None


def records(root: str, *, channel: str = "t1c", group: str = "both", labels: str = "whole") -> list[Scan]:
    """List one Scan a case, but none for those without `channel`: t1n, t1c, t2w or t2f, also for 2021.

    `group` is both, or glioma or other for one group of BraTS-Africa. `labels` is what counts as lesion: the whole
    tumour, its core without oedema, or what is enhancing.
    """
    check_options(CHOICES, channel=channel, group=group, labels=labels)
    cases = [_case(folder, channel) for folder in case_folders(existing(root, LAYOUT), _is_case)]
    if not cases:
        raise nothing_found(root, "cases", LAYOUT)
    cases = [case for case in cases if group in ("both", case.tumour)]
    if not cases:
        raise nothing_found(root, f"cases of group={group!r}", "BraTS-Africa/{95_Glioma,51_OtherNeoplasms}/...")
    _refuse_two_names(root, cases)
    cases = one_each(root, cases, lambda case: (case.patient, case.session), _rank, "cases, each another copy of one")
    cases = kept(root, cases, lambda case: case.image, f"cases without {channel}")
    return [_scan(case, channel, labels) for case in cases]


def load(image: str, seg: str | None, brain: None, labels: str) -> Volume:
    """Read a scan and the lesion. Raises ScanError where a label is none of 0 to 4."""
    volume = read_volume(image, seg, brain)
    if seg is None:
        return volume
    drawn, _ = read_nifti(seg)
    other = np.setdiff1d(drawn, (0, 1, 2, 3, 4))
    if other.size:
        raise ScanError(f"{seg}: holds the label {other[0]:g}; 0, 1, 2, 3 and 4 are allowed.")
    if {3, 4} <= set(np.unique(drawn).tolist()):
        raise ScanError(f"{seg}: holds both label 3 and label 4, as releases since 2024 do; those until 2023 are read.")
    return volume._replace(lesion=np.isin(drawn, LABELS[labels]))


def _is_case(path: Path, folders: list[str], files: list[str]) -> bool:
    return bool(_NAME.fullmatch(path.name))


def _case(folder: Path, channel: str) -> _Case:
    person, timepoint, old = _NAME.fullmatch(folder.name).groups()
    tumour = next((name for name, end in TUMOURS.items() if folder.parent.name.lower().endswith(end)), "")
    image, seg = (f"_{CHANNELS[channel]}", "_seg") if old else (f"-{channel}", "-seg")
    session = "-".join(filter(None, (tumour, timepoint)))
    return _Case(folder, person or old, session, tumour, _file(folder, image), _file(folder, seg))


def _file(folder: Path, piece: str) -> Path | None:
    paths = (folder / f"{folder.name}{piece}{end}" for end in (".nii.gz", ".nii"))
    return next((path for path in paths if path.is_file()), None)


def _refuse_two_names(root: str, cases: list[_Case]) -> None:
    """Raise ScanError where the releases are mixed that name the same people differently."""
    old, new = (
        [case.patient for case in cases if case.patient.startswith(key)] for key in ("BraTS2021_", "BraTS-GLI-")
    )
    if old and new:
        raise ScanError(
            f"{root}: holds {old[0]} and {new[0]}, and BraTS 2021 and BraTS-GLI name the same people differently; "
            "a folder with one of them is allowed."
        )


def _rank(case: _Case) -> tuple:
    return case.image is None, case.seg is None, str(case.folder)


def _scan(case: _Case, channel: str, labels: str) -> Scan:
    return nifti_scan(
        *(case.image, case.seg),
        read=partial(load, labels=labels),
        patient=case.patient,
        session=case.session,
        standing="abnormal" if case.seg else "unlabelled",
        recipe=f"{FORMAT}, {channel}, {labels}",
        groups={"tumour": case.tumour} if case.tumour else {},
    )

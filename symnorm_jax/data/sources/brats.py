"""BraTS: brain tumours, each case four sequences and, in training sets, a map of the tumour's parts.

A case is a folder, below whatever folders the copy has:

    BraTS-Africa/{95_Glioma,51_OtherNeoplasms}/BraTS-SSA-00002-000/BraTS-SSA-00002-000-{t1n,t1c,t2w,t2f,seg}.nii.gz
    ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/BraTS-GLI-00207-000/...     as above; also SSA, MET and others
    TrainingData/BraTS2021_00000/BraTS2021_00000_{t1,t1ce,t2,flair,seg}.nii.gz

also as .nii. Nobody is healthy: the other neoplasms of BraTS-Africa are tumours too. The last number of a name is
the session of a person. An id of BraTS-Africa in both groups is taken for one person, so that both scans are in one
split; the group stands in front of the session. BraTS 2021 and BraTS-GLI hold the same people under two names and are
refused together. A case that is there twice counts once: the copy with the channel goes first, then that with a map,
then the path.

Labels: 1 is the dead or not enhancing core, 2 oedema, enhancing tumour 4 until 2021 and 3 since. With `labels` core or
enhancing, the rest of the tumour counts as normal tissue. Scans are skull-stripped, so data.brain='nonzero' finds the
brain: the background is 0, while a voxel of the brain may be negative.
"""

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from symnorm_jax.data.sources.listing import case_folders, existing, nothing_found, one_each, one_of, with_channel
from symnorm_jax.data.volumes import Scan, Volume, read_nifti, read_volume
from symnorm_jax.errors import ScanError

FORMAT = 1  # raise it when the same files would give other voxels
CHANNELS = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}  # and their names in 2021
LABELS = {"whole": (1, 2, 3, 4), "core": (1, 3, 4), "enhancing": (3, 4)}
TUMOURS = {"glioma": "_glioma", "other": "_otherneoplasms"}  # and how the folders of BraTS-Africa end
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
    """One Scan a case, but none for those without `channel`: t1n, t1c, t2w or t2f, also for 2021.

    `group` is both, or glioma or other for one group of BraTS-Africa. `labels` is what counts as lesion: the whole
    tumour, its core without oedema, or what is enhancing.
    """
    one_of("channel", channel, CHANNELS)
    one_of("group", group, ("both", *TUMOURS))
    one_of("labels", labels, LABELS)
    found = [_case(folder, channel) for folder in case_folders(existing(root, LAYOUT), _is_case)]
    if not found:
        raise nothing_found(root, "cases", LAYOUT)
    found = [case for case in found if group in ("both", case.tumour)]
    if not found:
        raise nothing_found(root, f"cases of group={group!r}", "BraTS-Africa/{95_Glioma,51_OtherNeoplasms}/...")
    _refuse_two_names(root, found)
    cases = one_each(root, found, lambda case: (case.patient, case.session), _rank)
    return [_scan(case, channel, labels) for case in with_channel(root, cases, lambda case: case.image, channel)]


def load(image: str, seg: str | None, labels: str) -> Volume:
    """A scan as it is stored, and the lesion. Raises ScanError where a label is none of 0 to 4."""
    volume = read_volume(image, lesion=seg)
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
    ends = [tumour for tumour, end in TUMOURS.items() if folder.parent.name.lower().endswith(end)]
    tumour = ends[0] if ends else ""
    image = _file(folder, f"_{CHANNELS[channel]}" if old else f"-{channel}")
    seg = _file(folder, "_seg" if old else "-seg")
    session = "-".join(filter(None, (tumour, timepoint)))
    return _Case(folder, person or old, session, tumour, image, seg)


def _file(folder: Path, piece: str) -> Path | None:
    paths = (folder / f"{folder.name}{piece}{end}" for end in (".nii.gz", ".nii"))
    return next((path for path in paths if path.is_file()), None)


def _refuse_two_names(root: str, cases: list[_Case]) -> None:
    old = [case.patient for case in cases if case.patient.startswith("BraTS2021_")]
    new = [case.patient for case in cases if case.patient.startswith("BraTS-GLI-")]
    if old and new:
        raise ScanError(
            f"{root}: holds {old[0]} and {new[0]}, and BraTS 2021 and BraTS-GLI name the same people differently; "
            "a folder with one of them is allowed."
        )


def _rank(case: _Case) -> tuple:
    return case.image is None, case.seg is None, str(case.folder)


def _scan(case: _Case, channel: str, labels: str) -> Scan:
    seg = str(case.seg) if case.seg else None
    return Scan(
        patient=case.patient,
        session=case.session,
        healthy=False,
        load=partial(load, str(case.image), seg, labels),
        files=(str(case.image),),
        extras=(seg,) if seg else (),
        recipe=f"brats format {FORMAT}, {channel}, {labels}",
        groups={"tumour": case.tumour} if case.tumour else {},
        labelled=seg is not None,
    )

"""ATLAS v2.0, people after a stroke: T1-weighted whole heads on a symmetric MNI template, and the lesions traced there.

`ATLAS_2/<Training|Testing>/R001/sub-r001s001/ses-1/anat/` holds
`sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz` and, in Training, the same name with
`label-L_desc-T1lesion_mask` in place of `T1w` (L stands for lesion, not for left). R001 is the cohort that contributed
the scan, taken here for the site. There is no brain mask, and nobody is healthy. Of those in Testing without a mask
nobody outside knows the truth: they are scored, and neither trained on nor judged.
"""

import re
from functools import partial
from pathlib import Path

from symnorm_jax.data.sources.listing import existing, nothing_found, numeric, one_each
from symnorm_jax.data.volumes import Scan, read_volume

FORMAT = 1  # raise it when the same files would give other voxels
_STEM = "sub-r001s001_ses-1_space-MNI152NLin2009aSym"
LAYOUT = f"<Training|Testing>/R001/sub-r001s001/ses-1/anat/{_STEM}_T1w.nii.gz"

_NAME = re.compile(r"(sub-(r\d+)s\d+)_(ses-[A-Za-z0-9]+)_space-MNI152NLin2009aSym_T1w\.nii(?:\.gz)?")


def records(root: str) -> list[Scan]:
    """One Scan a session, found at any depth below `root`."""
    found = existing(root, LAYOUT).rglob("sub-*_T1w.nii*")
    images = sorted((path for path in found if _NAME.fullmatch(path.name)), key=lambda path: numeric(path.name))
    if not images:
        raise nothing_found(root, "heads", LAYOUT)
    return [_scan(path) for path in one_each(root, images, lambda path: _NAME.fullmatch(path.name).groups(), str)]


def _scan(image: Path) -> Scan:
    patient, cohort, session = _NAME.fullmatch(image.name).groups()
    mask = image.with_name(image.name.replace("_T1w.nii", "_label-L_desc-T1lesion_mask.nii"))
    traced = mask.is_file()
    labelled = traced or _part(image) == "Training"  # there a mask is due: `load` refuses a scan whose own is missing
    return Scan(
        patient=patient,
        session=session,
        healthy=False,
        load=partial(read_volume, str(image), str(mask) if labelled else None),
        files=(str(image),),
        extras=(str(mask),) if traced else (),
        recipe=f"atlas format {FORMAT}, lesion {labelled}",
        groups={"site": cohort.upper()},
        labelled=labelled,
    )


def _part(image: Path) -> str:
    """The folder above the cohort's, Training or Testing."""
    return image.parents[4].name if len(image.parents) > 4 else ""

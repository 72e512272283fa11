"""MSLUB, people with multiple sclerosis, in the layout of the repository `open_ms_data`.

`cross_sectional/` holds four versions of 30 patients: `raw`, where only FLAIR has the grid of the lesions and others
are refused for that; `coregistered` to FLAIR with a brain mask; `coregistered_resampled`; and `MNI`, without skulls.
Files are `FLAIR`, `T1W`, `T1WKS` (after contrast), `T2W`, `consensus_gt` and `brainmask.nii.gz`, at times behind
`patient<number>_`; in `MNI` `<FLAIR|T1|T1POST|T2|GOLD_STANDARD>_..._regtoMNI.nii.gz`. `patient_info.csv` gives age and
sex. Nobody is healthy.
"""

import re
from pathlib import Path

from symnorm_jax.data.sources.contrasts import several
from symnorm_jax.data.sources.listing import existing, kept, nifti_scan, numeric, some
from symnorm_jax.data.sources.tables import one_row_each, read_rows
from symnorm_jax.data.volumes import Scan
from symnorm_jax.errors import check_options

FORMAT = "open_ms format 1"  # raise it when the same files would give other voxels
SPACES = {"raw": "raw", "coregistered": "coregistered", "resampled": "coregistered_resampled", "mni": "MNI"}
CHANNELS = {"flair": ("FLAIR", "FLAIR"), "t1": ("T1W", "T1"), "t1_gd": ("T1WKS", "T1POST"), "t2": ("T2W", "T2")}
CHOICES = {"channel": CHANNELS, "space": SPACES}
MISSING = (None, "", "N/A")
GROUPS = ("age", "sex", "ms_type")
LAYOUT = "cross_sectional/<raw|coregistered|coregistered_resampled|MNI>/patient<number>/<images>.nii.gz"

_PATIENT = re.compile(r"patient0*(\d+)")


@several
def records(root: str, *, channel: str = "flair", space: str = "raw") -> list[Scan]:
    """List one Scan a patient who has the `channel` in this `space`: raw, coregistered, resampled or mni."""
    check_options(CHOICES, channel=channel, space=space)
    top = existing(root, LAYOUT)
    top = top / "cross_sectional" if (top / "cross_sectional").is_dir() else top
    within = top / SPACES[space]
    folders = [path for path in within.iterdir() if _PATIENT.fullmatch(path.name)] if within.is_dir() else []
    folders = sorted(some(root, folders, f"patients in {within}", LAYOUT), key=lambda path: numeric(path.name))
    table = top / "patient_info.csv"
    rows = read_rows(table, ("patient_id", "age", "sex")) if table.is_file() else []
    rows = [{key: row[key] for key in ("patient_id", *GROUPS) if row.get(key) not in MISSING} for row in rows]
    known = one_row_each(table, [row for row in rows if "patient_id" in row], "patient_id")
    scans = [_scan(folder, channel, space, known) for folder in folders]
    return kept(within, scans, bool, f"patients without {channel}")


def _scan(folder: Path, channel: str, space: str, known: dict[str, dict[str, str]]) -> Scan | None:
    mni = space == "mni"
    names = [CHANNELS[channel][mni], "GOLD_STANDARD" if mni else "consensus_gt"]
    image, lesion = (_find(folder, f"{name}_.*regtoMNI" if mni else name) for name in names)
    if image is None:
        return None
    lesion = lesion or folder / f"{names[1]}.nii.gz"  # `load` names what is missing
    brain = None if mni else _find(folder, "brainmask")
    about = {"patient": folder.name, "groups": known.get(_PATIENT.fullmatch(folder.name)[1], {})}
    return nifti_scan(image, lesion, brain, standing="abnormal", recipe=f"{FORMAT}, {channel}, {space}", **about)


def _find(folder: Path, pattern: str) -> Path | None:
    name = re.compile(rf"(?:{folder.name}_)?{pattern}\.nii\.gz")
    return min((path for path in folder.glob("*") if name.fullmatch(path.name)), key=str, default=None)

"""MSLUB, people with multiple sclerosis, in the layout of the repository `open_ms_data`.

`cross_sectional/` holds four versions of 30 patients, one folder `patient<number>` each: `raw`; `coregistered` to FLAIR
with a brain mask; `coregistered_resampled`; and `MNI`, without skulls. Files are `FLAIR`, `T1W`, `T1WKS` (after
contrast), `T2W`, `consensus_gt` and `brainmask.nii.gz`, at times behind `patient<number>_`; in `MNI` they are
`<FLAIR|T1|T1POST|T2|GOLD_STANDARD>_..._regtoMNI.nii.gz`. `patient_info.csv` gives age and sex. Nobody is healthy.

The lesions were drawn on FLAIR: of the raw images, others than FLAIR have grids of their own, and are refused for that.
"""

import re
from functools import partial
from pathlib import Path

from absl import logging

from symnorm_jax.data.sources.listing import existing, nothing_found, numeric, one_of, read_rows
from symnorm_jax.data.volumes import Scan, read_volume

FORMAT = 1  # raise it when the same files would give other voxels
SPACES = {"raw": "raw", "coregistered": "coregistered", "resampled": "coregistered_resampled", "mni": "MNI"}
CHANNELS = {"flair": ("FLAIR", "FLAIR"), "t1": ("T1W", "T1"), "t1_gd": ("T1WKS", "T1POST"), "t2": ("T2W", "T2")}
GROUPS = ("age", "sex", "ms_type")
LAYOUT = "cross_sectional/<raw|coregistered|coregistered_resampled|MNI>/patient<number>/<images>.nii.gz"

_PATIENT = re.compile(r"patient0*(\d+)")


def records(root: str, *, channel: str = "flair", space: str = "raw") -> list[Scan]:
    """One Scan a patient who has the `channel` in this `space`: raw, coregistered, resampled or mni."""
    one_of("channel", channel, CHANNELS)
    one_of("space", space, SPACES)
    top = existing(root, LAYOUT)
    top = top / "cross_sectional" if (top / "cross_sectional").is_dir() else top
    within = top / SPACES[space]
    folders = [path for path in within.iterdir() if _PATIENT.fullmatch(path.name)] if within.is_dir() else []
    if not folders:
        raise nothing_found(root, f"patients in {within}", LAYOUT)
    known = _known(top / "patient_info.csv")
    scans = [_scan(folder, channel, space, known) for folder in sorted(folders, key=lambda path: numeric(path.name))]
    kept = [scan for scan in scans if scan]
    if len(kept) < len(scans):
        missing = len(scans) - len(kept)
        logging.warning("%s: left out %d of %d patients without %s.", within, missing, len(scans), channel)
    return kept


def _scan(folder: Path, channel: str, space: str, known: dict[str, dict[str, str]]) -> Scan | None:
    raw, in_mni = CHANNELS[channel]
    mni = space == "mni"
    image = _find(folder, f"{in_mni}_.*regtoMNI" if mni else raw)
    if image is None:
        return None
    lesion = _find(folder, "GOLD_STANDARD_.*regtoMNI" if mni else "consensus_gt")
    lesion = lesion or str(
        folder / f"{'GOLD_STANDARD' if mni else 'consensus_gt'}.nii.gz"
    )  # `load` names what is missing
    brain = None if mni else _find(folder, "brainmask")
    return Scan(
        patient=folder.name,
        session="",
        healthy=False,
        load=partial(read_volume, image, lesion, brain),
        files=(image,),
        extras=tuple(mask for mask in (lesion, brain) if mask and Path(mask).is_file()),
        recipe=f"open_ms format {FORMAT}, {channel}, {space}, brain {bool(brain)}",
        groups=known.get(_PATIENT.fullmatch(folder.name)[1], {}),
    )


def _find(folder: Path, pattern: str) -> str | None:
    name = re.compile(rf"(?:{folder.name}_)?{pattern}\.nii\.gz")
    found = sorted(str(path) for path in folder.glob("*") if name.fullmatch(path.name))
    return found[0] if found else None


def _known(path: Path) -> dict[str, dict[str, str]]:
    """What is known of each patient, by number."""
    if not path.is_file():
        return {}
    rows = read_rows(path, ("patient_id", "age", "sex"))
    return {
        row["patient_id"]: {key: row[key] for key in GROUPS if row.get(key, "N/A") not in ("", "N/A")} for row in rows
    }

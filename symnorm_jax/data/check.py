"""A data root looked through before anything is cut: what every scan is, which cannot be used, which are the same.

One scan is in memory per worker process.
"""

import os

import joblib
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data import brain
from symnorm_jax.data.parallel import in_parallel
from symnorm_jax.data.prepare import Progress, find_scans
from symnorm_jax.data.volumes import Scan, Volume, digest, stored_axes
from symnorm_jax.errors import ScanError
from symnorm_jax.geometry import voxel_sizes

COLUMNS = (
    *("patient", "session", "person", "source", "stored_axes", "shape", "spacing_mm", "brain_share", "lesion_ml"),
    *("sha256", "same_as", "problem"),
)
NIFTI = (".nii", ".nii.gz", ".img", ".hdr")
UNKNOWN = ""


def check(config: ConfigDict, progress: Progress) -> pd.DataFrame:
    """One row of COLUMNS a scan of the `data` section `config`; `problem` says why a scan cannot be used.

    `stored_axes` is the orientation, blank for pictures; `shape` and `spacing_mm` are left to right, back to front,
    foot to head. `brain_share` is the brain's share of the voxels, blank where a brain would have to be extracted.
    `same_as` names the first scan made of the same bytes. Raises ConfigError for an unknown choice, ScanError where
    nothing is found.
    """
    brain.check_choice(config.brain, config.extractor)
    work = [joblib.delayed(_check_scan)(scan, config.brain) for scan in find_scans(config)]
    rows = list(progress(in_parallel(work, config.workers), "checking", len(work)))
    table = pd.DataFrame([dict.fromkeys(COLUMNS, UNKNOWN) | row for row in rows])
    table["same_as"] = _same_as(table)
    return table


def repeated(table: pd.DataFrame) -> pd.DataFrame:
    """The scans that are, byte for byte, those of another patient."""
    first = table.drop_duplicates("sha256").set_index("sha256").patient
    known = table[table.sha256 != UNKNOWN]
    return known[known.patient != known.sha256.map(first)]


def stored_axes_of(scan: Scan) -> str | None:
    """The order that a scan's axes are stored in, such as `LPS`; None where it is not kept as one NIfTI file.

    Raises ScanError where the file cannot be read.
    """
    if len(scan.files) == 1 and scan.files[0].lower().endswith(NIFTI):
        return stored_axes(scan.files[0])
    return None


def _check_scan(scan: Scan, kind: str) -> dict:
    source = os.path.commonpath(scan.files) if scan.files else ""
    row = {"patient": scan.patient, "session": scan.session, "source": source}
    row["person"] = ("healthy" if scan.healthy else "abnormal") if scan.labelled else "unlabelled"
    try:
        row["sha256"] = digest(scan.files, "" if scan.files else scan.name + scan.recipe)
        row["stored_axes"] = stored_axes_of(scan) or ""
        row |= _about(scan.load(), kind)
    except (ScanError, OSError) as error:
        row["problem"] = str(error)
    return row


def _about(volume: Volume, kind: str) -> dict:
    sizes = voxel_sizes(volume.affine)
    row = {
        "shape": " x ".join(map(str, volume.voxels.shape)),
        "spacing_mm": " x ".join(f"{size:.2f}" for size in sizes),
    }
    if not np.isfinite(volume.voxels).all():  # a source that reads no NIfTI may let them through
        return row | {"problem": "some voxels are NaN or infinite; all must be finite."}
    if volume.lesion is not None:
        row["lesion_ml"] = round(float(volume.lesion.sum() * sizes.prod() / 1000), 2)
    if kind != "extract":
        row |= _brain(volume, kind)
    return row


def _brain(volume: Volume, kind: str) -> dict:
    try:
        share = float(brain.brain_mask(volume, kind).mean())
    except ScanError as error:
        return {"problem": str(error)}
    return {"brain_share": round(share, 4)} | ({} if share else {"problem": "the brain mask is empty."})


def _same_as(table: pd.DataFrame) -> pd.Series:
    """The patient and session of the first scan of the same bytes, blank for those that are the first."""
    names = table.patient + ("/" + table.session).where(table.session != "", "")
    first = table.assign(name=names).drop_duplicates("sha256").set_index("sha256").name
    again = table.duplicated("sha256") & (table.sha256 != UNKNOWN)
    return table.sha256.map(first).where(again, "")


def tables(table: pd.DataFrame) -> dict[str, list[list[str]]]:
    """What was found, as tables with a header, by title."""
    grids = table[table["shape"] != UNKNOWN].groupby(["stored_axes", "shape", "spacing_mm"]).size()
    grids = grids.sort_values(ascending=False, kind="stable")
    unusable, same = table[table.problem != UNKNOWN], table[table.same_as != ""]
    return {
        "scans": [
            ["found", "usable", "patients", "repeated", "repeated across patients"],
            [len(table), len(table) - len(unusable), table.patient.nunique(), len(same), len(repeated(table))],
        ],
        "grids": [
            ["scans", "stored axes", "voxels", "voxel size, mm"],
            *([count, axes or "none", shape, spacing] for (axes, shape, spacing), count in grids.items()),
        ],
        "unusable": [["patient", "session", "reason"], *unusable[["patient", "session", "problem"]].values.tolist()],
        "repeated": [["patient", "session", "same as"], *same[["patient", "session", "same_as"]].values.tolist()],
    }

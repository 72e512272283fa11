"""A look through a data root before anything is cut: what every scan is, which cannot be used, which are the same."""

import joblib
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data import brain
from symnorm_jax.data.finding import find_scans
from symnorm_jax.data.parallel import in_parallel
from symnorm_jax.data.volumes import Scan
from symnorm_jax.errors import ScanError
from symnorm_jax.geometry import voxel_sizes
from symnorm_jax.progress import progress

COLUMNS = "patient session person source stored_axes shape spacing_mm geometry brain brain_share lesion_ml"
COLUMNS += " sha256 same_as flag problem"


def check(config: ConfigDict) -> pd.DataFrame:
    """Look through the scans of the `data` section `config`: a row of COLUMNS each, blank where nothing is known.

    `stored_axes` is the orientation, blank for pictures; `shape` and `spacing_mm` are RAS+; `brain_share`, of the
    voxels, is blank where a brain would have to be extracted. `same_as` names the first scan made of the same bytes,
    `problem` why a scan cannot be used. A worker process holds one scan in memory. Raises ConfigError for an unknown
    choice, ScanError where nothing is found.
    """
    brain.check_choice(config.brain, config.extractor)
    work = [joblib.delayed(_row)(scan, config.brain) for scan in find_scans(config)]
    rows = list(progress(in_parallel(work, config.workers), "checking", len(work)))
    table = pd.DataFrame([dict.fromkeys(COLUMNS.split(), "") | row for row in rows])
    names = table.patient + ("/" + table.session).where(table.session != "", "")
    again = table.duplicated("sha256") & (table.sha256 != "")
    return table.assign(same_as=names.groupby(table.sha256).transform("first").where(again, ""))


def repeated(table: pd.DataFrame) -> pd.DataFrame:
    """Choose the scans that are, byte for byte, the first of another patient."""
    return table[(table.sha256 != "") & (table.patient != table.groupby("sha256").patient.transform("first"))]


def _row(scan: Scan, kind: str) -> dict:
    person = ("healthy" if scan.healthy else "abnormal") if scan.labelled else "unlabelled"
    row = {"patient": scan.patient, "session": scan.session, "source": scan.location, "person": person}
    try:
        row["sha256"] = scan.sha256()
        row["stored_axes"] = scan.stored_axes() or ""
        volume = scan.load()
        row["shape"], sizes = " x ".join(map(str, volume.voxels.shape)), voxel_sizes(volume.affine)
        row["geometry"], row["flag"] = volume.geometry, "; ".join(volume.notes)
        row["spacing_mm"] = " x ".join(f"{size:.2f}" for size in sizes)
        if not np.isfinite(volume.voxels).all():  # a source that reads no NIfTI may let them through
            raise ScanError("some voxels are NaN or infinite; all must be finite.")
        if volume.lesion is not None:
            row["lesion_ml"] = round(float(volume.lesion.sum() * sizes.prod() / 1000), 2)
        row["brain"] = brain.choose(volume, kind)
        if row["brain"] != "extract":
            share = float(brain.brain_mask(volume, row["brain"]).mean())
            row["brain_share"] = round(share, 4)
            row["problem"] = "" if share else "the brain mask is empty."
    except (ScanError, OSError) as error:
        row["problem"] = str(error)
    return row


def tables(table: pd.DataFrame) -> list[tuple[str, list[str], list[list]]]:
    """Tell what was found, as the caption, header and rows of tables."""
    grids = table[table["shape"] != ""].groupby(["stored_axes", "shape", "spacing_mm"]).size()
    grids = grids.sort_values(ascending=False, kind="stable").items()
    unusable, same = table[table.problem != ""], table[table.same_as != ""]
    scans = [len(table), len(table) - len(unusable), table.patient.nunique(), len(same), len(repeated(table))]
    shown = [[count, axes or "none", shape, spacing] for (axes, shape, spacing), count in grids]
    return [
        ("scans", ["found", "usable", "patients", "repeated", "repeated across patients"], [scans]),
        ("grids", ["scans", "stored axes", "voxels", "voxel size, mm"], shown),
        ("unusable", ["patient", "session", "reason"], unusable[["patient", "session", "problem"]].values.tolist()),
        ("repeated", ["patient", "session", "same as"], same[["patient", "session", "same_as"]].values.tolist()),
    ]

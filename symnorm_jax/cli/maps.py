"""Carry the difference maps of a run back to the space of each of its scans, as NIfTI files to lay over them."""

from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data import manifest
from symnorm_jax.data.check import stored_axes_of
from symnorm_jax.data.prepare import find_scans
from symnorm_jax.data.volumes import Scan
from symnorm_jax.errors import RunError
from symnorm_jax.files import load_arrays, write_text
from symnorm_jax.progress import progress
from symnorm_jax.rundir import read_config
from symnorm_jax.scoring import native

SPLITS = ("test", manifest.UNLABELLED)


def carry(workdir: Path, output: Path, patients: list[str] | None) -> int:
    """Write the maps of a run and `maps.csv`, and return how many maps there are.

    Raises RunError for a run without maps, for one of `patients` without a map, and for a scan that has gone.
    """
    config = read_config(workdir).data
    files = [path for split in SPLITS if (path := workdir / "embeddings" / f"{split}.npz").exists()]
    if not files:
        raise RunError(f"{workdir}: there are no embeddings of the test split; see the run through first.")
    if output.exists() and not output.is_dir():
        raise RunError(f"--output={output}: is a file; a folder is needed.")
    arrays = [load_arrays(path, "index", "map") for path in files]
    for path, found in zip(files, arrays, strict=True):
        if "map" not in found:
            raise RunError(f"{path}: holds no difference map; a system that makes one is needed.")
    together = {name: np.concatenate([found[name] for found in arrays]) for name in ("index", "map")}
    rows = manifest.read_manifest(workdir / "manifest.csv")
    rows = rows[rows.index.isin(together["index"])]
    scans = _wanted(config, rows, patients)
    written = native.write_maps(scans, rows, together, Path(config.store), output, stored_axes_of)
    count = len(list(progress(written, "carrying back", len(scans))))
    names = native.file_names(rows)
    there = names[[(output / name).exists() for name in names]]  # also of an earlier call
    write_text(output / "maps.csv", there.rename("file").reset_index().to_csv(index=False))
    return count


def _wanted(config: ConfigDict, rows: pd.DataFrame, patients: list[str] | None) -> list[Scan]:
    unknown = sorted(set(patients or ()) - set(rows.patient))
    if unknown:
        raise RunError(f"--patients={unknown[0]!r}: no map of that patient; {rows.patient.nunique()} others have one.")
    visits = set(zip(rows.patient, rows.session, strict=True))
    chosen = {visit for visit in visits if not patients or visit[0] in patients}
    scans = [scan for scan in find_scans(config) if (scan.patient, scan.session) in chosen]
    lost = chosen - {(scan.patient, scan.session) for scan in scans}
    if lost:
        raise RunError(f"data.root={config.root}: the scan {'/'.join(min(lost))} of the run is no longer there.")
    return scans

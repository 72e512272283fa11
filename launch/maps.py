"""Carry the difference maps of a run back to the space of each scan, as NIfTI files to lay over it.

python launch/maps.py --run=runs/demo --output=maps
python launch/maps.py --run=runs/demo --output=maps --patients=phantom-p0003,phantom-h0007

Writes `<patient>[_<session>]_map.nii.gz` for the test split and for scans that nobody has labelled, on the voxels of
the scan and in the order in which it is stored. `maps.csv` tells which file is whose. Values are those of the maps in
the report; they are 0 where no slice was kept.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from absl import app, flags
from ml_collections import ConfigDict

from symnorm_jax.data import manifest
from symnorm_jax.data.prepare import find_scans
from symnorm_jax.data.volumes import Scan
from symnorm_jax.errors import RunError, reported
from symnorm_jax.files import load_arrays, write_text
from symnorm_jax.progress import progress
from symnorm_jax.rundir import read_config
from symnorm_jax.scoring import native
from symnorm_jax.scoring.embed import Arrays

_RUN = flags.DEFINE_string("run", None, "The run directory.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The folder for the maps.", required=True)
_PATIENTS = flags.DEFINE_list("patients", None, "Only these; everybody unless given.")
SPLITS = ("test", manifest.UNLABELLED)


def read_maps(workdir: Path, split: str) -> Arrays:
    """`index` `[N]` and `map` `[N, X, Y]` of a split, empty where it was not embedded. RunError where it has no map."""
    path = workdir / "embeddings" / f"{split}.npz"
    if not path.exists():
        return {}
    arrays = load_arrays(path, "index", "map")
    if "map" not in arrays:
        raise RunError(f"{path}: holds no difference map; a system that makes one is needed.")
    return arrays


def wanted(config: ConfigDict, rows: pd.DataFrame, patients: list[str] | None) -> list[Scan]:
    """The scans of the table `rows`, of `patients` if given. Raises RunError for one that is not there."""
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


def carry(workdir: Path, output: Path, patients: list[str] | None) -> int:
    """Write the maps of a run and `maps.csv`; how many there are."""
    config = read_config(workdir).data
    arrays = [found for split in SPLITS if (found := read_maps(workdir, split))]
    if not arrays:
        raise RunError(f"{workdir}: there are no embeddings of the test split; see the run through first.")
    if output.exists() and not output.is_dir():
        raise RunError(f"--output={output}: is a file; a folder is needed.")
    together = {name: np.concatenate([found[name] for found in arrays]) for name in ("index", "map")}
    rows = manifest.read_manifest(workdir / "manifest.csv")
    rows = rows[rows.index.isin(together["index"])]
    scans = wanted(config, rows, patients)
    files = native.write_maps(scans, rows, together, Path(config.store), output, Scan.stored_axes)
    count = len(list(progress(files, "carrying back", len(scans))))
    names = native.file_names(rows)
    there = names[[(output / name).exists() for name in names]]  # also of an earlier call
    write_text(output / "maps.csv", there.rename("file").reset_index().to_csv(index=False))
    return count


def main(_) -> None:
    workdir, output = Path(_RUN.value), Path(_OUTPUT.value)
    with reported():
        count = carry(workdir, output, _PATIENTS.value)
    print(f"{output}: {count} maps")


if __name__ == "__main__":
    app.run(main)

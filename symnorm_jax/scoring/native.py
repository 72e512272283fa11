"""Difference maps carried back from the grid of slices to the voxels of the scan, one NIfTI file a scan."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from symnorm_jax.data.frame import Frame, carry_back
from symnorm_jax.data.store import read_about
from symnorm_jax.data.volumes import Scan, write_nifti
from symnorm_jax.errors import RunError
from symnorm_jax.scoring.embed import Arrays

LONGEST = 100  # letters of a file name without its ending; file systems allow about 255 bytes
ENDING = "_map.nii.gz"


def volume(values: np.ndarray, rows: pd.DataFrame, about: dict, shape: tuple[int, ...], order: int = 1) -> np.ndarray:
    """Carry `[N, X, Y]` of one scan's `rows` to its RAS+ voxels, 0 where no slice was kept; `about` is of the store."""
    count = len(about["rows"]) + about["left_out"]
    grid = np.zeros((*values.shape[1:], count), np.float32)
    grid[..., rows.slice.to_numpy(int)] = np.moveaxis(values, 0, -1)
    return carry_back(grid, Frame(np.array(about["to_voxel"]), grid.shape), shape, order)


def file_names(rows: pd.DataFrame) -> pd.Series:
    """Name a file for each patient and session: no two alike in any case, none a path, for tables name patients."""
    visits = rows.drop_duplicates(["patient", "session"])[["patient", "session"]]
    names, taken = [], set()
    for visit in visits.itertuples(index=False):
        name = re.sub(r"[^A-Za-z0-9._-]", "_", "_".join(filter(None, visit)))[:LONGEST]
        name = start = re.sub(r"^\.+", "_", name) or "_"
        number = 2
        while name.lower() in taken:
            name, number = f"{start}-{number}", number + 1
        taken.add(name.lower())
        names.append(name + ENDING)
    return pd.Series(names, pd.MultiIndex.from_frame(visits), dtype=str)


def write_maps(scans: list[Scan], rows: pd.DataFrame, arrays: Arrays, store: Path, output: Path) -> Iterator[Path]:
    """Write the map `[N, X, Y]` in `arrays` of each of `scans`; `rows` is the manifest of slices in `store`.

    Raises RunError where a scan is no longer the one that was prepared.
    """
    names = file_names(rows)
    place = pd.Series(np.arange(len(arrays["index"])), arrays["index"])
    for scan in scans:
        own = rows[(rows.patient == scan.patient) & (rows.session == scan.session) & rows.index.isin(place.index)]
        about = read_about(store, own.store.iloc[0])
        if about is None or scan.sha256() != own.sha256.iloc[0]:
            raise RunError(f"{scan.name}: the scan, or what {store} holds of it, is not the one that was prepared.")
        native, path = scan.load(), output / names[scan.patient, scan.session]
        carried = volume(arrays["map"][place[own.index].to_numpy()], own, about, native.voxels.shape)
        write_nifti(path, carried, native.affine, scan.stored_axes() or "RAS")
        yield path

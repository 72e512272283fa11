"""From the grid of slices back to the voxels of a scan, and names of files that no name of a person leads astray."""

import re

import numpy as np
import pandas as pd

from symnorm_jax.data.frame import Frame, carry_back

LONGEST = 100  # letters of a file name without its ending; file systems allow about 255 bytes


def volume(values, rows: pd.DataFrame, about: dict, shape: tuple[int, ...], order: int = 1, corner=(0, 0, 0)):
    """Carry `[N, X, Y]` of one scan's `rows` to its RAS+ voxels, 0 where no slice was kept; `about` is of the store.

    A volume is `[1, X, Y, Z]`, with 0 beyond its grid. The voxels are those of a box of this `shape`, whose first voxel
    is `corner`, by default the whole scan.
    """
    if values.ndim == 4:
        [grid] = values
    else:
        grid = np.zeros((*values.shape[1:], len(about["rows"]) + about["left_out"]), np.float32)
        grid[..., rows.slice.to_numpy(int)] = np.moveaxis(values, 0, -1)
    to_voxel = np.array(about["to_voxel"])
    to_voxel[:3, 3] -= corner
    return carry_back(grid, Frame(to_voxel, grid.shape), shape, order)


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
        names.append(name)
    return pd.Series(names, pd.MultiIndex.from_frame(visits), dtype=str)

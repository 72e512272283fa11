"""New scans: what there is at a path, and each of them cut as the model's training scans were."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict
from scipy import ndimage

from symnorm_jax.data import brain, manifest, samples
from symnorm_jax.data.finding import as_configured
from symnorm_jax.data.sources import bids, dicom, dicom_slices, folder, picture_series, table
from symnorm_jax.data.sources.pictures import Spacing
from symnorm_jax.data.volumes import Scan, Volume
from symnorm_jax.errors import InputError, ScanError, one_line
from symnorm_jax.settings import contrasts, contrasts_of

SUFFIXES = {"t1": "T1w", "t1 after contrast": "T1w", "t2": "T2w", "flair": "FLAIR", "pd": "PDw"}  # of BIDS


class Prepared(NamedTuple):
    """A scan that has been cut, what came of it, and the grid that it came from; N samples."""

    scan: Scan
    rows: pd.DataFrame  # N, as of a manifest
    arrays: np.ndarray  # [N, *S, C + 2] float16: image, brain, nothing
    about: dict  # of the cut, as in the store
    affine: np.ndarray  # [4, 4] of the RAS+ volume
    shape: tuple[int, int, int]
    box: tuple[slice, slice, slice]  # of the brain in it
    brain: np.ndarray  # bool, in the box
    voxels: np.ndarray  # float32, of the leading contrast, in the box, 0 outside the brain
    brain_from: str  # where its mask came from


def columns_of(config: ConfigDict, suffix: str | None = None) -> str:
    """Name the columns of a manifest that hold the contrasts of a run's config; with a `suffix` those of BIDS images.

    The suffix is for a model of one contrast whose own scans were no BIDS tree.
    """
    names = contrasts_of(config)
    own = len(names) > 1 or config.data.source == ("bids" if suffix else "table")
    return ",".join(names) if own else suffix or "path"


def scans_of(source: Path, mask: str | None = None, columns: str = "path", tree: bool = False) -> list[Scan]:
    """List the scans of a folder, a DICOM series, a manifest or a file; or of a BIDS `tree`.

    Of a manifest the images stand in `columns`, as in `data.options.channel`, which of a tree names suffixes. Several
    contrasts need one of the two. `mask` is a brain mask file of the only scan. Raises ScanError where there are none.
    """
    ending = source.name.lower()
    if not source.exists():
        raise ScanError(f"--input={source}: there is no such file or folder.")
    if tree:
        scans = bids.records(str(source), channel=columns, group_column="")
    elif source.is_file() and ending.endswith(".csv"):
        scans = table.records(str(source), channel=columns, labels=False)
    elif source.is_dir() or ending.endswith(folder.ENDINGS):
        _refuse_several(source, columns)
        scans = folder.records(source, mask)
        if not scans and any(map(dicom_slices.is_dicom, source.iterdir())):
            scans = [dicom.series(source, mask)]
        elif not scans and picture_series.holds(source):
            how = "`symnorm score --spacing=X,Y,Z` takes them"
            raise ScanError(f"--input={source}: pictures tell no voxel sizes; {how}.")
    else:
        raise ScanError(f"--input={source}: a folder, a .csv manifest, or a scan, {folder.ENDINGS}, is needed.")
    if not scans:
        raise ScanError(f"--input={source}: holds no scan; files that end in one of {folder.ENDINGS} are looked for.")
    if mask and len(scans) > 1:
        raise ScanError(f"--input={source}: holds {len(scans)} scans; a mask can be given for one alone.")
    return scans


def pictures_of(source: Path, spacing: Spacing, colour: str | None, mask: str | None, columns: str) -> list[Scan]:
    """List the one scan of a folder of pictures, see `picture_series.series`, for a model of one contrast."""
    _refuse_several(source, columns)
    return [picture_series.series(source, spacing, colour, mask)]


def _refuse_several(source: Path, columns: str) -> None:
    if len(contrasts(columns)) > 1:
        raise ScanError(f"--input={source}: the model has several contrasts; a .csv with columns {columns} is needed.")


def only(scans: list[Scan], labels: list[str]) -> list[Scan]:
    """Keep the scans of people with BIDS `labels`, of all where there are none. Raises ScanError for an unknown one."""
    wanted = {label if label.startswith("sub-") else f"sub-{label}" for label in labels}
    if lost := sorted(wanted - {scan.patient for scan in scans}):
        raise ScanError(f"--participant-label: there is no scan of {lost[0]}.")
    return [scan for scan in scans if not wanted or scan.patient in wanted]


def prepared(scan: Scan, config: ConfigDict, kind: str) -> Prepared | str:
    """Read and cut one scan by the `data` section `config`, with brain masks of a `kind`; say why it cannot be used.

    `auto` takes the mask that is given, else what is not 0 in a scan that is skull-stripped, else an extractor's; a
    model of heads without brain masks takes the head.
    """
    try:
        [read] = as_configured([scan], config)
        volume = read.load()._replace(lesion=None)
        mask, found = brain_of(volume, config, kind)
        made = samples.cut(volume, mask, False, config)
    except (InputError, OSError) as error:
        return one_line(error)
    known = {"patient": scan.patient, "session": scan.session, "healthy_person": False, "store": "", "lesion_mm2": 0.0}
    known |= {"label": manifest.UNLABELLED, "split": manifest.UNLABELLED}
    rows = pd.DataFrame([row | known for row in made.rows]).rename_axis("index")
    [box] = ndimage.find_objects(mask.view(np.int8))
    inside = mask[box], volume.voxels[box] * mask[box]
    about = {"rows": made.rows, "left_out": made.left_out, "to_voxel": made.frame.to_voxel.tolist()}
    return Prepared(scan, rows, made.arrays, about, volume.affine, mask.shape, box, *inside, found)


def brain_of(volume: Volume, config: ConfigDict, kind: str) -> tuple[np.ndarray, str]:
    """Find the brain `[X, Y, Z]` bool, and say of what `kind` the mask is. Raises ScanError where none can be had."""
    kind = "head" if (kind, config.brain) == ("auto", "head") else brain.choose(volume, kind)
    return brain.brain_mask(volume, kind, config.extractor), kind


def grid_mm(rows: pd.DataFrame, to_voxel: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Measure the steps of the grid of samples, and the voxels of the volume it lies in, `[3]` mm each."""
    steps = np.diff(rows.height_mm.to_numpy(float)) / np.maximum(np.diff(rows.slice.to_numpy(int)), 1)
    step = np.array([spacing, spacing, np.median(steps) if len(steps) else spacing])
    return step, 1 / np.linalg.norm(np.asarray(to_voxel)[:3, :3] / step, axis=1)

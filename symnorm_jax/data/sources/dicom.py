"""DICOM series, one folder each, listed in a CSV file: `root` is that file, or a folder with `scans.csv` in it.

Columns are as in `table.py`, with `folder` in place of `path`; masks are NIfTI files on the grid of the series. Who
is who stands in that file alone: nothing that identifies a patient leaves a DICOM header. A folder holds the files of
one series, one slice each, named anyhow, in the order of their positions along the normal. Gaps, slices that come twice
or differ in size or direction, colours and multi-frame files are refused. Needs pydicom (symnorm_jax[dicom]).
"""

import importlib.util
from functools import partial
from pathlib import Path

import numpy as np

from symnorm_jax.data.headers import MAX_EXTENT_MM, MAX_VOXELS, SIZES_MM
from symnorm_jax.data.masks import STRICT, Reading
from symnorm_jax.data.sources.dicom_slices import Slice, decode, is_dicom, read_header
from symnorm_jax.data.sources.lines import Line, read_lines
from symnorm_jax.data.sources.listing import left_out, numeric, refuse, scan_of
from symnorm_jax.data.volumes import Scan, Volume, to_ras, with_masks
from symnorm_jax.errors import ConfigError
from symnorm_jax.geometry import voxel_sizes

FORMAT = "dicom format 1"  # raise it when the same files would give other voxels
MAX_FILES = 2048
TOLERANCE = 0.1  # of the slice distance, by which distances may differ; a missing slice is off by 1
SHEAR_MM = 0.1  # by which a slice may lie off the normal through the first


def records(root: str, *, table: str = "scans.csv") -> list[Scan]:
    """List one Scan a line of `root`, or of its `table`. Raises ConfigError without pydicom, ScanError with a line."""
    _check_installed()
    path = Path(root)
    return [_scan(line) for line in read_lines(path / table if path.is_dir() else path, "folder")]


def series(folder: Path, brain: str | None = None) -> Scan:
    """List the one series of a folder, of somebody of whom nothing is known but the folder's name; `brain` is a mask.

    Raises ConfigError without pydicom.
    """
    _check_installed()
    files, name = _slices(str(folder), folder), folder.absolute().name
    read = partial(load, str(folder), files, None, brain)
    return scan_of(read, files, filter(None, [brain]), patient=name, standing="unlabelled", recipe=FORMAT)


def _check_installed() -> None:
    if importlib.util.find_spec("pydicom") is None:
        raise ConfigError("DICOM needs pydicom, which is missing; pip install 'symnorm_jax[dicom]' gets it.")


def load(folder: str, files: tuple[str, ...], lesion, brain, reading: Reading = STRICT) -> Volume:
    """Read the series as a volume, and its masks. Raises ScanError with the folder or file and what was allowed."""
    slices, affine = placed(folder, files)
    voxels = np.empty((slices[0].columns, slices[0].rows, len(slices)), np.float32)
    for k, one in enumerate(slices):
        voxels[:, :, k] = decode(one).T
    padding = np.isnan(voxels)
    refuse(folder, padding.all(), "every pixel is padding by its header; an image is needed")
    voxels[padding] = voxels[~padding].min()  # as dark as it gets
    flat = voxels.min() == voxels.max()
    refuse(folder, flat, f"every voxel has the value {voxels.flat[0]:g}; an image must have contrast")
    voxels, affine = to_ras(voxels, affine)
    volume = Volume(voxels, affine, geometry="dicom", notes=_missing(slices))
    return with_masks(volume, folder, lesion, brain, reading)


def placed(folder: str, files: tuple[str, ...]) -> tuple[list[Slice], np.ndarray]:
    """Read the headers of a series in the order of its slices; with the affine `[4, 4]` of (column, row, slice), RAS+.

    Raises ScanError, see `load`.
    """
    count = len(files)
    refuse(folder, not 2 <= count <= MAX_FILES, f"{count} DICOM files; 2 to {MAX_FILES}, one a slice, are allowed")
    slices = [read_header(path) for path in files]
    _check_alike(folder, slices)
    return _in_order(folder, slices)


def _missing(slices: list[Slice]) -> tuple[str, ...]:
    """Note that images are numbered beyond how many there are: of two echoes in one series, or without their rest."""
    last = max(one.number for one in slices)
    return (f"images are numbered up to {last}, {len(slices)} are here",) if last > len(slices) else ()


def _scan(line: Line) -> Scan:
    fault = f"folder={line.cells['folder']!r} is a file; the folder of one series is needed"
    refuse(line.where, not line.image.is_dir(), fault)
    refuse(line.where, line.tissue, f"tissue_path={line.tissue}; of DICOM none is read")
    files, masks = _slices(line.where, line.image), line.masks
    recipe = "{}, lesion {}, brain {}".format(FORMAT, *map(bool, masks))
    read = partial(load, str(line.image), files, *masks)
    return scan_of(read, files, filter(None, masks), recipe=recipe, drawn=bool(masks[0]), **line.person)


def _slices(where: str, folder: Path) -> tuple[str, ...]:
    """List the files of a series. Raises ScanError for one that is a slice by its name and none by its first bytes."""
    paths = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda path: numeric(path))
    files = [path for path in paths if is_dicom(path)]
    others = [path for path in paths if path not in files and path.name.upper() != "DICOMDIR"]
    endings = {path.suffix.lower() for path in files} | {".dcm", ".ima"}
    lost = [path.name for path in others if path.is_file() and path.suffix.lower() in endings]
    told = f"{len(lost)} files, as {lost[0]}, are no DICOM files by their first 132 bytes" if lost else ""
    refuse(where, lost, f"{told}, so slices would be missing; DICOM files alone are allowed")
    left_out(folder, len(others), f"files and folders that are no DICOM files, as {others[0].name}" if others else "")
    return tuple(map(str, files))


def _check_alike(folder: str, slices: list[Slice]) -> None:
    first, series = slices[0], len({one.series for one in slices})
    sizes = len({(one.rows, one.columns) for one in slices})
    spaced = all(np.allclose(one.spacing, first.spacing, rtol=1e-3) for one in slices)
    aligned = all(np.allclose(one.along, first.along, atol=1e-3) for one in slices)
    scaled = sum(one.scaled for one in slices)
    claimed = first.rows * first.columns * len(slices)
    refuse(folder, series > 1, f"{series} series in one folder; 1 is allowed")
    refuse(folder, sizes > 1, f"slices of {sizes} sizes; all must have the same")
    refuse(folder, not spaced, f"the pixel spacing differs between slices; all must have {first.spacing} mm")
    partly = 0 < scaled < len(slices)
    refuse(folder, partly, f"{scaled} of {len(slices)} slices have a slope and an intercept; all or none must")
    refuse(folder, not aligned, "the slices lie in different directions, as those of a localizer do; one is allowed")
    refuse(folder, claimed > MAX_VOXELS, f"the headers claim {claimed} voxels; at most {MAX_VOXELS} are allowed")


def _in_order(folder: str, slices: list[Slice]) -> tuple[list[Slice], np.ndarray]:
    """Sort the slices along their normal; with the affine `[4, 4]` from (column, row, slice) to mm in RAS+."""
    (across, down), (between_rows, between_columns) = slices[0].along, slices[0].spacing
    normal = np.cross(across, down)
    slices = sorted(slices, key=lambda one: one.position @ normal)
    places = np.array([one.position @ normal for one in slices])
    _check_places(folder, places)
    offsets = np.array([one.position - slices[0].position for one in slices])
    off = np.linalg.norm(offsets - np.outer(offsets @ normal, normal), axis=1).max()
    step = (places[-1] - places[0]) / (len(places) - 1)
    affine = np.eye(4)
    affine[:3] = np.stack([across * between_columns, down * between_rows, normal * step, slices[0].position], axis=1)
    sizes, (low, high) = voxel_sizes(affine), SIZES_MM
    extents = sizes * (slices[0].columns, slices[0].rows, len(slices))
    fits, edges = ((sizes > low) & (sizes < high)).all(), f"the edges are {extents.round().tolist()} mm long"
    refuse(folder, off > SHEAR_MM, f"slices lie up to {off:.2f} mm off one normal; at most {SHEAR_MM} mm is allowed")
    refuse(folder, not fits, f"voxel sizes {sizes.round(3).tolist()} mm; {low:g} to {high:g} mm are allowed")
    refuse(folder, max(extents) > MAX_EXTENT_MM, f"{edges}; at most {MAX_EXTENT_MM:g} mm are allowed")
    return slices, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # LPS to RAS


def _check_places(folder: str, places: np.ndarray) -> None:
    """Raise ScanError unless the sorted `places` `[N]`, in mm along the normal, are evenly spaced."""
    steps = np.diff(places)
    usual, where = np.percentile(steps, 50, method="lower"), places[steps.argmin()]
    twice, odd = steps.min() < TOLERANCE * usual or usual <= 0, np.abs(steps - usual).argmax()
    gap = f"{steps[odd]:.2f} mm lie between the slices at {places[odd]:.2f} and {places[odd + 1]:.2f} mm"
    uneven = abs(steps[odd] - usual) > TOLERANCE * usual
    refuse(folder, twice, f"two slices lie at {where:.2f} mm along their normal; each place may come once")
    refuse(folder, uneven, f"{gap}, {usual:.2f} mm between most; all distances must be the same")

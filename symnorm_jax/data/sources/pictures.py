"""Slices kept as pictures: a stack of PNG, JPEG or TIFF files, one slice each, to an RAS+ array.

Size and mode are checked against a picture's header before Pillow decodes anything. Pictures store no geometry:
anterior is taken to be at the top, and the picture's left for the person's left.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from symnorm_jax.data.volumes import MAX_VOXELS
from symnorm_jax.errors import ScanError
from symnorm_jax.geometry import from_picture

MAX_SIDE = 2048
MAX_SLICES = 512
FORMATS = ("JPEG", "PNG", "TIFF")  # whatever the name says: Pillow would start other programs for some of the others
GREY_MODES = ("L", "RGB")  # grey pictures are at times stored as RGB with three equal channels


def check_count(folder: str | Path, what: str, count: int) -> None:
    """Raise ScanError unless `folder` has 1 to MAX_SLICES slices, named like `what`."""
    if not 1 <= count <= MAX_SLICES:
        raise ScanError(f"{folder}: {count} slices {what}; 1 to {MAX_SLICES} are allowed.")


def read_stack(paths: Sequence[str | Path], modes: tuple[str, ...] = GREY_MODES, channel: int = 0) -> np.ndarray:
    """Pictures of one size, lowest first, as `[X, Y, Z]` uint8; of RGB pictures, one `channel`.

    Raises ScanError that names the picture for one that is absent, damaged, too large, or of another mode or size.
    """
    shape = _read(paths[0], modes).shape[:2]
    if shape[0] * shape[1] * len(paths) > MAX_VOXELS:
        raise ScanError(
            f"{Path(paths[0]).parent}: {len(paths)} slices of {shape} pixels; {MAX_VOXELS} in all are allowed."
        )
    return stack([_one_channel(_read(path, modes, shape), channel) for path in paths])


def stack(pictures: list[np.ndarray]) -> np.ndarray:
    """Image rows of slices, lowest first, as `[X, Y, Z]`."""
    return np.ascontiguousarray(np.stack([from_picture(rows) for rows in pictures], axis=-1))


def read_picture(path: str | Path, modes: tuple[str, ...] = GREY_MODES) -> np.ndarray:
    """The rows of one picture, `[H, W]` or `[H, W, 3]` uint8. Raises ScanError, see `read_stack`."""
    return _read(path, modes)


def _one_channel(rows: np.ndarray, channel: int) -> np.ndarray:
    return rows if rows.ndim == 2 else rows[..., channel]


def _read(path, modes, shape: tuple[int, int] | None = None) -> np.ndarray:
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            _check_header(path, image, modes, shape)
            return np.asarray(image)
    except ScanError:
        raise
    except FileNotFoundError:
        raise ScanError(f"{path}: no such file; every slice and its mask must be there.") from None
    except Exception as error:  # Pillow raises a dozen types for damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ScanError(f"{path}: cannot be read as a picture ({reason}).") from None


def _check_header(path, image, modes, shape) -> None:
    columns, rows = image.size
    if max(image.size) > MAX_SIDE:
        raise ScanError(f"{path}: {columns} x {rows} pixels; at most {MAX_SIDE} x {MAX_SIDE} are allowed.")
    if image.mode not in modes:
        raise ScanError(f"{path}: the picture's mode is {image.mode}; {' or '.join(modes)} is allowed.")
    if shape and (rows, columns) != shape:
        allowed = f"{shape[1]} x {shape[0]}, as in the first slice"
        raise ScanError(f"{path}: {columns} x {rows} pixels; all slices and masks must have {allowed}.")

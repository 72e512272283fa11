"""Read slices kept as pictures: PNG, JPEG or TIFF files, one slice each, as one RAS+ array.

Size and mode are checked against a picture's header before Pillow decodes anything. Pictures store no geometry:
anterior is taken to be at the top, and the picture's left for the person's left.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from symnorm_jax.data.headers import MAX_VOXELS, SIZES_MM
from symnorm_jax.data.masks import SOFT, Reading, marked
from symnorm_jax.data.sources.listing import refuse, refuse_gaps
from symnorm_jax.data.volumes import Volume
from symnorm_jax.errors import ScanError, one_line
from symnorm_jax.geometry import centred_affine, from_picture

MAX_SIDE = 2048
MAX_SLICES = 512
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
LOSSLESS = (".png", ".tif", ".tiff")  # JPEG leaves values just above 0 around a mask
FORMATS = ("JPEG", "PNG", "TIFF")  # whatever the name says: Pillow would start other programs for some of the others
ORIENTATION = 0x0112  # the tag of TIFF and of EXIF
GREY_MODES = ("L", "RGB")  # grey pictures are at times stored as RGB with three equal channels
Spacing = tuple[float, float, float]  # mm of pixels left to right, of pixels back to front, of slices


def spacing_of(text: str, where: str) -> Spacing:
    """Read `0.94,0.94,5`. Raises ScanError, that begins with `where`, for anything but three lengths in range."""
    low, high = SIZES_MM
    try:
        spacing = tuple(float(number) for number in text.split(","))
    except ValueError:
        spacing = ()
    if len(spacing) != 3 or not all(low <= length <= high for length in spacing):
        lengths = f"three lengths from {low:g} to {high:g} mm"
        raise ScanError(f"{where}={text!r}; a folder of pictures needs {lengths}.")
    return spacing


def read_slices(folder, names: str, paths: Sequence[str], spacing: Spacing, modes=GREY_MODES, channel=None) -> Volume:
    """Read the slices of `folder`, lowest first, as voxels `[X, Y, Z]` float32 of 0 to 255 and `spacing` mm.

    Raises ScanError, see `read_stack`; for too few or too many slices, named like `names`, or a gap between them; and
    without contrast.
    """
    count = len(paths)
    refuse_gaps(folder, [Path(path).name for path in paths])
    refuse(folder, not 1 <= count <= MAX_SLICES, f"{count} slices {names}; 1 to {MAX_SLICES} are allowed")
    voxels = read_stack(paths, modes, channel).astype(np.float32)
    flat = voxels.min() == voxels.max()
    refuse(folder, flat, f"every pixel has the value {voxels.flat[0]:g}; an image must have contrast")
    return Volume(voxels, centred_affine(voxels.shape, spacing))


def read_masks(paths: Sequence[str], volume: Volume, kind: str, reading: Reading, modes=GREY_MODES) -> np.ndarray:
    """Read the masks of a volume's slices, bool, of the `kind` lesion or brain. Raises ScanError, see `marked`."""
    values, folder = read_stack(paths, modes), Path(paths[0]).parent
    shape = volume.voxels.shape
    refuse(folder, values.shape != shape, f"the masks have shape {values.shape}, their slices {shape}")
    between = ((values > 0) & (values < values.max())).any((0, 1))  # the first such picture is the one to name
    values = values / np.float32(255) if getattr(reading, kind) == SOFT else values
    return marked(values, getattr(reading, kind), kind, paths[between.argmax()] if between.any() else str(folder))


def read_stack(paths: Sequence[str], modes: tuple[str, ...] = GREY_MODES, channel: int | None = None) -> np.ndarray:
    """Read pictures of one size, lowest first, as `[X, Y, Z]` uint8; of RGB pictures one `channel`, or the grey.

    Raises ScanError that names the picture for one that is absent, damaged, too large, of several pages, of another
    mode or size, or coloured where no channel is asked for.
    """
    shape = read_picture(paths[0], modes).shape[:2]
    many = f"{len(paths)} slices of {shape} pixels; {MAX_VOXELS} in all are allowed"
    refuse(Path(paths[0]).parent, shape[0] * shape[1] * len(paths) > MAX_VOXELS, many)
    rows = (read_picture(path, modes, shape) for path in paths)
    slices = [from_picture(_one_channel(path, one, channel)) for path, one in zip(paths, rows, strict=True)]
    return np.ascontiguousarray(np.stack(slices, axis=-1))


def read_picture(path: str, modes: tuple[str, ...] = GREY_MODES, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read the rows of one picture, `[H, W]` or `[H, W, 3]` uint8. Raises ScanError, see `read_stack`."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            _check_header(path, image, modes, shape)
            return np.asarray(image)
    except ScanError:
        raise
    except FileNotFoundError:
        raise ScanError(f"{path}: no such file; every slice and its mask must be there.") from None
    except Exception as error:  # Pillow raises a dozen types for damaged files
        raise ScanError(f"{path}: cannot be read as a picture ({one_line(error)}).") from None


def _one_channel(path: str, rows: np.ndarray, channel: int | None) -> np.ndarray:
    if rows.ndim == 2:
        return rows
    coloured = channel is None and (rows != rows[..., :1]).any()
    refuse(path, coloured, "red, green and blue differ; a grey picture is needed")
    return rows[..., channel or 0]


def _check_header(path, image, modes, shape) -> None:
    columns, rows = image.size
    size, pages = f"{columns} x {rows} pixels", getattr(image, "n_frames", 1)
    refuse(path, pages > 1, f"{pages} pages; one slice a file is allowed")
    turn = image.getexif().get(ORIENTATION, 1)
    refuse(path, turn != 1, f"its tag Orientation is {turn}, so that viewers turn it; 1 is allowed")
    refuse(path, max(image.size) > MAX_SIDE, f"{size}; at most {MAX_SIDE} x {MAX_SIDE} are allowed")
    refuse(path, image.mode not in modes, f"the picture's mode is {image.mode}; {' or '.join(modes)} is allowed")
    if shape:
        allowed = f"{shape[1]} x {shape[0]}, as in the first slice"
        refuse(path, (rows, columns) != shape, f"{size}; all slices and masks must have {allowed}")

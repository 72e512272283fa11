"""One DICOM file, one slice: its header checked before anything is decoded. No other file reads any.

A header is never believed, and never quoted: of a patient's name, number, dates and identifiers nothing leaves this
file, not even in an error, and what pydicom says of a damaged file is not passed on. Only TAGS and pixels are read, but
for `whole_header`, which DICOM made of DICOM asks for.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from symnorm_jax.data.sources.listing import refuse
from symnorm_jax.data.volumes import MAX_VALUE
from symnorm_jax.errors import ScanError

MAX_MM = 1e5  # of spacings and positions
MAX_FILE_BYTES = 1 << 25  # of one slice; 2048 x 2048 pixels of 32 bits are half of it
DEFLATED = "1.2.840.10008.1.2.1.99"  # pydicom would inflate it without a bound
GEOMETRY = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient")
TAGS = (
    *("SeriesInstanceUID", "NumberOfFrames", "PerFrameFunctionalGroupsSequence", "RescaleSlope", "RescaleIntercept"),
    *(
        "InstanceNumber",
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "BitsAllocated",
        "BitsStored",
        "PixelRepresentation",
        *GEOMETRY,
    ),
)


class Slice(NamedTuple):
    """What the header of one file says of its slice; lengths in mm, directions and position in DICOM's LPS."""

    path: str
    series: str
    rows: int
    columns: int
    spacing: tuple[float, float]  # between rows, between columns
    along: np.ndarray  # [2, 3]: where columns go, and where rows go
    position: np.ndarray  # [3], of the first pixel
    slope: float
    intercept: float
    scaled: bool  # by what the header says
    number: int  # of the image in its series, from 1; 0 where it has none


def is_dicom(path: Path) -> bool:
    """Tell whether a file begins as DICOM files do; the index of a disc, DICOMDIR, is no image."""
    if not path.is_file() or path.name.upper() == "DICOMDIR":
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_header(path: str) -> Slice:
    """Read the slice of a file, without its pixels. Raises ScanError that names the file and what was allowed."""
    with _reading(path, "its DICOM header cannot be read"):
        header = _dataset(path, TAGS, pixels=False)
        frames = int(header.get("NumberOfFrames") or 1) > 1 or "PerFrameFunctionalGroupsSequence" in header
        missing = [tag for tag in (*GEOMETRY, "SeriesInstanceUID", "BitsAllocated") if header.get(tag) in (None, "")]
        refuse(path, frames, "an enhanced multi-frame file; one slice a file is allowed (dcm2niix makes NIfTI)")
        refuse(path, missing, f"the header lacks {', '.join(missing)}; every slice of an MR series has them")
        rescale = header.get("RescaleSlope", 1), header.get("RescaleIntercept", 0)
        one = Slice(
            *(path, str(header.SeriesInstanceUID), int(header.Rows), int(header.Columns)),
            tuple(_numbers(header.PixelSpacing, 2).tolist()),
            _numbers(header.ImageOrientationPatient, 6).reshape(2, 3),
            _numbers(header.ImagePositionPatient, 3),
            *_numbers(rescale, 2).tolist(),
            "RescaleSlope" in header and "RescaleIntercept" in header,
            int(header.get("InstanceNumber") or 0),
        )
        _check_header(one, header)
    return one


def whole_header(path: str):
    """Read a header with all that it tells of a patient, for what is derived from it. Raises ScanError."""
    with _reading(path, "its DICOM header cannot be read"):
        return _dataset(path, None, pixels=False)


def decode(one: Slice) -> np.ndarray:
    """Decode the pixels `[rows, columns]` float32 of a slice, rescaled; NaN is padding. Raises ScanError."""
    with _reading(one.path, "its pixels cannot be decoded"):
        header, size = _dataset(one.path, (*TAGS, "PixelData"), pixels=True), (one.rows, one.columns)
        pixels = header.pixel_array
        refuse(one.path, pixels.shape != size, f"decodes to shape {pixels.shape}; the header claims {size}")
        rescaled = (pixels * one.slope + one.intercept).astype(np.float32)
        finite = rescaled.min() >= -MAX_VALUE and rescaled.max() <= MAX_VALUE  # NaN is not
        values = f"rescaled by {one.slope:g} its values are infinite or beyond {MAX_VALUE:g}; they must be finite"
        refuse(one.path, not finite, values)
        rescaled[_padding(header, pixels)] = np.nan
    return rescaled


def _padding(header, pixels: np.ndarray) -> np.ndarray:
    """Mark the pixels that pad a field of view: of PixelPaddingValue, or from there to PixelPaddingRangeLimit."""
    value = header.get("PixelPaddingValue")
    if value in (None, ""):
        return np.zeros(pixels.shape, bool)
    ends = [value, header.get("PixelPaddingRangeLimit") or value]
    # Some write it as unsigned though pixels are signed, or the other way round; the bits are the same.
    bits = np.array([int(end) % 2**header.BitsAllocated for end in ends], f"u{pixels.itemsize}")
    low, high = np.sort(bits.view(pixels.dtype))
    return (pixels >= low) & (pixels <= high)


@contextmanager
def _reading(path: str, what: str) -> Iterator[None]:
    """End errors in one sentence without their text, and warnings in none: either may quote a header."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except ScanError:
        raise
    except Exception as error:  # pydicom raises a dozen types for damaged files
        raise ScanError(f"{path}: {what} ({type(error).__name__}).") from None
    finally:
        logger.setLevel(level)


def _dataset(path: str, tags: tuple[str, ...] | None, pixels: bool):
    """Read the given tags, or all, of a file of bounded size, whose transfer syntax can be read."""
    import pydicom.pixels

    size = os.path.getsize(path)
    refuse(path, size > MAX_FILE_BYTES, f"{size} bytes; at most {MAX_FILE_BYTES} are allowed for one slice")
    data = BytesIO(Path(path).read_bytes())  # a length that a header claims cannot ask for more than this
    pydicom.filereader.read_preamble(data, force=False)
    meta = pydicom.filereader.read_dataset(data, False, True, stop_when=lambda tag, *_: tag.group != 2)
    syntax = meta.TransferSyntaxUID
    refuse(path, syntax == DEFLATED, "the file is deflated as a whole; uncompressed DICOM is needed")
    try:
        decoder = pydicom.pixels.get_decoder(syntax)
    except NotImplementedError:
        raise ScanError(f"{path}: its transfer syntax is unknown to pydicom; uncompressed DICOM is needed.") from None
    compressed = f"compressed as {syntax.name}, for which pydicom finds no decoder"
    remedy = "install pylibjpeg with its plugins, or decompress the files"
    refuse(path, not decoder.is_available, f"{compressed}; {remedy}")
    data.seek(0)
    return pydicom.dcmread(data, stop_before_pixels=not pixels, specific_tags=tags and list(tags))


def _numbers(values, count: int) -> np.ndarray:
    numbers = np.array([float(value) for value in values])
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise ValueError
    return numbers


def _check_header(one: Slice, header) -> None:
    """Refuse what would decode to something other than one grey slice of the size and the directions claimed."""
    kind = (header.get("SamplesPerPixel", 1), header.get("PhotometricInterpretation", "MONOCHROME2"))
    claimed, held = one.rows * one.columns * header.BitsAllocated // 8, os.path.getsize(one.path)
    compressed = header.file_meta.TransferSyntaxUID.is_compressed
    far = max(*one.spacing, *abs(one.position)) > MAX_MM
    square, forbid = np.allclose(one.along @ one.along.T, np.eye(2), atol=0.01), partial(refuse, one.path)
    size, bits = f"{one.rows} x {one.columns} pixels, {claimed} bytes", header.BitsAllocated
    forbid(kind != (1, "MONOCHROME2"), "not a grey image with bright high values (MONOCHROME2), which is needed")
    forbid(one.slope <= 0, f"its values are rescaled by {one.slope:g}; a slope above 0 is allowed")
    forbid(bits not in (8, 16, 32), f"{int(bits)} bits a pixel; 8, 16 or 32 are allowed")
    forbid(claimed < 1 or claimed > held and not compressed, f"the header claims {size}; the file has {held}")
    forbid(far, f"a pixel spacing or a position is more than {MAX_MM:g} mm; less is allowed")
    forbid(not square, f"rows and columns run along {one.along.tolist()}; two unit vectors at right angles must")

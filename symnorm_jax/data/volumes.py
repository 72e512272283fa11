"""Scan files to checked, RAS+ volumes.

A header is never believed: shape, data offset and size are bounded before any memory is taken, since a 72-byte gzip can
claim gigabytes.
"""

import gzip
import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np

from symnorm_jax.data import headers
from symnorm_jax.data.headers import MAX_DATA_OFFSET, demand
from symnorm_jax.data.masks import STRICT, Reading, marked
from symnorm_jax.errors import ScanError, one_line
from symnorm_jax.files import whole
from symnorm_jax.geometry import corners_apart

MAX_VALUE = 1e15  # either side of 0; float32 holds sums and squares of what is smaller
FREESURFER = ".mgz"  # its header has a fixed length
FORMATS = (".nii", ".hdr", ".img", FREESURFER)  # nibabel reads others too, whose sizes nothing here bounds
# What of a NIfTI header places its voxels.
PLACES = ("pixdim", "xyzt_units", "qform_code", "sform_code", *(f"quatern_{axis}" for axis in "bcd"))
PLACES += tuple(f"{name}_{axis}" for name in ("qoffset", "srow") for axis in "xyz")
GRID_MM = 0.3  # by which corners of a mask may lie off those of its image: qforms near a half turn are as coarse


class Volume(NamedTuple):
    """One scan on an RAS+ grid, with what is known of it."""

    voxels: np.ndarray  # [X, Y, Z] float32; of several contrasts the leading one
    affine: np.ndarray  # [4, 4] voxel index to mm
    lesion: np.ndarray | None = None  # [X, Y, Z] bool; None where nobody has drawn lesions
    brain: np.ndarray | None = None  # [X, Y, Z] bool; None where there is no mask file
    stack: bool = False  # slices kept as pictures: their distance is a guess, and each may be turned by itself
    geometry: str = "assumed"  # what placed the voxels: sform, qform, pixdim, another header, dicom, or a guess
    notes: tuple[str, ...] = ()  # what is doubtful, for the manifest's flags
    others: dict[str, np.ndarray] = {}  # the contrasts after the leading one, by name, as `voxels`


class Scan(NamedTuple):
    """One session of one person, as a source lists it; nothing downstream knows more of the source."""

    patient: str
    session: str
    healthy: bool  # the person is known to be free of what is being looked for
    load: Callable[..., Volume]  # takes a `reading`; a module-level function or a partial, which processes can call
    files: tuple[str, ...] = ()  # the images, whose contents are hashed for the leakage audit
    others: tuple[str, ...] = ()  # images of the contrasts after the leading one, hashed too
    extras: tuple[str, ...] = ()  # masks and the like, hashed for the store's key only
    recipe: str = ""  # what else decides the voxels: a seed, a channel, how lesions were planted
    groups: dict[str, str] = {}  # age, sex, site, scanner...
    labelled: bool = True  # False where nobody knows: the scan is scored, and neither trained on nor judged
    split: str = ""  # train or test where the release's own division was asked for
    drawn: bool = False  # there is a mask of its lesions
    planted: str = ""  # the file of a lesion that somebody else has and is painted in here, for the leakage audit
    tissue: Callable[["Volume"], np.ndarray] | None = None  # maps its volume to labels `[X, Y, Z]`, see `read_labels`

    @property
    def name(self) -> str:
        return f"{self.patient}/{self.session}" if self.session else self.patient

    @property
    def location(self) -> str:
        """The folder that holds all images of the leading contrast, or the only one; blank where there are no files."""
        return os.path.commonpath(self.files) if self.files else ""

    def sha256(self) -> str:
        """Hash the images, or what the scan is made from where there are no files, for the leakage audit."""
        return digest(self.files + self.others, "" if self.files else self.name + self.recipe)

    def stored_axes(self) -> str | None:
        """Read the order that the axes are stored in; None unless the image is one file. Raises ScanError."""
        return stored_axes(self.stored) if self.stored else None

    @property
    def stored(self) -> str | None:
        """The only file of the image, where that is one with a grid of its own; None of pictures and of DICOM."""
        single = len(self.files) == 1 and self.files[0].lower().removesuffix(".gz").endswith(FORMATS)
        return self.files[0] if single else None


def digest(files: Iterable[str], *texts: str) -> str:
    """Hash by SHA-256 the contents of `files`, in order, and `texts`; file names and dates do not matter."""
    total = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    for text in texts:
        total.update(text.encode())
    return total.hexdigest()


def read_nifti(path: str | Path, poor: str = "exclude") -> tuple[np.ndarray, np.ndarray]:
    """Read voxels `[X, Y, Z]` float32 and affine `[4, 4]` of a NIfTI, Analyze or FreeSurfer file as RAS+.

    Raises ScanError for anything but one readable, finite, three-dimensional image of bounded size and, unless `poor`
    is `flag`, for a header that contradicts itself.
    """
    return _read(path, poor)[:2]


def read_volume(image, lesion=None, brain=None, reading: Reading = STRICT) -> Volume:
    """Read the file of a scan and those of its masks, as `reading` says. Raises ScanError, see `read_nifti`."""
    voxels, affine, geometry, notes = _read(image, reading.header)
    flat = f"every voxel has the value {voxels.flat[0]:g}; an image must have contrast."
    demand(image, voxels.min() != voxels.max(), flat)
    volume = Volume(voxels, affine, geometry=geometry, notes=notes)
    return with_masks(volume, str(image), lesion, brain, reading)


def with_masks(volume: Volume, image: str, lesion=None, brain=None, reading: Reading = STRICT) -> Volume:
    """Read mask files on the grid of a `volume`, which is called `image`. Raises ScanError, see `read_nifti`."""
    for kind, path in (("lesion", lesion), ("brain", brain)):
        if path is None:
            continue
        values, notes = _on_grid_of(volume, image, path, reading.header)
        mask = marked(values, getattr(reading, kind), kind, str(path))
        if not mask.any() and values.max() > 0:
            notes += (f"the {kind} mask {Path(path).name} reaches {values.max():g} and marks nothing",)
        volume = volume._replace(**{kind: mask}, notes=volume.notes + notes)
    return volume


def read_labels(path: str, volume: Volume) -> np.ndarray:
    """Read a map of labels, uint8, on the grid of a `volume`: 0 for none. Raises ScanError, see `read_nifti`."""
    values, _ = _on_grid_of(volume, "", path, "exclude")
    whole_ = np.round(values)
    told = f"labels reach from {values.min():g} to {values.max():g}; whole numbers from 0 to 255 are allowed."
    demand(path, (values == whole_).all() and values.min() >= 0 and values.max() <= 255, told)
    return whole_.astype(np.uint8)


def _on_grid_of(volume: Volume, image: str, path, poor: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read the values of a mask and notes on it; it must lie on the grid of its `volume`, called `image`."""
    values, affine, _, notes = _read(path, poor)
    shapes = f"the mask has shape {values.shape}, its image {image} has {volume.voxels.shape}."
    demand(path, values.shape == volume.voxels.shape, shapes)
    apart = corners_apart(affine, volume.affine, values.shape)
    told = f"corners of the mask lie {apart:.2f} mm from those of its image {image}; {GRID_MM} mm are allowed."
    demand(path, apart <= GRID_MM, told)
    return values, notes


def encoded(voxels: np.ndarray, affine: np.ndarray, slope: float = 1.0) -> bytes:
    """Encode an RAS+ array `[X, Y, Z]` as a gzipped NIfTI file in memory, its values being `slope` times the voxels."""
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_slope_inter(slope, 0)
    return gzip.compress(image.to_bytes(), 6, mtime=0)


def write_nifti(path: str | Path, voxels: np.ndarray, affine: np.ndarray, axes: str = "RAS") -> None:
    """Write an RAS+ array `[X, Y, Z]` of any dtype to a .nii or .nii.gz, whole or not at all, in the order `axes`."""
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes))
    save(Path(path), nib.Nifti1Image(voxels, affine).as_reoriented(turn))


def on_grid(voxels: np.ndarray, affine: np.ndarray, stored: str | None) -> nib.Nifti1Image:
    """Lay an RAS+ array `[X, Y, Z]` on the grid of the file it came from, `stored`: axes, affine, codes, units.

    Nothing else is taken over of a header, which may hold names. Without such a file the grid is RAS+, in mm.
    """
    if stored is None:
        image = nib.Nifti1Image(voxels, affine)
        image.set_qform(affine, "scanner")
        image.set_sform(affine, "scanner")
        image.header.set_xyzt_units("mm")
        return image
    like, header = _open(stored), nib.Nifti1Header()
    header.set_data_dtype(voxels.dtype)
    header.set_xyzt_units("mm")
    for field in PLACES if isinstance(like.header, nib.Nifti1Header) else ():
        header[field] = like.header[field]
    return nib.Nifti1Image(turned(voxels, affine, like.affine), like.affine, header)


def turned(voxels: np.ndarray, affine: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Give an array with the affine `[4, 4]` the order of axes of the affine `like`."""
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.io_orientation(like))
    return nib.apply_orientation(voxels, turn)


def keep(image: nib.spatialimages.SpatialImage, folder: Path) -> Path:
    """Write an image that is in memory to a folder, so that it is read, and refused, like any other."""
    path = folder / ("scan.mgz" if isinstance(image, nib.MGHImage) else "scan.nii")
    nib.save(image, path)
    return path


def save(path: Path, image: nib.Nifti1Image) -> None:
    """Write an image, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as unfinished:
        nib.save(image, unfinished)


def stored_axes(path: str | Path) -> str:
    """Read the order that a file's axes are stored in, such as `LPS`. Raises ScanError, see `read_nifti`."""
    return "".join(nib.aff2axcodes(_open(path).affine))


def _read(path, poor: str) -> tuple[np.ndarray, np.ndarray, str, tuple[str, ...]]:
    """Read voxels and affine as RAS+, what placed the voxels, and what contradicts it."""
    image = _open(path)
    doubt = headers.contradiction(image)
    told = f"{doubt}; such a scan is left out, or kept with a flag by data.poor_header='flag'."
    demand(path, not doubt or poor == "flag", told)
    with _readable(path), np.errstate(all="ignore"):  # what becomes infinite is refused below
        voxels = np.asarray(image.dataobj, dtype=np.float32)
    if not (voxels.min() >= -MAX_VALUE and voxels.max() <= MAX_VALUE):  # NaN neither
        bad = f"{voxels.size - np.count_nonzero(abs(voxels) <= MAX_VALUE)} of {voxels.size} voxels"
        raise ScanError(f"{path}: {bad} are NaN or infinite, or beyond {MAX_VALUE:g}; all must be finite.")
    source, notes = headers.believed(image), (f"{Path(path).name}: {doubt}",) if doubt else ()
    return *to_ras(voxels.reshape(voxels.shape[:3]), image.affine), source, notes


def to_ras(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reorient an array with any order of axes, and its affine, to RAS+."""
    orientation = nib.io_orientation(affine)
    reoriented = nib.apply_orientation(voxels, orientation)
    return np.ascontiguousarray(reoriented), affine @ nib.orientations.inv_ornt_aff(orientation, voxels.shape)


def _open(path):
    """Open an image and check its header; its voxels are not yet read."""
    if not str(path).lower().removesuffix(".gz").endswith(FORMATS):
        raise ScanError(f"{path}: no NIfTI image by its name; {', '.join(FORMATS)}, and .gz behind it, are allowed.")
    with _readable(path), warnings.catch_warnings(action="ignore"):  # of headers that nibabel mends or we refuse
        if not str(path).lower().endswith(FREESURFER):
            _check_raw_header(path)
        image = nib.load(path, mmap=False)  # a mapped file that is rewritten meanwhile would end the process
        headers.check_bounds(path, image, str(path).lower().endswith((".gz", FREESURFER)))
    return image


@contextmanager
def _readable(path) -> Iterator[None]:
    try:
        yield
    except ScanError:
        raise
    except FileNotFoundError as error:  # of a pair, either
        raise ScanError(f"{error.filename or path}: no such file.") from None
    except Exception as error:  # nibabel, gzip and zlib raise a dozen types for damaged files
        raise ScanError(f"{path}: cannot be read as a NIfTI image ({one_line(error)}).") from None


def _check_raw_header(path) -> None:
    """Demand that header extensions end within MAX_DATA_OFFSET, nibabel would read all they claim; and a slope."""
    single = str(path).lower().removesuffix(".gz").endswith(".nii")
    for kind in (nib.Nifti1Image, nib.Nifti2Image) if single else (nib.Nifti1Pair, nib.Nifti2Pair):
        name = kind.filespec_to_file_map(path)["image" if single else "header"].filename
        with nib.openers.ImageOpener(name) as file:
            head = file.read(MAX_DATA_OFFSET + 1)
        if kind.header_class.may_contain_header(head):
            header = kind.header_class.from_fileobj(stream := io.BytesIO(head), check=False)
            told = f"the header is longer than the {MAX_DATA_OFFSET} bytes that are allowed."
            demand(path, stream.tell() <= MAX_DATA_OFFSET, told)
            scale = float(header["scl_slope"])  # nibabel would take an infinite one for none
            demand(path, not np.isinf(scale), f"the slope of the values is {scale:g}; a finite number is allowed.")

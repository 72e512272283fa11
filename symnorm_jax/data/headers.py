"""What an image's header claims: bounded before memory is taken, and asked whether it contradicts itself.

A NIfTI header may place its voxels three times: by the sform, by the qform and, without directions, by pixdim. The
sform is believed where it has a code, then the qform.
"""

import os
from functools import partial

import nibabel as nib
import numpy as np

from symnorm_jax.errors import ScanError
from symnorm_jax.geometry import corners_apart, skew, voxel_sizes

MAX_VOXELS = 512**3
MAX_DATA_OFFSET = 1 << 20
MAX_EXTENT_MM = 2000.0  # along an edge of the volume: slices are cut every few mm
SIZES_MM = (0.05, 50.0)
DEFLATE_RATIO = 1032  # deflate cannot expand by more than this, so a smaller .gz cannot hold what its header claims
SKEW = 0.01  # cosine between two axes: half a degree
SIZE_TOLERANCE = 0.01  # share of a voxel's edge by which two parts of a header may differ
TURNED = 0.5  # cosine of the angle between an axis of the sform and of the qform, below which one has other directions
POOR = ("exclude", "flag")  # what becomes of a scan whose header contradicts itself


def demand(path, met: bool, sentence: str) -> None:
    """Raise ScanError with the `sentence` unless it is `met`."""
    if not met:
        raise ScanError(f"{path}: {sentence}")


def check_bounds(path, image, compressed: bool) -> None:
    """Raise ScanError unless a nibabel image claims one volume of a size that its file can hold."""
    needed, shape = partial(demand, path), tuple(map(int, image.shape))
    three = len(shape) >= 3 and set(shape[3:]) <= {1} and min(shape) >= 1
    needed(three, f"the image has shape {shape}; one three-dimensional volume is allowed.")
    voxels, dtype = int(np.prod(shape, dtype=object)), image.get_data_dtype()
    needed(voxels <= MAX_VOXELS, f"the header claims {voxels} voxels {shape}; at most {MAX_VOXELS} are allowed.")
    needed(dtype.kind in "iuf", f"the voxels are stored as {dtype}; integers or real numbers are allowed.")
    offset, claimed = int(image.dataobj.offset), voxels * dtype.itemsize
    held = os.path.getsize(image.file_map["image"].filename)
    told = f"the header claims {claimed} bytes of voxels at offset {offset}, "
    fits = offset <= MAX_DATA_OFFSET and claimed <= held * (DEFLATE_RATIO if compressed else 1)
    needed(fits, f"{told}more than the file's {held} bytes can hold.")
    spans = np.isfinite(image.affine).all() and not np.isnan(nib.io_orientation(image.affine)).any()
    needed(spans, f"the affine {image.affine[:3].tolist()} does not span three directions; it must.")
    sizes, (low, high) = voxel_sizes(image.affine), SIZES_MM
    extents, known = shape[:3] * sizes, ((sizes > low) & (sizes < high)).all()  # NaN is not
    needed(known, f"voxel sizes {sizes.round(3).tolist()} mm; {low:g} to {high:g} mm are allowed.")
    long = f"the edges are {extents.round().tolist()} mm long"
    needed(max(extents) <= MAX_EXTENT_MM, f"{long}; at most {MAX_EXTENT_MM:g} mm are allowed.")


def believed(image) -> str:
    """Say which part of a nibabel image's header places its voxels."""
    if not isinstance(image, nib.Nifti1Pair):
        return "header" if isinstance(image, nib.MGHImage) else "pixdim"
    codes = ("sform", "sform_code"), ("qform", "qform_code")
    return next((name for name, code in codes if int(image.header[code]) > 0), "pixdim")


def contradiction(image) -> str:
    """Say what a nibabel image's header contradicts itself in, or what no grid can hold; nothing where it is sound."""
    source, affine, header = believed(image), image.affine, image.header
    if source == "pixdim":
        return "the header has no directions, neither sform nor qform, so left may be right"
    if (slant := skew(affine)) > SKEW:
        return f"its axes meet at {np.degrees(np.arccos(min(slant, 1.0))):.1f} degrees, not at right angles"
    if source == "header":
        return ""
    sizes, pixdim = voxel_sizes(affine), header["pixdim"][1:4].astype(float)
    if not np.allclose(sizes, pixdim, rtol=SIZE_TOLERANCE):
        return f"the {source}'s voxels of {_sizes(sizes)} mm contradict pixdim, {_sizes(pixdim)} mm"
    if (unit := header.get_xyzt_units()[0]) not in ("unknown", "mm"):
        return f"lengths are in the unit {unit}; mm is read"
    return _forms_apart(image)


def _forms_apart(image) -> str:
    """Say how far sform and qform are from each other where both are given and mean to say the same."""
    (sform, s_code), (qform, q_code) = (form(coded=True) for form in (image.get_sform, image.get_qform))
    if sform is None or qform is None:
        return ""
    along = [one[:3, :3] / voxel_sizes(one) for one in (sform, qform)]
    if ((along[0] * along[1]).sum(0) < TURNED).any():
        axes = ["".join(nib.aff2axcodes(one)) for one in (sform, qform)]
        return f"the sform's axes run {axes[0]}, the qform's {axes[1]}"
    apart, voxel = corners_apart(sform, qform, image.shape[:3]), voxel_sizes(sform).max()
    return f"sform and qform lie {apart:.1f} mm apart" if s_code == q_code and apart > voxel else ""


def _sizes(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes)

"""The brain of a scan: from a mask file, where a stripped scan is not zero, the head's outline, or by an extractor.

Others have made the extractors: deepbet's networks come along, SynthStrip and HD-BET are programs that are called.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging
from scipy import ndimage

from symnorm_jax import settings
from symnorm_jax.data import deepbet
from symnorm_jax.data.masks import TWO, marked
from symnorm_jax.data.volumes import GRID_MM, Volume, read_nifti, write_nifti
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.files import save_arrays
from symnorm_jax.geometry import AXIAL, corners_apart, voxel_sizes

BRAIN = ("auto", "extract", "file", "head", "nonzero")
STRIPPED = 0.95  # share of voxels that are not zero, from which a scan cannot have been skull-stripped
FRAGMENT = 0.1  # of the largest region: a cerebellum cut off from its cerebrum is larger, stray specks are smaller
TIME_LIMIT = 1800.0  # seconds a program may take for one head
AT_EDGES = 0.5  # of the upright edges of a scan's grid, which a head does not reach
LEAST = 0.001  # of the voxels of a scan's grid: 17 ml where it is 256 mm wide
SMALLEST_ML, LARGEST_ML = 200.0, 2500.0  # a newborn's brain is above the one, an adult's head above the other


class Program(NamedTuple):
    """A brain extractor that is called in a temporary folder, which holds the files of `arguments`."""

    name: str
    arguments: str
    mask: str  # the file it leaves the mask in
    source: str  # where to get it


HD_BET = "-i head.nii.gz -o brain.nii.gz -device cpu --disable_tta --save_bet_mask --no_bet_image"
FREESURFER = "FreeSurfer 7.3 or later has it, surfer.nmr.mgh.harvard.edu/docs/synthstrip"
PROGRAMS = {
    "hd-bet": Program("hd-bet", HD_BET, "brain_bet.nii.gz", "pip install 'hd-bet>=2'"),
    "synthstrip": Program("mri_synthstrip", "-i head.nii.gz -m mask.nii.gz", "mask.nii.gz", FREESURFER),
}
EXTRACTORS = ("deepbet", *PROGRAMS)


def check_choice(kind: str, extractor: str) -> None:
    """Raise ConfigError where the choice is unknown."""
    settings.check_choice("data.brain", kind, BRAIN)
    settings.check_choice("data.extractor", extractor, EXTRACTORS)


def check(kind: str, extractor: str) -> None:
    """Raise ConfigError where the choice is unknown, or the extractor it needs is not installed."""
    check_choice(kind, extractor)
    if kind not in ("auto", "extract") or extractor not in PROGRAMS:
        return
    name, _, _, source = PROGRAMS[extractor]
    if not shutil.which(name):
        needed = f"data.extractor={extractor!r} needs the program {name} on the PATH, which is not there ({source})"
        raise ConfigError(f"{needed}; data.extractor='deepbet' needs none.")


def choose(volume: Volume, kind: str) -> str:
    """Choose what `auto` stands for: the mask file, else what is not zero if the skull is off, else an extractor."""
    if kind != "auto":
        return kind
    if volume.brain is not None:
        return "file"
    try:
        stripped = _millilitres(_nonzero(volume), volume) >= SMALLEST_ML
    except ScanError:
        stripped = False
    return "nonzero" if stripped else "extract"


def brain_mask(volume: Volume, kind: str, extractor: str = "deepbet", cache: Path | None = None) -> np.ndarray:
    """Find the brain `[X, Y, Z]` bool of a scan as `kind`, one of BRAIN, says.

    The file `cache` keeps an extracted mask; one of this shape by this extractor is not extracted again. Raises
    ScanError where no mask can be had, ConfigError as `check` does.
    """
    check_choice(kind, extractor)
    kind = choose(volume, kind)
    if kind == "extract":
        return _extracted(volume, extractor, cache)
    if kind == "nonzero":
        return _nonzero(volume)
    if kind == "head":  # the largest bright region, blurred within slices: a black one beside the head has no head
        smooth = ndimage.gaussian_filter(volume.voxels, (1.0, 1.0, 0.0))
        return _solid(smooth > 0.15 * np.percentile(smooth, 98), 1.0)
    if volume.brain is None:
        raise ScanError("there is no brain mask file; data.brain='extract', 'nonzero' or 'head' does without one.")
    return _checked(volume.brain, volume)


def _checked(mask: np.ndarray, volume: Volume) -> np.ndarray:
    """Return a mask from a file. Raises ScanError where it is no brain by its size, or lies around one."""
    found, upright = _millilitres(mask, volume), mask[:: len(mask) - 1 or 1, :: mask.shape[1] - 1 or 1]
    if found > LARGEST_ML:
        raise ScanError(f"the brain mask has {found:.0f} ml; at most {LARGEST_ML:g} ml are allowed.")
    if 0 < (share := mask.mean()) < LEAST:
        raise ScanError(f"the brain mask holds {share:.2%} of the grid; at least {LEAST:.1%} is needed.")
    if (share := upright.mean()) > AT_EDGES:
        around = f"{share:.0%} of the grid's four upright edges, as what lies around a brain does"
        raise ScanError(f"the brain mask holds {around}; at most {AT_EDGES:.0%} is allowed.")
    return mask


def _nonzero(volume: Volume) -> np.ndarray:
    inside = volume.voxels != 0
    whole_head = "can be in a skull-stripped scan; for a whole head set data.brain='extract' or 'head'."
    if (share := inside.mean()) > STRIPPED:
        raise ScanError(f"{share:.1%} of the voxels are not zero, at most {STRIPPED:.0%} {whole_head}")
    mask = _solid(inside, FRAGMENT)
    if (found := _millilitres(mask, volume)) > LARGEST_ML:
        raise ScanError(f"{found:.0f} ml are not zero, at most {LARGEST_ML:g} ml {whole_head}")
    return mask


def _solid(mask: np.ndarray, fragment: float) -> np.ndarray:
    """Keep the largest region, and others of at least `fragment` of its size, and fill their holes slice by slice."""
    regions, _ = ndimage.label(mask)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    kept = ((sizes > 0) & (sizes >= fragment * sizes.max()))[regions]
    return np.stack([ndimage.binary_fill_holes(one) for one in np.moveaxis(kept, AXIAL, 0)], axis=AXIAL)


def _extracted(volume: Volume, extractor: str, cache: Path | None) -> np.ndarray:
    if cache and (kept := _kept(cache, volume.voxels.shape, extractor)) is not None:
        return kept
    mask = extract(volume, extractor)
    if cache:
        arrays = {"mask": np.packbits(mask), "shape": np.array(mask.shape), "extractor": np.array(extractor)}
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            save_arrays(cache, arrays)
        except OSError as error:  # the mask is good all the same
            logging.warning("%s: the brain mask is not kept: %s", cache, error)
    return mask


def _kept(cache: Path, shape: tuple[int, ...], extractor: str) -> np.ndarray | None:
    """Read the mask that was kept, or None where there is none or another's."""
    try:
        with cache.open("rb") as file, np.load(file, allow_pickle=False) as held:
            bits = np.unpackbits(held["mask"])
            ours = str(held["extractor"]) == extractor and tuple(held["shape"]) == shape
    except Exception:  # NumPy and zipfile raise a dozen types for damaged files
        return None
    voxels = int(np.prod(shape))
    return bits[:voxels].reshape(shape).astype(bool) if ours and 0 <= bits.size - voxels < 8 else None


def extract(volume: Volume, extractor: str) -> np.ndarray:
    """Find the brain `[X, Y, Z]` bool. Raises ConfigError where `extractor` is not installed, ScanError if it fails."""
    check("extract", extractor)
    program = PROGRAMS.get(extractor)
    mask = _by_program(volume, program) if program else deepbet.find_brain(volume.voxels)
    if not SMALLEST_ML <= (found := _millilitres(mask, volume)) <= LARGEST_ML:
        told = f"{found:.0f} ml; {SMALLEST_ML:g} to {LARGEST_ML:g} ml are allowed"
        raise ScanError(f"{extractor} found a brain of {told}, so it failed or the scan is no head.")
    return mask


def _millilitres(mask: np.ndarray, volume: Volume) -> float:
    return mask.sum() * voxel_sizes(volume.affine).prod() / 1000


def _by_program(volume: Volume, program: Program) -> np.ndarray:
    with tempfile.TemporaryDirectory(prefix="symnorm-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_nifti(folder / "head.nii.gz", volume.voxels, volume.affine)
        said = _call(program, folder)
        if not (folder / program.mask).is_file():
            raise ScanError(f"{program.name} ended without a mask ({said}).")
        try:
            values, affine = read_nifti(folder / program.mask)
            mask = marked(values, TWO, "brain", str(folder / program.mask))
        except ScanError as error:
            raise ScanError(f"{program.name} left {str(error).removeprefix(f'{folder}/')}") from None
    if mask.shape != volume.voxels.shape or corners_apart(affine, volume.affine, mask.shape) > GRID_MM:
        grids = (mask.shape, affine), (volume.voxels.shape, volume.affine)
        found, needed = (f"{shape} at {where[:3, 3].round(1).tolist()} mm" for shape, where in grids)
        gave = f"{program.name} gave a mask of shape {found}; the scan's {needed} is needed"
        raise ScanError(f"{gave}, on the same grid.")
    return mask


def _call(program: Program, folder: Path) -> str:
    """Run a program to its end and return the last line that it wrote to stderr."""
    arguments = [str(folder / one) if one.endswith(".gz") else one for one in program.arguments.split()]
    errors, nothing = folder / "stderr.txt", subprocess.DEVNULL
    settings = {"stdin": nothing, "stdout": nothing, "cwd": folder, "start_new_session": True}
    with errors.open("wb") as stream:
        process = subprocess.Popen([program.name, *arguments], stderr=stream, **settings)
    try:
        status = process.wait(TIME_LIMIT)
    except subprocess.TimeoutExpired:
        raise ScanError(f"{program.name} took longer than {TIME_LIMIT:g} s, the most that one head may take.") from None
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also what it has started
            process.wait()
    text = errors.read_text(encoding="utf-8", errors="replace")
    said = (text.strip().splitlines() or ["it gave no reason"])[-1].strip()[:300]
    if status != 0:
        raise ScanError(f"{program.name} ended with status {status} ({said}).")
    return said

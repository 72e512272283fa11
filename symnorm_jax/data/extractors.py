"""Brain extractors that others have made: deepbet as a package, SynthStrip and HD-BET as programs that are called."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from symnorm_jax.data.volumes import Volume, read_nifti, write_nifti
from symnorm_jax.errors import ConfigError, ScanError, one_line
from symnorm_jax.geometry import voxel_sizes

TIME_LIMIT = 1800.0  # seconds a program may take for one head
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


def check_installed(extractor: str) -> None:
    """Raise ConfigError where `extractor`, one of EXTRACTORS, is not there."""
    there, what, source = find_spec("deepbet"), "the package deepbet", "pip install -e '.[bet]'"
    if extractor in PROGRAMS:
        name, _, _, source = PROGRAMS[extractor]
        there, what = shutil.which(name), f"the program {name} on the PATH"
    if not there:
        needed = f"data.extractor={extractor!r} needs {what}, which is not there ({source})"
        raise ConfigError(f"{needed}; data.brain='file', 'nonzero' or 'head' does without.")


def extract(volume: Volume, extractor: str) -> np.ndarray:
    """Find the brain `[X, Y, Z]` bool. Raises ConfigError where `extractor` is not installed, ScanError if it fails."""
    check_installed(extractor)
    mask = _by_deepbet(volume) if extractor == "deepbet" else _by_program(volume, PROGRAMS[extractor])
    if not SMALLEST_ML <= (found := millilitres(mask, volume)) <= LARGEST_ML:
        told = f"{found:.0f} ml; {SMALLEST_ML:g} to {LARGEST_ML:g} ml are allowed"
        raise ScanError(f"{extractor} found a brain of {told}, so it failed or the scan is no head.")
    return mask


def millilitres(mask: np.ndarray, volume: Volume) -> float:
    """Measure a mask `[X, Y, Z]` on the grid of a volume."""
    return mask.sum() * voxel_sizes(volume.affine).prod() / 1000


def _by_deepbet(volume: Volume) -> np.ndarray:
    network = _deepbet()
    try:
        return network.postprocess(network.run_model(np.array(volume.voxels, np.float32)) > 0.5).astype(bool)
    except Exception as error:  # where the networks see no brain it fails by assertion, by index or by value
        raise ScanError(f"deepbet found no brain ({one_line(error)}).") from None


@lru_cache(maxsize=1)
def _deepbet() -> Any:
    """Load the networks, once in a process; on the CPU, so that every machine finds the same mask."""
    try:
        with warnings.catch_warnings(action="ignore"):  # its networks are TorchScript, which PyTorch calls deprecated
            from deepbet import BrainExtraction

            return BrainExtraction(no_gpu=True)
    except Exception as error:
        raise ConfigError(f"data.extractor='deepbet' cannot be loaded ({one_line(error)}); install it anew.") from None


def _by_program(volume: Volume, program: Program) -> np.ndarray:
    with tempfile.TemporaryDirectory(prefix="symnorm-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_nifti(folder / "head.nii.gz", volume.voxels, volume.affine)
        said = _call(program, folder)
        if not (folder / program.mask).is_file():
            raise ScanError(f"{program.name} ended without a mask ({said}).")
        try:
            mask, affine = read_nifti(folder / program.mask)
        except ScanError as error:
            raise ScanError(f"{program.name} left {str(error).removeprefix(f'{folder}/')}") from None
    if mask.shape != volume.voxels.shape or not np.allclose(affine, volume.affine, atol=0.1):
        grids = (mask.shape, affine), (volume.voxels.shape, volume.affine)
        found, needed = (f"{shape} at {where[:3, 3].round(1).tolist()} mm" for shape, where in grids)
        gave = f"{program.name} gave a mask of shape {found}; the scan's {needed} is needed"
        raise ScanError(f"{gave}, on the same grid.")
    return mask > 0


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
    said = (errors.read_text(errors="replace").strip().splitlines() or ["it gave no reason"])[-1].strip()[:300]
    if status != 0:
        raise ScanError(f"{program.name} ended with status {status} ({said}).")
    return said

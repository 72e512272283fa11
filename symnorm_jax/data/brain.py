"""Where the brain of a scan is: in a mask file, where a skull-stripped scan is not zero, or found by an extractor.

The outline of the whole head is the way out where nothing else is to be had.
"""

from pathlib import Path

import numpy as np
from absl import logging
from scipy import ndimage

from symnorm_jax.data.extractors import EXTRACTORS, LARGEST_ML, check_installed, extract, millilitres
from symnorm_jax.data.volumes import Volume
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.files import save_arrays
from symnorm_jax.geometry import AXIAL

BRAIN = ("extract", "file", "head", "nonzero")
STRIPPED = 0.95  # share of voxels that are not zero, from which a scan cannot have been skull-stripped
FRAGMENT = 0.1  # of the largest region: a cerebellum cut off from its cerebrum is larger, stray specks are smaller


def check_choice(kind: str, extractor: str) -> None:
    """Raises ConfigError where the choice is unknown."""
    for key, value, allowed in (("brain", kind, BRAIN), ("extractor", extractor, EXTRACTORS)):
        if value not in allowed:
            raise ConfigError(f"data.{key}={value!r}; one of {sorted(allowed)} is allowed.")


def check(kind: str, extractor: str) -> None:
    """Raises ConfigError where the choice is unknown, or the extractor it needs is not installed."""
    check_choice(kind, extractor)
    if kind == "extract":
        check_installed(extractor)


def brain_mask(volume: Volume, kind: str, extractor: str = "deepbet", cache: Path | None = None) -> np.ndarray:
    """The brain `[X, Y, Z]` bool of a scan, found as `kind`, one of BRAIN, says.

    `cache` names a file that keeps an extracted mask; where it holds one of this shape by this extractor, nothing is
    extracted. Raises ScanError where no mask can be had, ConfigError as `check` does.
    """
    check_choice(kind, extractor)
    if kind == "file":
        if volume.brain is None:
            raise ScanError("there is no brain mask file; data.brain='extract', 'nonzero' or 'head' does without one.")
        return volume.brain
    if kind == "extract":
        return _extracted(volume, extractor, cache)
    return _nonzero(volume) if kind == "nonzero" else _head(volume.voxels)


def _nonzero(volume: Volume) -> np.ndarray:
    inside = volume.voxels != 0
    if inside.mean() > STRIPPED:
        raise ScanError(
            f"{inside.mean():.1%} of the voxels are not zero, at most {STRIPPED:.0%} can be in a skull-stripped scan; "
            "for a whole head set data.brain='extract' or 'head'."
        )
    mask = _filled(_without_specks(inside))
    if millilitres(mask, volume) > LARGEST_ML:
        raise ScanError(
            f"{millilitres(mask, volume):.0f} ml are not zero, at most {LARGEST_ML:g} ml can be in a skull-stripped "
            "scan; for a whole head set data.brain='extract' or 'head'."
        )
    return mask


def _head(voxels: np.ndarray) -> np.ndarray:
    """The largest connected bright region with its holes filled slice by slice."""
    smooth = ndimage.gaussian_filter(voxels, (1.0, 1.0, 0.0))  # within slices: a black one beside the head has no head
    return _filled(_without_specks(smooth > 0.15 * np.percentile(smooth, 98), fragment=1.0))


def _without_specks(mask: np.ndarray, fragment: float = FRAGMENT) -> np.ndarray:
    """The largest connected region, and those of at least `fragment` of its size."""
    regions, _ = ndimage.label(mask)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    return ((sizes > 0) & (sizes >= fragment * sizes.max()))[regions]


def _filled(mask: np.ndarray) -> np.ndarray:
    filled = [ndimage.binary_fill_holes(one) for one in np.moveaxis(mask, AXIAL, 0)]
    return np.stack(filled, axis=AXIAL)


def _extracted(volume: Volume, extractor: str, cache: Path | None) -> np.ndarray:
    mask = None if cache is None else _load(cache, volume.voxels.shape, extractor)
    if mask is None:
        mask = extract(volume, extractor)
        if cache is not None:
            _save(cache, mask, extractor)
    return mask


def _save(cache: Path, mask: np.ndarray, extractor: str) -> None:
    arrays = {"mask": np.packbits(mask), "shape": np.array(mask.shape), "extractor": np.array(extractor)}
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        save_arrays(cache, arrays)
    except OSError as error:  # the mask is good all the same
        logging.warning("%s: the brain mask is not kept: %s", cache, error)


def _load(cache: Path, shape: tuple[int, ...], extractor: str) -> np.ndarray | None:
    """The mask that `_save` wrote, or None where there is none or another's."""
    try:
        with cache.open("rb") as file, np.load(file, allow_pickle=False) as held:
            bits = np.unpackbits(held["mask"])
            ours = str(held["extractor"]) == extractor and tuple(held["shape"]) == shape
    except Exception:  # NumPy and zipfile raise a dozen types for damaged files
        return None
    voxels = int(np.prod(shape))
    return bits[:voxels].reshape(shape).astype(bool) if ours and 0 <= bits.size - voxels < 8 else None

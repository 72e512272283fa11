"""The brain of a scan: from a mask file, where a stripped scan is not zero, by an extractor, or the head's outline."""

from pathlib import Path

import numpy as np
from absl import logging
from scipy import ndimage

from symnorm_jax import settings
from symnorm_jax.data.extractors import EXTRACTORS, LARGEST_ML, check_installed, extract, millilitres
from symnorm_jax.data.volumes import Volume
from symnorm_jax.errors import ScanError
from symnorm_jax.files import save_arrays
from symnorm_jax.geometry import AXIAL

BRAIN = ("extract", "file", "head", "nonzero")
STRIPPED = 0.95  # share of voxels that are not zero, from which a scan cannot have been skull-stripped
FRAGMENT = 0.1  # of the largest region: a cerebellum cut off from its cerebrum is larger, stray specks are smaller


def check_choice(kind: str, extractor: str) -> None:
    """Raise ConfigError where the choice is unknown."""
    settings.check_choice("data.brain", kind, BRAIN)
    settings.check_choice("data.extractor", extractor, EXTRACTORS)


def check(kind: str, extractor: str) -> None:
    """Raise ConfigError where the choice is unknown, or the extractor it needs is not installed."""
    check_choice(kind, extractor)
    if kind == "extract":
        check_installed(extractor)


def brain_mask(volume: Volume, kind: str, extractor: str = "deepbet", cache: Path | None = None) -> np.ndarray:
    """Find the brain `[X, Y, Z]` bool of a scan as `kind`, one of BRAIN, says.

    The file `cache` keeps an extracted mask; one of this shape by this extractor is not extracted again. Raises
    ScanError where no mask can be had, ConfigError as `check` does.
    """
    check_choice(kind, extractor)
    if kind == "extract":
        return _extracted(volume, extractor, cache)
    if kind == "nonzero":
        return _nonzero(volume)
    if kind == "head":  # the largest bright region, blurred within slices: a black one beside the head has no head
        smooth = ndimage.gaussian_filter(volume.voxels, (1.0, 1.0, 0.0))
        return _solid(smooth > 0.15 * np.percentile(smooth, 98), 1.0)
    if volume.brain is None:
        raise ScanError("there is no brain mask file; data.brain='extract', 'nonzero' or 'head' does without one.")
    return volume.brain


def _nonzero(volume: Volume) -> np.ndarray:
    inside = volume.voxels != 0
    whole_head = "can be in a skull-stripped scan; for a whole head set data.brain='extract' or 'head'."
    if (share := inside.mean()) > STRIPPED:
        raise ScanError(f"{share:.1%} of the voxels are not zero, at most {STRIPPED:.0%} {whole_head}")
    mask = _solid(inside, FRAGMENT)
    if (found := millilitres(mask, volume)) > LARGEST_ML:
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
    if cache is None:
        return extract(volume, extractor)
    if (kept := _kept(cache, volume.voxels.shape, extractor)) is not None:
        return kept
    mask = extract(volume, extractor)
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

"""One volume to normalised axial slices, their masks, and what is known of each."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage

from symnorm_jax.data import midline
from symnorm_jax.data.geometry import AXIAL, voxel_sizes
from symnorm_jax.data.volumes import Volume
from symnorm_jax.errors import ConfigError, ScanError

BRAIN = ("file", "nonzero", "head")
TRACE = 0.02  # share of a pixel that is lesion, from which the slice shows a trace of one
BRIGHTEST = 1.5  # intensities are cut here, where 1 is the volume's upper percentile in the brain


class Slices(NamedTuple):
    """The slices kept of one volume, from inferior to superior."""

    arrays: np.ndarray  # [N, X, Y, 3] float16: image, brain (0 or 1), lesion (0 or 1)
    rows: list[dict]  # N manifest entries
    left_out: int  # slices with too little brain


def cut(volume: Volume, healthy: bool, config: ConfigDict) -> Slices:
    """The slices of a volume on the grid of `config` (the `data` section), centred on the mid-line.

    Raises ScanError where no brain mask can be had, or no slice shows enough brain.
    """
    brain = brain_mask(volume, config.brain)
    inside = volume.voxels[brain]
    if inside.size == 0 or inside.min() == inside.max():
        raise ScanError(f"the brain mask covers {inside.size} voxels of one value; a brain with contrast is needed.")
    image = np.where(brain, normalise(volume.voxels, inside, config.percentiles), 0)
    plane = midline.find(image)
    lesion = np.zeros_like(brain) if volume.lesion is None else volume.lesion
    grids = _grids(volume, brain, plane.voxel, config)
    image, brain, lesion = (_resample(volume, array, grids, config) for array in (image, brain, lesion))
    trace = (lesion > TRACE).any((0, 1))  # also of what is too small to survive the new grid, or lies off the brain
    brain, lesion = brain >= 0.5, (lesion >= 0.5) & (brain >= 0.5)
    arrays = np.stack([image * brain, brain, lesion], -1).astype(np.float16)
    rows = _describe(brain, lesion, config)
    _label(rows, trace, healthy, volume.lesion is not None, config)
    kept = [i for i, row in enumerate(rows) if row["brain_mm2"] >= config.min_brain]
    if not kept:
        raise ScanError(f"no slice shows {config.min_brain:g} mm2 of brain; lower data.min_brain or check the mask.")
    shared = {"midline_voxel": plane.voxel, "mirror_similarity": round(plane.similarity, 4)}
    rows = [rows[i] | shared | {"position": rank} for i, rank in zip(kept, _ranks(len(kept)), strict=True)]
    return Slices(np.moveaxis(arrays, AXIAL, 0)[kept], rows, arrays.shape[AXIAL] - len(kept))


def normalise(voxels: np.ndarray, inside: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Intensities scaled so that two percentiles of the brain, `inside` `[N]`, become 0 and 1; cut at BRIGHTEST."""
    low, high = np.percentile(inside, percentiles)
    return np.clip((voxels - low) / max(high - low, np.finfo(np.float32).tiny), 0, BRIGHTEST)


def brain_mask(volume: Volume, kind: str) -> np.ndarray:
    """The brain `[X, Y, Z]` bool, from the mask `file`, the `nonzero` voxels, or the outline of the `head`."""
    if kind == "file":
        if volume.brain is None:
            raise ScanError("there is no brain mask file; data.brain='nonzero' or 'head' does without one.")
        return volume.brain
    if kind == "nonzero":
        return volume.voxels != 0
    if kind == "head":
        return _head(volume.voxels)
    raise ConfigError(f"data.brain={kind!r}; one of {sorted(BRAIN)} is allowed.")


def _head(voxels: np.ndarray) -> np.ndarray:
    """The largest connected bright region with its holes filled slice by slice."""
    smooth = ndimage.gaussian_filter(voxels, 1.0)
    regions, count = ndimage.label(smooth > 0.15 * np.percentile(smooth, 98))
    if count == 0:
        return np.zeros(voxels.shape, bool)
    largest = regions == 1 + np.argmax(np.bincount(regions.ravel())[1:])
    filled = [ndimage.binary_fill_holes(one) for one in np.moveaxis(largest, AXIAL, 0)]
    return np.moveaxis(np.stack(filled), 0, AXIAL)


def _grids(volume: Volume, brain: np.ndarray, plane: float, config: ConfigDict) -> list[np.ndarray]:
    """For each axis, the voxel coordinates at which to sample; in plane, centred on the mid-line and the brain."""
    sizes = voxel_sizes(volume.affine)
    back, front = np.flatnonzero(brain.any((0, AXIAL)))[[0, -1]]
    axes = [
        centre + (np.arange(side) - (side - 1) / 2) * config.spacing / size
        for centre, side, size in zip((plane, (back + front) / 2), config.size, sizes[:2], strict=True)
    ]
    step = config.slice_spacing / sizes[AXIAL] if config.slice_spacing else 1.0
    low, high = np.flatnonzero(brain.any((0, 1)))[[0, -1]]
    return [*axes, np.arange(low, high + 0.5, step)]


def _resample(volume: Volume, array: np.ndarray, grids: list[np.ndarray], config: ConfigDict) -> np.ndarray:
    """Linear interpolation on a grid, after a blur where the grid is coarser than the voxels, lest detail alias."""
    sizes, target = voxel_sizes(volume.affine), (config.spacing, config.spacing, config.slice_spacing)
    sigma = [0.42 * np.sqrt(max((new / old) ** 2 - 1, 0)) for new, old in zip(target, sizes, strict=True)]
    array = ndimage.gaussian_filter(array.astype(np.float32), sigma) if max(sigma) > 0 else array.astype(np.float32)
    return ndimage.map_coordinates(array, np.meshgrid(*grids, indexing="ij"), order=1)


def _describe(brain: np.ndarray, lesion: np.ndarray, config: ConfigDict) -> list[dict]:
    pixel = config.spacing**2
    areas = zip((brain.sum((0, 1)) * pixel).tolist(), (lesion.sum((0, 1)) * pixel).tolist(), strict=True)
    return [{"slice": i, "brain_mm2": brain_area, "lesion_mm2": area} for i, (brain_area, area) in enumerate(areas)]


def _label(rows: list[dict], trace: np.ndarray, healthy: bool, drawn: bool, config: ConfigDict) -> None:
    """Label each slice `abnormal`, `healthy`, or `neither`: with a `trace` `[N]` of lesion, or in the margin of one.

    Where nobody has drawn lesions a slice is what its person is.
    """
    traces = np.flatnonzero(trace)
    for i, row in enumerate(rows):
        if not drawn:
            row["label"] = "healthy" if healthy else "abnormal"
        elif row["lesion_mm2"] >= max(config.min_lesion, config.spacing**2):
            row["label"] = "abnormal"
        else:
            row["label"] = "neither" if (abs(traces - i) <= config.margin).any() else "healthy"


def _ranks(count: int) -> list[float]:
    """Relative height of each of `count` slices, 0 at the lowest with enough brain, 1 at the highest."""
    return np.linspace(0, 1, count).round(4).tolist()

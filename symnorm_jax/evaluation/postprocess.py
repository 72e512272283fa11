"""Difference maps stacked to scans, and the field's post-processing of them as steps that can be left out.

The chain is that of Baur et al., Medical Image Analysis 69:101952 (2021), taken up by cDDPM (Behrendt et al.,
arXiv:2312.04215): the rim of the brain is taken off the map, the map is median filtered in 3-D, and small components
are dropped once it is cut at a threshold. Volumes are `[Z, X, Y]`, slices first.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage

from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.scoring.embed import Arrays

STEPS = ("erode", "median", "components")  # in the order in which they are always taken
CROSS = ndimage.generate_binary_structure(2, 1)[None]  # a pixel and its 4 neighbours within the slice
NEIGHBOURS = np.ones((3, 3, 3))  # a voxel and its 26 neighbours


class PostProcessing(NamedTuple):
    """Which of STEPS are taken, and how far each goes; see `check`."""

    steps: tuple[str, ...]
    erosion: float  # mm taken off the rim of the brain, to the nearest whole pixel
    median: int  # pixels a side of the cube whose median a pixel takes; odd
    smallest: int  # voxels; components with fewer are dropped
    spacing: float  # mm between the pixels of a slice


class Volume(NamedTuple):
    """Slices of one scan in the order of their numbers; a number that is missing in between has no brain."""

    patient: str
    session: str
    values: np.ndarray  # [Z, X, Y] float, larger is more abnormal
    brain: np.ndarray  # [Z, X, Y] bool, the pixels that are judged
    lesion: np.ndarray  # [Z, X, Y] bool
    known: np.ndarray  # [Z] bool: the truth is known, as it is not where an abnormal slice has no drawn lesion
    healthy: np.ndarray  # [Z] bool: labelled healthy


def check(settings: PostProcessing) -> PostProcessing:
    """The settings themselves. Raises ConfigError for a step or a number that is not allowed."""
    steps, erosion, size, smallest, _ = settings
    if list(steps) != [step for step in STEPS if step in steps]:
        raise ConfigError(f"The post-processing steps are {tuple(steps)}; any of {STEPS} in this order are allowed.")
    if not (erosion >= 0 and smallest >= 0 and size >= 1 and size % 2 == 1):
        found = f"erosion={erosion}, median={size}, smallest={smallest}"
        raise ConfigError(f"The post-processing has {found}; mm from 0, an odd size and voxels from 0 are allowed.")
    return settings


def volumes(arrays: Arrays, rows: pd.DataFrame, values: np.ndarray) -> list[Volume]:
    """The scans in `values` `[N, X, Y]`, with `brain` and `lesion` `[N, X, Y]` of the arrays, by patient and session.

    `rows` are the N lines of the score table that belong to them, in the same order, which may be any. Raises RunError
    where a pixel of the brain has no finite value.
    """
    within = values[arrays["brain"]]
    if bad := int((~np.isfinite(within)).sum()):
        raise RunError(f"{bad} of {within.size} brain pixels of a map are NaN or infinite; every one must be finite.")
    scans = rows.reset_index(drop=True).groupby(["patient", "session"])
    return [_stack(scan, rows.iloc[place], arrays, values, place) for scan, place in sorted(scans.indices.items())]


def erode(brain: np.ndarray, mm: float, spacing: float) -> np.ndarray:
    """The brain `[Z, X, Y]` less a rim of `mm`, slice by slice; the edge of the picture is a rim too."""
    pixels = int(mm / spacing + 0.5)
    return ndimage.binary_erosion(brain, CROSS, iterations=pixels) if pixels else brain


def median(values: np.ndarray, brain: np.ndarray, size: int) -> np.ndarray:
    """Each pixel's median over a cube of `size` pixels a side, `[Z, X, Y]`; what is not brain counts as 0, and is 0.

    So a map whose 0 means no difference loses what is thin at the rim, as in the field.
    """
    if not brain.any():
        return np.zeros_like(values)
    box = ndimage.find_objects(brain.astype(int))[0]
    inside = np.where(brain, values, 0)
    inside[box] = ndimage.median_filter(inside[box], size, mode="constant")
    return np.where(brain, inside, 0)


def components(mask: np.ndarray, smallest: int) -> tuple[np.ndarray, int]:
    """26-connected components of a binary map `[Z, X, Y]`, those of fewer than `smallest` voxels dropped.

    Gives a map `[Z, X, Y]` int of the numbers of those that stay, from 1 on, 0 elsewhere; and how many stay.
    """
    labels, count = ndimage.label(mask, NEIGHBOURS)
    if smallest <= 1:
        return labels, count
    large = np.bincount(labels.ravel()) >= smallest
    large[0] = False  # what is in no component
    return (np.cumsum(large) * large)[labels], int(large.sum())


def processed(volume: Volume, settings: PostProcessing) -> Volume:
    """The scan after the steps that make a map of a map, float32; values are -inf where nothing can be called.

    That is outside the brain and on its eroded rim, whose pixels are still judged: a lesion there is missed. Slices
    whose truth is not known are filtered with the others, and then are no brain. Cut to the box of the brain.
    """
    kept, values = volume.brain, volume.values.astype(np.float32)
    if "erode" in settings.steps:
        kept = erode(kept, settings.erosion, settings.spacing)
    if "median" in settings.steps:
        values = median(values, kept, settings.median)
    judged = volume.brain & volume.known[:, None, None]
    return _cut(volume._replace(values=np.where(kept & judged, values, np.float32(-np.inf)), brain=judged))


def called(volume: Volume, threshold: float, settings: PostProcessing) -> np.ndarray:
    """What a processed scan shows at or above a threshold, `[Z, X, Y]` bool, less small components if they go."""
    if "components" not in settings.steps:
        return volume.values >= np.float64(threshold)
    return called_components(volume, threshold, settings)[0] > 0


def called_components(volume: Volume, threshold: float, settings: PostProcessing) -> tuple[np.ndarray, int]:
    """The `components` of the same."""
    smallest = settings.smallest if "components" in settings.steps else 0
    return components(volume.values >= np.float64(threshold), smallest)


def _cut(volume: Volume) -> Volume:
    for box in ndimage.find_objects(volume.brain.astype(int)):
        pictures = {name: getattr(volume, name)[box] for name in ("values", "brain", "lesion")}
        return volume._replace(**pictures, known=volume.known[box[0]], healthy=volume.healthy[box[0]])
    return volume


def _stack(scan: tuple[str, str], rows: pd.DataFrame, arrays: Arrays, values: np.ndarray, place: np.ndarray) -> Volume:
    number = rows.slice.to_numpy() - rows.slice.min()

    def stacked(x: np.ndarray, dtype: type = bool) -> np.ndarray:
        filled = np.zeros((number.max() + 1, *x.shape[1:]), dtype)
        filled[number] = x
        return filled

    masks = [stacked(arrays[name][place]) for name in ("brain", "lesion")]
    known = (rows.label != "abnormal") | (rows.lesion_mm2 > 0)
    about = [stacked(column.to_numpy()) for column in (known, rows.label == "healthy")]
    return Volume(*scan, stacked(values[place], values.dtype), *masks, *about)

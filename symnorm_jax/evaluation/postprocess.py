"""Difference maps stacked to scans `[Z, X, Y]`, and the field's post-processing of them as steps that can be left out.

They are as in Baur et al., Medical Image Analysis 69:101952 (2021), and cDDPM (Behrendt et al., arXiv:2312.04215):
the brain loses its rim, the map is median filtered in 3-D, and, cut at a threshold, loses its small components.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.evaluation.histograms import lowest_rank, ranks
from symnorm_jax.geometry import AXIAL
from symnorm_jax.scoring.embed import Arrays

STEPS = ("erode", "median", "components")  # in the order in which they are always taken
NEIGHBOURS = np.ones((3, 3, 3))  # a voxel and its 26 neighbours: voxels that touch at a corner are in one component
AFTER = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]  # to the half that follow in C order
CROSS = ndimage.generate_binary_structure(2, 1)[None]  # a pixel and its 4 neighbours within the slice


class PostProcessing(NamedTuple):
    """Which of STEPS are taken, and how far each goes; see `check`."""

    steps: tuple[str, ...]
    erosion: float  # mm taken off the rim of the brain, to the nearest whole pixel
    median: int  # pixels a side of the cube whose median a pixel takes; odd
    smallest: int  # voxels; components with fewer are dropped
    spacing: float  # mm between the pixels of a slice


class MapStack(NamedTuple):
    """The slices of one scan in the order of their numbers; a number that is missing in between has no brain."""

    patient: str
    values: np.ndarray  # [Z, X, Y] float16, larger is more abnormal
    brain: np.ndarray  # [Z, X, Y] bool, the pixels that are judged
    lesion: np.ndarray  # [Z, X, Y] bool
    known: np.ndarray  # [Z] bool: the truth is known, as it is not where an abnormal slice has no drawn lesion
    healthy: np.ndarray  # [Z] bool: labelled healthy


Stacks = list[MapStack]


def chain(config: ConfigDict) -> PostProcessing:
    """Give the post-processing that a config asks for. Raises ConfigError for what is not allowed."""
    steps, *sizes = (config.evaluation[key] for key in ("postprocess", "erosion", "median", "smallest"))
    return check(PostProcessing(steps, *sizes, config.data.spacing))


def check(settings: PostProcessing) -> PostProcessing:
    """Give the settings back. Raises ConfigError for a step or a number that is not allowed."""
    steps, erosion, size, smallest, _ = settings
    if list(steps) != [step for step in STEPS if step in steps]:
        raise ConfigError(f"The post-processing steps are {tuple(steps)}; any of {STEPS} in this order are allowed.")
    if not (erosion >= 0 and smallest >= 0 and size >= 1 and size % 2 == 1):
        found = f"erosion={erosion}, median={size}, smallest={smallest}"
        raise ConfigError(f"The post-processing has {found}; mm from 0, an odd size and voxels from 0 are allowed.")
    return settings


def stacks(arrays: Arrays, rows: pd.DataFrame, values: np.ndarray) -> Stacks:
    """Stack `values`, `brain`, `lesion` `[N, X, Y]` of `rows` to scans; of volumes `[N, X, Y, Z]` each is one.

    Raises RunError for brain not finite.
    """
    within = values[arrays["brain"]]
    if bad := int((~np.isfinite(within)).sum()):
        raise RunError(f"{bad} of {within.size} brain pixels of a map are NaN or infinite; every one must be finite.")
    planes = values, arrays["brain"], arrays["lesion"], known(rows), (rows.label == "healthy").to_numpy()
    if values.ndim == 4:
        return [_of_volume(row, [x[i] for x in planes]) for i, (_, row) in enumerate(rows.iterrows())]
    number, scans, made = rows.slice.to_numpy(int), rows.groupby(["patient", "session"]).indices, []
    for (patient, _), place in sorted(scans.items()):
        own = number[place] - number[place].min()
        stacked = [np.zeros((own.max() + 1, *plane.shape[1:]), plane.dtype) for plane in planes]
        for filled, plane in zip(stacked, planes, strict=True):
            filled[own] = plane[place]
        made.append(MapStack(patient, *stacked))
    return made


def _of_volume(row: pd.Series, of: list[np.ndarray]) -> MapStack:
    *pictures, known, healthy = of
    turned = [np.moveaxis(x, AXIAL, 0) for x in pictures]
    return MapStack(row.patient, *turned, *(np.full(len(turned[0]), x) for x in (known, healthy)))


def erode(brain: np.ndarray, mm: float, spacing: float) -> np.ndarray:
    """Take a rim of `mm` off the brain `[Z, X, Y]`, slice by slice; the edge of the picture is a rim too."""
    pixels = int(mm / spacing + 0.5)
    return ndimage.binary_erosion(brain, CROSS, iterations=pixels) if pixels else brain


def median(values: np.ndarray, brain: np.ndarray, size: int) -> np.ndarray:
    """Take medians over cubes of `size` pixels, `[Z, X, Y]` float16; outside the brain is 0, as in the field."""
    filtered = ndimage.median_filter(np.where(brain, values, 0).astype(np.float32), size, mode="constant")
    return np.where(brain, filtered, 0).astype(np.float16)


def processed(stack: MapStack, settings: PostProcessing) -> MapStack:
    """Take the steps that make a map of a map, cut to the box of the brain; -inf where nothing can be called.

    That is outside the brain and on its rim, still judged: a lesion there is missed. Unknown slices end as no brain.
    """
    for box in ndimage.find_objects(stack.brain.view(np.int8)):
        pictures = {name: getattr(stack, name)[box] for name in ("values", "brain", "lesion")}
        stack = stack._replace(**pictures, known=stack.known[box[0]], healthy=stack.healthy[box[0]])
    kept, values = stack.brain & np.isfinite(stack.values), stack.values
    if "erode" in settings.steps:
        kept = erode(kept, settings.erosion, settings.spacing)
    if "median" in settings.steps:
        values = median(values, kept, settings.median)
    sure = stack.known[:, None, None]
    return stack._replace(values=np.where(kept & sure, values, np.float16(-np.inf)), brain=stack.brain & sure)


def called_voxels(stack: MapStack, threshold: float, settings: PostProcessing) -> np.ndarray:
    """Mark what a processed scan shows at or above a threshold, `[Z, X, Y]` bool, less small components if they go."""
    shown = ranks(stack.values) >= lowest_rank(threshold)
    return components(shown, settings.smallest)[0] > 0 if "components" in settings.steps else shown


def known(rows: pd.DataFrame) -> np.ndarray:
    """Tell whether the truth of each slice is known, `[N]`, as it is not where an abnormal one has no drawn lesion."""
    return ((rows.label != "abnormal") | (rows.lesion_mm2 > 0)).to_numpy()


def components(mask: np.ndarray, smallest: int) -> tuple[np.ndarray, int]:
    """Number components `[Z, X, Y]` from 1, 0 elsewhere, without those below `smallest` voxels, and count them."""
    labels, count = ndimage.label(mask, NEIGHBOURS) if mask.any() else (np.zeros(mask.shape, np.int32), 0)
    if smallest <= 1:
        return labels, count
    large = np.bincount(labels.ravel()) >= smallest
    large[0] = False  # what is in no component
    return (np.cumsum(large) * large)[labels], int(large.sum())


def touching(mask: np.ndarray) -> np.ndarray:
    """List the pairs `[2, E]` of true voxels that touch, as their numbers in C order."""
    padded = np.pad(mask, 1)
    _, width, depth = padded.shape
    place = np.flatnonzero(padded)
    number = np.full(padded.size, -1, np.int32)
    number[place] = np.arange(len(place))
    near = number[place[:, None] + [(z * width + x) * depth + y for z, x, y in AFTER]]
    return np.stack([np.nonzero(near >= 0)[0], near[near >= 0]])


def grown(level: np.ndarray, pairs: np.ndarray, levels: int) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Join voxels `[M]` to components as they appear, each at its level `[M]`; pairs `[2, E]` touch.

    Gives, for each of the `levels` in turn, the voxels `[n]` there, the component `[n]` of each, and how many there
    are.
    """
    there = np.argsort(level, kind="stable")
    place = np.empty_like(there)
    place[there] = np.arange(len(there))
    pairs = place[pairs]
    pairs = pairs[:, np.argsort(pairs.max(0))]
    ends = np.searchsorted(level[there], np.arange(levels), side="right")
    component, count, start = np.empty(0, int), 0, 0
    for end, stop in zip(ends, np.searchsorted(pairs.max(0), ends), strict=True):
        component = np.concatenate([component, count + np.arange(end - len(component))])
        count = component.max(initial=-1) + 1
        joined = component[pairs[:, start:stop]]
        graph = coo_array((np.ones(stop - start, bool), tuple(joined)), (count, count))
        count, label = connected_components(graph, directed=False)
        component, start = label[component], stop
        yield there[:end], component, count

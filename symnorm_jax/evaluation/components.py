"""Connected components of binary maps `[Z, X, Y]`: voxels that touch, be it at a corner, are in one (26-connected).

A map cut at many thresholds is not labelled anew at each: from the highest threshold down, voxels join what they touch.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NEIGHBOURS = np.ones((3, 3, 3))  # a voxel and its 26 neighbours
AFTER = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]  # to the half that follow in C order


def components(mask: np.ndarray, smallest: int) -> tuple[np.ndarray, int]:
    """Number the components of a binary map `[Z, X, Y]`, but for those of fewer than `smallest` voxels.

    Gives a map `[Z, X, Y]` int of the numbers, from 1 on, 0 elsewhere; and how many there are.
    """
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
    """Join voxels `[M]` to components as they appear, each at its level `[M]`; those of pairs `[2, E]` touch.

    Gives, for each of the `levels` in turn, the voxels `[n]` that are there, the component `[n]` of each, from 0 on,
    and how many components there are.
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

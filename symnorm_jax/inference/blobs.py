"""What a map shows above its threshold, as numbered blobs in the voxels of the scan."""

from typing import Any

import numpy as np
from scipy import ndimage

from symnorm_jax.channels import MAP, channels_of
from symnorm_jax.evaluation.postprocess import called_voxels, chain, components, processed, stacks
from symnorm_jax.geometry import AXIAL, voxel_sizes
from symnorm_jax.inference.model import Model
from symnorm_jax.inference.native import volume
from symnorm_jax.inference.reading import Prepared
from symnorm_jax.scoring.embed import Arrays
from symnorm_jax.standardise import SIGNS
from symnorm_jax.systems.segmentation import SEGMENT

RULES = ("dice", "fpr_5")  # of thresholds of maps; the first that validation could fit is taken
RESIDUALS = "healthy residuals"  # what maps of slices are measured in
CHANCE = "chance of lesion"  # and those of networks that mark lesions
MOST = 2**16 - 1  # blobs that a file of labels can hold


def back(made: Prepared, values: np.ndarray, order: int = 1) -> np.ndarray:
    """Carry `[N, X, Y]`, or a volume `[1, X, Y, Z]`, to the voxels of the brain's box, 0 outside the brain."""
    corner = [part.start for part in made.box]
    return volume(values, made.rows, made.about, made.brain.shape, order, corner) * made.brain


def map_threshold(model: Model) -> float | None:
    """Give the threshold of the model's maps; None where validation could fit none."""
    fitted = [model.thresholds["pixel"][rule]["value"] for rule in RULES]
    return next((value for value in fitted if value is not None), None)


def unit_of(model: Model) -> str:
    """Say what a map is measured in; one of volumes is not held against healthy people."""
    if model.healthy:
        return RESIDUALS
    return CHANCE if SEGMENT in model.system.stages else f"values of {model.config.system}"


def kind_of(model: Model) -> str:
    """Name the sign, of SIGNS, a lesion is expected in; `signed` of several contrasts, whose map is in it already."""
    if model.healthy is None:
        return "positive"
    kinds = [how.kind for how in channels_of(model.config).values()]
    return kinds[0] if len(kinds) == 1 else "signed"


def found(made: Prepared, arrays: Arrays, shown: np.ndarray, model: Model) -> tuple:
    """Number what the map of `arrays` shows, the largest first: `[X, Y, Z]` uint16 in the box, and a list.

    `shown` `[X, Y, Z]` is the map in the box, of slices with its sign. Of each blob the list has `label`, `ml`, the
    `peak` in the unit of the map and its place `peak_mm`, RAS+ in the scan's own space.
    """
    threshold, labels = map_threshold(model), np.zeros(made.brain.shape, np.uint16)
    if threshold is None:
        return labels, []
    numbers = back(made, _numbered(made, arrays, threshold, model), order=0).astype(int)
    sizes = np.bincount(numbers.ravel())[1:]
    order = [one for one in np.argsort(-sizes, kind="stable") if sizes[one]][:MOST]
    rank = np.zeros(len(sizes) + 1, np.uint16)
    rank[np.array(order, int) + 1] = np.arange(1, len(order) + 1)
    labels, strength = rank[numbers], np.abs(SIGNS[kind_of(model)](shown))
    each = range(1, len(order) + 1)
    corner, litre = [part.start for part in made.box], voxel_sizes(made.affine).prod() / 1000
    peaks = ndimage.maximum_position(strength, labels, each) if order else []
    return labels, [
        _described(label, sizes[one] * litre, strength[place], made.affine @ [*np.add(place, corner), 1])
        for label, one, place in zip(each, order, peaks, strict=True)
    ]


def _described(label: int, ml: float, peak: float, place: np.ndarray) -> dict[str, Any]:
    return {"label": label, "ml": round(float(ml), 4), "peak": float(peak), "peak_mm": place[:3].round(1).tolist()}


def _numbered(made: Prepared, arrays: Arrays, threshold: float, model: Model) -> np.ndarray:
    """Number the components of a map `[N, *S]` above a threshold, post-processed as the model was evaluated."""
    settings, number = chain(model.config), made.rows.slice.to_numpy(int)
    [stack] = stacks(arrays, made.rows, arrays[MAP])
    shown, [box] = np.zeros(stack.brain.shape, bool), ndimage.find_objects(stack.brain.view(np.int8))
    shown[box] = called_voxels(processed(stack, settings), threshold, settings)
    numbers = components(shown, 0)[0]
    return np.moveaxis(numbers, 0, AXIAL)[None] if arrays[MAP].ndim == 4 else numbers[number - number.min()]

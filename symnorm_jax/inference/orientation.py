"""Which way round is a head? A scan against the mean of training scans, as its header says and turned.

What is compared is coarse, some 20 mm a cell, so that the mean that travels in a model shows nobody. A brain and its
mirror image are alike, so an exchange of left and right is not found.
"""

from itertools import permutations, product

import numpy as np
from scipy import ndimage

from symnorm_jax.geometry import LEFT_RIGHT

SIDE = 8  # cells
TURNS = [  # the 24 ways to lie along the axes, mirrored or not, the one of the header first
    (axes, tuple(slice(None, None, sign) for sign in signs))
    for axes in permutations(range(3))
    for signs in product((1, -1), repeat=3)
    if signs[LEFT_RIGHT] == 1
]


def cells(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Make the brain's box, of `image` and of the mask `brain`, `[X, Y, Z]`, cells `[2, SIDE, SIDE, SIDE]`.

    Each of the two is standardised, for it is their pattern that tells.
    """
    [box] = ndimage.find_objects(brain.view(np.int8))
    return np.stack([_standardised(_coarse(x[box].astype(np.float32))) for x in (image * brain, brain)])


def upright(own: np.ndarray, mean: np.ndarray) -> float:
    """Measure the correlation of `cells` with the `mean` of training, less that of the best of all other turns."""
    turned = np.stack([np.stack([x.transpose(axes)[signs] for x in own]).ravel() for axes, signs in TURNS])
    found = turned @ np.ravel(mean) / (np.linalg.norm(own) * np.linalg.norm(mean))
    return float(found[0] - found[1:].max())


def _coarse(values: np.ndarray) -> np.ndarray:
    pace = np.array(values.shape) / SIDE
    blurred = ndimage.gaussian_filter(values, 0.42 * np.sqrt(np.maximum(pace**2 - 1, 0)))  # lest detail alias
    return ndimage.zoom(blurred, 1 / pace, order=1, grid_mode=True, mode="nearest")


def _standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / max(float(values.std()), np.finfo(np.float32).tiny)

"""Where tissues lie in people's heads: the maps of MNI152 that come with nilearn, in the box of a brain."""

from functools import lru_cache

import numpy as np
from scipy import ndimage

from symnorm_jax.data.phantom.anatomy import mni_maps
from symnorm_jax.data.phantom.planting import to_mni

BLUR_MM = 4.0  # the standard deviation by which people differ from the box's fit
FLOOR = 0.02  # share of any tissue anywhere in a brain


def shares(brain: np.ndarray) -> np.ndarray:
    """Lay fluid, grey and white matter into the box of a `brain` `[X, Y, Z]`, along its axes: `[3, X, Y, Z]`, sum 1."""
    index = np.eye(4)
    index[:3, 3] = -mni_maps().origin
    matrix = index @ to_mni(brain)
    laid = [ndimage.affine_transform(each, matrix, output_shape=brain.shape, order=1) for each in _blurred()]
    grey, white = (np.clip(each, 0, 1) for each in laid)
    found = np.maximum([1 - grey - white, grey, white], FLOOR)
    return (found / found.sum(0)).astype(np.float32)


@lru_cache(maxsize=1)
def _blurred() -> tuple[np.ndarray, np.ndarray]:
    return tuple(ndimage.gaussian_filter(each, BLUR_MM) for each in (mni_maps().grey, mni_maps().white))

"""The mirror-symmetric MNI152 tissue maps that nilearn ships, and what is read from them."""

import functools
from typing import NamedTuple

import numpy as np
from nilearn import datasets
from scipy import ndimage

BRAIN_CENTRE = np.array([0.0, -18.0, 8.0])  # mm in MNI space, at the centre of the field of view


class TissueMaps(NamedTuple):
    """MNI maps `[X, Y, Z]` float32 on a 1 mm grid."""

    grey: np.ndarray
    white: np.ndarray
    brain: np.ndarray
    origin: np.ndarray  # [3] mm of the first voxel


@functools.lru_cache(maxsize=1)
def mni_maps() -> TissueMaps:
    """Load the maps, cropped to the brain."""
    kinds = ("gm_template", "wm_template", "brain_mask")
    images = [getattr(datasets, f"load_mni152_{kind}")(resolution=1) for kind in kinds]
    maps = [image.get_fdata(dtype=np.float32) for image in images]
    (box,) = ndimage.find_objects((maps[2] > 0).astype(np.uint8))
    box = tuple(slice(max(side.start - 4, 0), side.stop + 4) for side in box)
    origin = images[0].affine[:3, 3] + [side.start for side in box]
    return TissueMaps(*(np.ascontiguousarray(each[box]) for each in maps), origin)


@functools.lru_cache(maxsize=2)
def maps_at(spacing: float) -> TissueMaps:
    """Blur the maps to what a voxel of `spacing` mm holds, so that coarse heads are not aliased."""
    sigma = spacing / np.sqrt(12)  # of a box of that width
    *maps, origin = mni_maps()
    return TissueMaps(*(ndimage.gaussian_filter(each, sigma, mode="nearest") for each in maps), origin)


@functools.lru_cache(maxsize=1)
def fluid_gradient() -> np.ndarray:
    """Compute the direction towards nearby fluid `[3, X, Y, Z]`, about 1 long beside a wide space, 0 far from any."""
    fluid = 1 - mni_maps().grey - mni_maps().white  # also outside the brain, so the cortex recedes from the skull
    blurred = [ndimage.gaussian_filter(fluid, sigma) for sigma in (2.0, 4.0)]  # mm, as for sulci and ventricles
    return 3.0 * np.stack(np.gradient(blurred[0] + 2 * blurred[1]))


def sample(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Interpolate a map linearly at `places` `[3, N]` in MNI mm."""
    index = places - mni_maps().origin[:, None]
    # "nearest" carries the brain stem on where the maps are cut off below; their other sides are empty.
    return ndimage.map_coordinates(image, index, np.float32, order=1, mode="nearest")

"""Contradictions of a release, one at a time, by the parts that it has: each must be refused, flagged or read right."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from scans_release import Release

Change = Callable[[np.random.Generator, Release], list[Path]]


class Kind(NamedTuple):
    """One contradiction: what it needs of a release, and what makes it; this returns what was changed."""

    name: str
    part: str
    change: Change
    sources: tuple[str, ...] = ()  # all where it names none

    def fits(self, release: Release) -> bool:
        return self.part in release.parts and (not self.sources or release.source in self.sources)


CATALOGUE: list[Kind] = []


def of(*parts: str, sources: tuple[str, ...] = ()):
    """Enter a function of (rng, release, files of a part) in the catalogue, once for each of the `parts`."""

    def enter(function):
        for part in parts:
            name = f"{part}: {function.__name__.replace('_', ' ').strip()}"

            def change(rng, release, part=part):
                changed = function(rng, release, release.parts[part])
                return changed or release.parts[part]

            CATALOGUE.append(Kind(name, part, change, sources))
        return function

    return enter


MASKS = ("lesion", "brain")
LISTED = ("adni", "bids", "brainmetshare", "brats", "dicom", "ixi", "oasis", "open_ms", "table")  # folder takes all


# The values of NIfTI files. A function of the generator and the values, stored anew on the grid that the file has.


def values(*parts: str):
    def enter(function):
        def changed(rng, release, paths):
            store_again(paths[0], function(rng, np.asarray(nib.load(paths[0]).dataobj)))

        changed.__name__ = function.__name__
        of(*parts)(changed)
        return function

    return enter


def store_again(path: Path, array: np.ndarray, affine=None) -> None:
    """Store other values in the place of a file's, with its header but for their type, and perhaps on another grid."""
    array, old = np.array(array), nib.load(path)  # a copy: what is mapped from the file would go with it
    if isinstance(old, nib.Nifti1Image):
        image = nib.Nifti1Image(array, old.affine if affine is None else affine, None)
        if affine is None:
            image.set_qform(old.affine, int(old.header["qform_code"]))
            image.set_sform(old.affine, int(old.header["sform_code"]))
    else:
        header = old.header.copy()
        header.set_data_dtype(array.dtype)
        image = nib.AnalyzeImage(array, None, header)
    nib.save(image, path)


@values(*MASKS)
def soft(rng, mask):
    return np.where(mask > 0, rng.uniform(0.05, 1, mask.shape), 0).astype(np.float32)


@values(*MASKS)
def soft_border_and_a_floor(rng, mask):
    return np.where(mask > 0, 0.9, rng.uniform(0, 0.2, mask.shape)).astype(np.float32)


@values(*MASKS, "labels", "regions")
def negative(rng, mask):
    return (mask - 1.0 * (rng.random(mask.shape) < 0.01)).astype(np.float32)


@values(*MASKS)
def in_a_signed_byte(rng, mask):
    return np.where(mask > 0, -1, 0).astype(np.int8)


@values(*MASKS)
def three_values(rng, mask):
    return np.where(mask > 0, rng.integers(1, 3, mask.shape), 0).astype(np.uint8)


@values(*MASKS)
def all_ones(rng, mask):
    return np.ones(mask.shape, np.uint8)


@values(*MASKS)
def inverted(rng, mask):
    return (mask < mask.max() / 2).astype(np.uint8)


@values(*MASKS, "regions")
def empty(rng, mask):
    return np.zeros(mask.shape, np.uint8)


@values("brain")
def a_speck(rng, mask):
    speck = np.zeros(mask.shape, np.uint8)
    speck[tuple(side // 2 for side in mask.shape)] = speck[tuple(side // 2 - 1 for side in mask.shape)] = 1
    return speck


@values(*MASKS)
def one_and_two(rng, mask):
    return (1 + (mask > mask.max() / 2)).astype(np.uint8)


@values(*MASKS)
def a_residue_alone(rng, mask):
    return (1e-6 * rng.random(mask.shape)).astype(np.float32)


@values(*MASKS)
def noise_of_a_hundredth(rng, mask):
    return ((mask > 0) + rng.normal(0, 0.01, mask.shape)).astype(np.float32)


@values(*MASKS)
def an_image_in_its_place(rng, mask):
    return rng.integers(0, 255, mask.shape).astype(np.uint8)


@values(*MASKS, "image", "analyze", "labels", "regions")
def not_a_number(rng, array):
    array = array.astype(np.float32)
    array[tuple(side // 2 for side in array.shape)] = rng.choice([np.nan, np.inf, -np.inf])
    return array


@values(*MASKS, "image", "analyze", "labels", "regions")
def four_dimensions(rng, array):
    array = array.reshape(array.shape[:3]).astype(np.float32)
    return np.stack([array, array[::-1]], -1)


@values("image", "analyze")
def flat(rng, array):
    return np.full(array.shape, 7, np.int16)


@values("image", "analyze")
def complex_numbers(rng, array):
    return array.astype(np.complex64)


@values("labels")
def a_label_beyond(rng, labels):
    return np.where(labels > 0, rng.choice([5, 255]), 0).astype(np.uint8)


@values("labels")
def labels_of_two_releases(rng, labels):
    return np.where(labels > 0, rng.integers(3, 5, labels.shape), 0).astype(np.uint8)


@values("labels", "regions")
def labels_resampled(rng, labels):
    return (labels * rng.uniform(0.7, 1, labels.shape)).astype(np.float32)

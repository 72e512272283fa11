"""Contradictions of a release, one at a time, by the parts that it has: each must be refused, flagged or read right."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from scans import patch
from scans_layouts import Release

from symnorm_jax.geometry import voxel_sizes

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
    speck[tuple(slice(side // 2, side // 2 + 2) for side in mask.shape)] = 1
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


# Grids and headers.


@of(*MASKS, "labels", "regions")
def a_shifted_grid(rng, release, paths):
    image = nib.load(paths[0])
    affine = image.affine.copy()
    affine[rng.integers(3), 3] += rng.choice([-1, 1]) * rng.choice([0.5, 2, 15])
    store_again(paths[0], np.asarray(image.dataobj), affine)


@of(*MASKS, "labels", "regions")
def a_scaled_grid(rng, release, paths):
    image = nib.load(paths[0])
    store_again(
        paths[0],
        np.asarray(image.dataobj),
        image.affine @ np.diag([*rng.choice([0.98, 1, 1.05], 3), 1]) * [1, 1.01, 1, 1],
    )


@of(*MASKS, "labels", "regions")
def axes_flipped_in_the_header(rng, release, paths):
    image = nib.load(paths[0])
    store_again(paths[0], np.asarray(image.dataobj), image.affine @ np.diag([*rng.permutation([-1, 1, 1]), 1]))


@of(*MASKS, "labels", "regions")
def axes_exchanged_in_the_header(rng, release, paths):
    image = nib.load(paths[0])
    store_again(paths[0], np.asarray(image.dataobj), image.affine[:, [1, 0, 2, 3]])


@of(*MASKS, "labels", "regions")
def a_slice_short(rng, release, paths):
    image = nib.load(paths[0])
    store_again(paths[0], np.asarray(image.dataobj)[:, :, :-1], image.affine)


def headers(function):
    """Enter a function of (rng, header, affine) that changes the header of the image, or of all files with its grid."""

    def changed(rng, release, paths):
        alike = (*MASKS, "labels", "regions") if rng.random() < 0.5 else ()
        seed, also = rng.integers(1 << 30), [release.parts[part][0] for part in alike if part in release.parts]
        for path in (paths[0], *also):
            affine = nib.load(path).affine
            patch(path, lambda header, affine=affine: function(np.random.default_rng(seed), header, affine))

    changed.__name__ = function.__name__
    of("image")(changed)
    return function


def both(header, sform, qform) -> None:
    header.set_qform(qform, 1)
    header.set_sform(sform, 1)


@headers
def forms_of_two_sizes(rng, header, affine):
    both(header, affine @ np.diag([*rng.permutation([1.5, 1, 1]), 1]), affine)


@headers
def forms_of_two_sides(rng, header, affine):
    both(header, np.diag([-1, 1, 1, 1]) @ affine, affine)


@headers
def forms_of_two_orders(rng, header, affine):
    both(header, affine[[1, 2, 0, 3]], affine)


@headers
def forms_apart(rng, header, affine):
    moved = affine.copy()
    moved[rng.integers(3), 3] += 40
    both(header, moved, affine)


@headers
def pixdim_of_another_size(rng, header, affine):
    header.set_sform(affine, 1)
    header["qform_code"] = 0
    header["pixdim"][1:4] = voxel_sizes(affine) * rng.choice([0.5, 1.5, 2])


@headers
def sheared(rng, header, affine):
    shear = np.eye(4)
    shear[0, 1 + rng.integers(2)] = rng.choice([-1, 1]) * rng.uniform(0.1, 0.4)
    header["qform_code"] = 0
    header.set_sform(affine @ shear, 1)
    header["pixdim"][1:4] = voxel_sizes(affine @ shear)


@headers
def no_codes(rng, header, affine):
    header["sform_code"] = header["qform_code"] = 0


@headers
def another_unit(rng, header, affine):
    header.set_xyzt_units(rng.choice(["meter", "micron"]))


@headers
def no_number_in_the_affine(rng, header, affine):
    header.set_sform(affine, 1)
    header["srow_x"][rng.integers(4)] = rng.choice([np.nan, np.inf])


@headers
def no_rotation(rng, header, affine):
    header["sform_code"], header["qform_code"] = 0, 1
    header["quatern_b"] = header["quatern_c"] = 0.9


@headers
def an_infinite_slope(rng, header, affine):
    header["scl_slope"], header["scl_inter"] = np.inf, 0


@headers
def voxels_of_no_size(rng, header, affine):
    header.set_sform(affine @ np.diag([0, 1, 1, 1]), 1)


@headers
def more_volumes_than_there_are(rng, header, affine):
    header["dim"][0], header["dim"][4] = 4, 3


# Files that are not where, or what, they should be.


@of("image", "analyze", "lesion", "brain", "labels", "regions")
def a_dead_link(rng, release, paths):
    paths[0].unlink()
    paths[0].symlink_to("elsewhere.nii.gz")


@of("image", "lesion", "brain", "labels", "regions")
def half_a_file(rng, release, paths):
    data = paths[0].read_bytes()
    paths[0].write_bytes(data[: len(data) // 2])


@of("lesion", "brain", "labels", "regions")
def a_name_that_fits_nothing(rng, release, paths):
    new = paths[0].with_name(
        paths[0].name.replace(rng.choice(["-", "_", "s", "e"]), "x", 1).replace(".nii", "1_mask.nii", 1)
    )
    paths[0].rename(new)
    return [*paths, new]


@of("image", sources=LISTED)
def an_image_of_another_name(rng, release, paths):
    name = paths[0].name
    start, end = name[: name.index(".nii")], name[name.index(".nii") :]
    new = paths[0].with_name(str(rng.choice([f"{start} 2{end}", f"{start}_T2{end}", start + end.upper()])))
    paths[0].rename(new)
    return [*paths, new]


@of("image", "lesion", "labels", "regions", sources=LISTED)
def two_copies_that_differ(rng, release, paths):
    image, end = nib.load(paths[0]), ".nii.gz" if paths[0].suffix == ".nii" else ".nii"
    copy = paths[0].with_name(paths[0].name[: paths[0].name.index(".nii")] + end)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1].astype(np.float32), image.affine), copy)
    return [*paths, copy]


@of("image", "lesion", "brain", "labels", "regions", sources=LISTED)
def a_folder_in_its_place(rng, release, paths):
    paths[0].unlink()
    paths[0].mkdir()


@of("lesion", "labels")
def missing_where_others_have_one(rng, release, paths):
    paths[0].unlink()


@of("lesion", sources=("bids",))
def another_session_in_its_name(rng, release, paths):
    name = paths[0].name
    other = name.replace("_ses-1", "_ses-2") if "_ses-1" in name else name.replace("_", "_ses-3_", 1)
    new = paths[0].with_name(other)
    paths[0].rename(new)
    return [*paths, new]


@of("lesion", sources=("bids",))
def two_masks_of_one_kind(rng, release, paths):
    new = paths[0].with_name(paths[0].name.replace("label-", "acq-2_label-").replace("desc-", "desc-"))
    shutil.copy(paths[0], new if new != paths[0] else paths[0].parents[1] / paths[0].name)


@of("lesion", sources=("bids",))
def a_folder_that_links_to_its_parent(rng, release, paths):
    (paths[0].parent / "circle").symlink_to(paths[0].parents[1])


@of("image", sources=("bids", "brainmetshare", "brats"))
def the_same_person_by_another_name(rng, release, paths):
    depth = {"bids": len(Path(release.people[-1].name).parts), "brainmetshare": 0, "brats": 0}[release.source]
    person = paths[0].parents[depth]
    plain = person.name
    name = (
        plain.upper()
        if release.source != "bids"
        else "sub-" + plain[4:].upper()
        if plain[4:].upper() != plain[4:]
        else "sub-0" + plain[4:]
    )
    copy = person.with_name(name)
    if name == plain or copy.exists():
        return
    shutil.copytree(person, copy)
    for path in sorted(copy.rglob(f"{plain}*")):
        path.rename(path.with_name(name + path.name.removeprefix(plain)))
    return [*paths, copy]

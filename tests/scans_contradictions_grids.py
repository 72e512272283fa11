"""Contradictions of grids, of headers and of where files lie; see `scans_contradictions`."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
from scans import patch
from scans_contradictions import LISTED, MASKS, of, store_again

from symnorm_jax.geometry import voxel_sizes

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
    # Of axes of one length the file would be as sound as the right one, and nobody could tell.
    pairs = [pair for pair in ((0, 1), (1, 2), (0, 2)) if image.shape[pair[0]] != image.shape[pair[1]]]
    axes = [0, 1, 2, 3]
    for one, other in pairs[:1]:
        axes[one], axes[other] = other, one
    store_again(paths[0], np.asarray(image.dataobj)[:, :, : None if pairs else -1], image.affine[:, axes])


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

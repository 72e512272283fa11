"""Scan files: every stored orientation ends as RAS+, and what cannot be used is refused in one sentence."""

import gzip
import itertools

import nibabel as nib
import numpy as np
import pytest

from symnorm_jax.data.volumes import digest, read_nifti, read_volume
from symnorm_jax.errors import ScanError
from symnorm_jax.geometry import from_picture, mirror, picture, voxel_sizes

ORIENTATIONS = [
    (axes, signs) for axes in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]
LEFT, RIGHT, FRONT, TOP = 1.0, 2.0, 3.0, 4.0


def labelled() -> tuple[np.ndarray, np.ndarray]:
    """An RAS+ array of odd shape with four marked voxels, and its affine."""
    voxels = np.zeros((4, 5, 6), np.float32)
    voxels[0, 2, 2], voxels[3, 2, 2], voxels[1, 4, 2], voxels[1, 2, 5] = LEFT, RIGHT, FRONT, TOP
    return voxels, np.array([[2.0, 0, 0, -3], [0, 1.5, 0, 7], [0, 0, 1, -5], [0, 0, 0, 1]])


def stored(folder, axes, signs) -> str:
    """The labelled volume on disk with its axes permuted and flipped, its affine telling so."""
    voxels, affine = labelled()
    turn = np.array([[axis, sign] for axis, sign in zip(axes, signs, strict=True)])
    image = nib.Nifti1Image(voxels, affine).as_reoriented(turn)
    path = folder / "scan.nii.gz"
    nib.save(image, path)
    return path


@pytest.mark.parametrize("axes, signs", ORIENTATIONS)
def test_all_48_orientations_read_alike_and_mirror_swaps_left_and_right(tmp_path, axes, signs):
    voxels, affine = read_nifti(stored(tmp_path, axes, signs))
    expected, expected_affine = labelled()
    np.testing.assert_array_equal(voxels, expected)
    np.testing.assert_allclose(affine, expected_affine, atol=1e-5)
    np.testing.assert_allclose(voxel_sizes(affine), (2, 1.5, 1), atol=1e-5)
    swapped = mirror(voxels)
    assert swapped[0, 2, 2] == RIGHT and swapped[3, 2, 2] == LEFT
    assert swapped[2, 4, 2] == FRONT and swapped[2, 2, 5] == TOP


def test_a_picture_has_anterior_up_and_left_at_the_left():
    slice_ = np.zeros((4, 5))
    slice_[0, 4] = 1  # left and front
    assert picture(slice_)[0, 0] == 1
    np.testing.assert_array_equal(from_picture(picture(slice_)), slice_)


def test_digest_follows_contents_not_names(tmp_path):
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).write_text(text)
    a, b, c = (digest([tmp_path / name], "recipe") for name in "abc")
    assert a == b != c and a != digest([tmp_path / "a"], "another")


def save(path, voxels=None, affine=None, **header):
    voxels = np.arange(60, dtype=np.float32).reshape(3, 4, 5) if voxels is None else voxels
    image = nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


def truncated(folder):
    path = save(folder / "cut.nii.gz", np.random.default_rng(0).normal(size=(20, 20, 20)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def text(folder):
    path = folder / "text.nii"
    path.write_text("this is not an image")
    return path


def claims_terabytes(folder, shape=(30000, 30000, 30000), name="huge.nii.gz"):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    path = folder / name
    with gzip.open(path, "wb") as file:
        file.write(header.binaryblock + bytes(100))
    return path


def with_nan(folder):
    voxels = np.ones((3, 4, 5), np.float32)
    voxels[1, 1, 1] = np.nan
    return save(folder / "nan.nii.gz", voxels)


REFUSED = {
    "1 of 60 voxels are NaN": with_nan,
    "shape \\(3, 4, 5, 6\\); one three-dimensional volume": lambda f: save(f / "4d.nii", np.ones((3, 4, 5, 6))),
    "every voxel has the value 7": lambda f: save(f / "flat.nii.gz", np.full((3, 4, 5), 7.0)),
    "cannot be read as a NIfTI image": truncated,
    "text.nii: cannot be read": text,
    "no such file": lambda f: f / "absent.nii.gz",
    "at most 134217728 are allowed": claims_terabytes,
    "more than the file's .* bytes can hold": lambda f: claims_terabytes(f, (500, 500, 500), "bomb.nii.gz"),
    "does not span three directions": lambda f: save(
        f / "turned.nii.gz", affine=np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    ),
    "voxel sizes": lambda f: save(f / "sizes.nii.gz", affine=np.diag([500.0, 1, 1, 1])),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_an_unusable_file_is_refused_by_name(tmp_path, sentence):
    path = REFUSED[sentence](tmp_path)
    with pytest.raises(ScanError, match=sentence) as error:
        read_volume(path)
    assert path.name in str(error.value) and "\n" not in str(error.value)


def test_a_claim_of_gigabytes_costs_no_memory(tmp_path):
    import tracemalloc

    path = claims_terabytes(tmp_path, (500, 500, 500))
    tracemalloc.start()
    with pytest.raises(ScanError):
        read_volume(path)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_a_mask_must_share_the_grid_of_its_image(tmp_path):
    image = save(tmp_path / "image.nii.gz")
    for name, mask in (
        ("shape", save(tmp_path / "a.nii.gz", np.ones((3, 4, 4)))),
        ("corners", save(tmp_path / "b.nii.gz", np.ones((3, 4, 5)), np.diag([1, 1, 2.0, 1]))),
    ):
        with pytest.raises(ScanError, match=f"{mask.name}: the mask's? .*{name}|{mask.name}.*{name}"):
            read_volume(image, lesion=mask)

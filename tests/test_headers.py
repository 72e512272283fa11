"""A header that contradicts itself is refused or flagged, and what was believed is told."""

import nibabel as nib
import numpy as np
import pytest
from layouts_lesion import person

from symnorm_jax.data.masks import STRICT
from symnorm_jax.data.volumes import read_volume
from symnorm_jax.errors import ScanError
from symnorm_jax.geometry import corners_apart, skew

FLAG = STRICT._replace(header="flag")
GRID = np.array([[3.0, 0, 0, -30], [0, 3, 0, -36], [0, 0, 3, -24], [0, 0, 0, 1]])


def turned(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) @ GRID


def written(folder, sform=GRID, qform=GRID, codes=(1, 1), units="mm", pixdim=None, name="t1.nii.gz"):
    image = nib.Nifti1Image(person(0)[0], None)
    image.set_qform(qform, codes[1])
    image.header["sform_code"] = codes[0]
    for row, values in zip(("srow_x", "srow_y", "srow_z"), sform, strict=False):
        image.header[row] = values
    if pixdim:
        image.header["pixdim"][1:4] = pixdim
    image.header.set_xyzt_units(units)
    # As a file holds it: nibabel would make sform and qform agree again.
    raw = image.header.copy()
    raw.set_data_shape(image.shape)
    raw["vox_offset"], raw["scl_slope"], raw["scl_inter"] = 352, 1, 0
    path = folder / name.removesuffix(".gz")
    path.write_bytes(raw.binaryblock + bytes(4) + person(0)[0].tobytes("F"))
    return path


SHEARED = GRID + np.array([[0, 3 * np.tan(np.radians(20)), 0, 0], *np.zeros((3, 4))])


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ({"sform": np.diag([2.0, 2, 2, 1])}, "the sform's voxels of 2 x 2 x 2 mm contradict pixdim, 3 x 3 x 3 mm"),
        ({"pixdim": (3, 3, 6), "codes": (1, 0)}, "the sform's voxels of 3 x 3 x 3 mm contradict pixdim, 3 x 3 x 6 mm"),
        ({"sform": GRID * [[-1], [1], [1], [1]]}, "the sform's axes run LAS, the qform's RAS"),
        ({"sform": GRID[[1, 0, 2, 3]]}, "the sform's axes run .*, the qform's RAS"),
        ({"sform": turned(8)}, r"sform and qform lie \d+.\d mm apart"),
        ({"sform": GRID + [[0, 0, 0, 20], *np.zeros((3, 4))]}, "sform and qform lie 20.0 mm apart"),
        ({"sform": SHEARED, "codes": (1, 0)}, "its axes meet at 70.0 degrees, not at right angles"),
        ({"codes": (0, 0)}, "the header has no directions, neither sform nor qform, so left may be right"),
        ({"units": "micron"}, "lengths are in the unit micron; mm is read"),
    ],
)
def test_a_contradiction_is_refused_or_flagged_by_name(tmp_path, header, sentence):
    path = written(tmp_path, **header)
    with pytest.raises(ScanError, match=f"^{path}: {sentence}; such a scan is left out, .*data.poor_header='flag'"):
        read_volume(path)
    [note] = read_volume(path, reading=FLAG).notes
    assert note.startswith("t1.nii: ")


@pytest.mark.parametrize(
    ("header", "believed"),
    [
        ({}, "sform"),
        ({"codes": (1, 0)}, "sform"),
        ({"codes": (0, 1)}, "qform"),
        ({"codes": (0, 1), "qform": turned(30)}, "qform"),
        ({"codes": (4, 1), "sform": turned(25)}, "sform"),  # moved to a template: another space, and said so
        ({"sform": GRID + 1e-3}, "sform"),
    ],
)
def test_a_sound_header_says_what_was_believed(tmp_path, header, believed):
    volume = read_volume(written(tmp_path, **header))
    assert volume.notes == () and volume.geometry == believed
    if believed == "qform":
        assert np.abs(volume.affine - header.get("qform", GRID)).max() < 1e-4


def test_the_grid_of_a_mask_is_compared_by_its_corners(tmp_path):
    image = written(tmp_path)
    for far, sound in ((GRID * 1.0005, True), (GRID * [1.02, 1, 1, 1], False), (turned(1), False)):
        mask = written(tmp_path, sform=far, qform=far, name="mask.nii")
        if sound:
            assert corners_apart(far, GRID, (20, 24, 16)) < 0.1
        with pytest.raises(ScanError, match="mask.nii: the lesion mask holds" if sound else "mask.nii: corners of the"):
            read_volume(image, mask)


def test_corners_and_angles():
    assert corners_apart(GRID, GRID, (20, 24, 16)) == 0 and skew(GRID) == 0
    zoomed = GRID * [1.1, 1, 1, 1]
    assert corners_apart(GRID, zoomed, (21, 24, 16)) == pytest.approx(20 * 0.3)
    assert skew(SHEARED) == pytest.approx(np.sin(np.radians(20))) and skew(turned(33)) < 1e-9

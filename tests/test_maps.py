"""What is carried back lies where it was, in files that no name can lead astray and on the grid of the scan."""

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from configs.base import base
from symnorm_jax.data import samples
from symnorm_jax.data.midline import Midline
from symnorm_jax.data.phantom import people
from symnorm_jax.data.volumes import Volume, on_grid, read_volume, save
from symnorm_jax.inference import native

ORIENTATIONS = ["".join(x) for order in permutations(("RL", "AP", "SI")) for x in product(*order)]
SLICE = (64, 72)


@pytest.fixture(scope="module")
def head() -> Volume:
    scan = people.records(None, healthy=0, patients=1, seed=1, spacing=5.0, disease="glioma")[0]
    return scan.load()


def config_of_grid(size: tuple[int, ...]):
    config = base().data
    config.update({"size": size, "spacing": 3.0, "slice_spacing": 3.0, "min_brain": 0.0, "midline": "centred"})
    return config


def write_stored(head: Volume, folder: Path, affine: np.ndarray, axes: str = "RAS") -> tuple[Path, Path]:
    """The head and its lesion in files whose axes are stored as `axes`, with codes and units that are not the usual."""
    turn = nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(axes))
    paths = folder / "head.nii.gz", folder / "lesion.nii.gz"
    for path, voxels in zip(paths, (head.voxels, head.lesion.astype(np.uint8)), strict=True):
        image = nib.Nifti1Image(voxels, affine).as_reoriented(turn)
        image.set_sform(image.affine, 4)
        image.set_qform(image.affine, 1)
        image.header.set_xyzt_units("mm", "sec")
        nib.save(image, path)
    return paths


def carried(head: Volume, folder: Path, affine: np.ndarray, axes="RAS", size=SLICE) -> tuple[nib.Nifti1Image, ...]:
    """The stored head and lesion, and the lesion after it went to the samples and came back into a file."""
    image, lesion = write_stored(head, folder, affine, axes)
    volume = read_volume(image, lesion)
    turned = nib.apply_orientation(head.brain, nib.io_orientation(affine)) if axes == "RAS" else head.brain
    made = samples.cut(volume, turned, False, config_of_grid(size))
    about = {"rows": made.rows, "left_out": made.left_out, "to_voxel": made.frame.to_voxel.tolist()}
    back = native.volume(made.arrays[..., 2], pd.DataFrame(made.rows), about, volume.voxels.shape) > 0.5
    save(folder / "back.nii.gz", on_grid(back.astype(np.uint8), volume.affine, str(image)))
    return tuple(nib.load(folder / name) for name in ("head.nii.gz", "lesion.nii.gz", "back.nii.gz"))


def overlap(one: nib.Nifti1Image, other: nib.Nifti1Image) -> float:
    """Dice's coefficient, voxel by voxel as they are stored."""
    first, second = (np.asarray(image.dataobj) > 0 for image in (one, other))
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def assert_same_grid(image: nib.Nifti1Image, other: nib.Nifti1Image) -> None:
    assert image.shape == other.shape and image.header.get_xyzt_units() == other.header.get_xyzt_units()
    np.testing.assert_array_equal(image.affine, other.affine)
    for form in ("get_qform", "get_sform"):
        (affine, code), (expected, asked) = (getattr(one, form)(coded=True) for one in (image, other))
        assert code == asked
        np.testing.assert_array_equal(affine, expected)


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_a_lesion_comes_back_to_its_voxels_in_every_order_of_the_axes(head, axes, tmp_path):
    scan, lesion, back = carried(head, tmp_path, head.affine, axes)
    assert "".join(nib.aff2axcodes(back.affine)) == axes
    assert_same_grid(back, scan)
    assert overlap(lesion, back) > 0.85


OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = Rotation.from_euler("xyz", [12, -9, 7], degrees=True).as_matrix() @ np.diag([3.6, 4.0, 4.8])
OBLIQUE[:3, 3] = -61.5, -70.25, -50.125


@pytest.mark.parametrize("size", [SLICE, (64, 72, 68)])
def test_a_lesion_of_an_oblique_and_uneven_grid_comes_back_to_its_voxels(head, size, tmp_path):
    scan, lesion, back = carried(head, tmp_path, OBLIQUE, size=size)
    assert_same_grid(back, scan)
    assert overlap(lesion, back) > 0.85


def test_another_reader_puts_them_to_the_same_place(head, tmp_path):
    sitk = pytest.importorskip("SimpleITK", reason="the extra mni has it: pip install -e '.[mni]'")
    carried(head, tmp_path, OBLIQUE)
    scan, back = (sitk.ReadImage(str(tmp_path / name)) for name in ("head.nii.gz", "back.nii.gz"))
    for of in ("GetOrigin", "GetDirection", "GetSpacing", "GetSize"):
        assert getattr(scan, of)() == getattr(back, of)()


def test_file_names_hold_nothing_but_plain_letters():
    visits = [("a", "b_c"), ("a_b", "c"), ("A_B", "c"), ("x/y", ""), ("x_y", ""), ("", ""), ("é" * 300, ""), ("..", "")]
    names = native.file_names(pd.DataFrame(visits, columns=["patient", "session"]))
    assert names.tolist() == ["a_b_c", "a_b_c-2", "A_B_c-3", "x_y", "x_y-2", "_", "_" * native.LONGEST, "_-2"]


def tilted(voxels, spacing, stack) -> Midline:
    """A plane through the middle of the grid, tilted both ways."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("yz", [7, -5], degrees=True).as_matrix()
    matrix[:3, 3] = np.array(voxels.shape) / 2 * spacing
    return Midline(matrix[:3, 0], float(matrix[:3, 0] @ matrix[:3, 3]), 1.0, 0.0, matrix)


def test_a_lesion_of_a_tilted_head_comes_back_to_where_it_was(monkeypatch):
    monkeypatch.setattr(samples.midline, "find", tilted)  # any tilt will do, and none need be sought
    config = base().data
    config.update({"size": (96, 112), "spacing": 2.0, "slice_spacing": 2.0, "min_brain": 200.0})
    scan = people.records(None, healthy=0, patients=1, seed=1, spacing=2.0, disease="glioma")[0]
    head = scan.load()
    made = samples.cut(head, head.brain, scan.healthy, config)
    assert np.hypot(made.rows[0]["roll"], made.rows[0]["yaw"]) > 8
    about = {"rows": made.rows, "left_out": made.left_out, "to_voxel": made.frame.to_voxel.tolist()}
    rows, lesion = pd.DataFrame(made.rows), made.arrays[..., 2]
    back = native.volume(lesion, rows, about, head.voxels.shape) > 0.5
    assert 2 * (back & head.lesion).sum() / (back.sum() + head.lesion.sum()) > 0.8
    labels = native.volume(lesion, rows, about, head.voxels.shape, order=0)
    assert set(np.unique(labels)) == {0.0, 1.0}

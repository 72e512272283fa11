"""One scan as a folder of pictures: its slices in order at the distances told, and what is assumed is said."""

import shutil
from pathlib import Path

import layouts_lesion as layouts
import numpy as np
import pytest
from commands import symnorm
from PIL import Image

from symnorm_jax.data.sources import picture_series
from symnorm_jax.data.sources.pictures import spacing_of
from symnorm_jax.data.volumes import write_nifti
from symnorm_jax.errors import ScanError
from symnorm_jax.inference.reading import pictures_of, scans_of

SPACING = (0.8, 0.9, 5.0)


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = layouts.write_pictures(tmp_path / "ann", layouts.person(1)[0])
    layouts.write_pictures(tmp_path / "masks", layouts.person(1)[2])
    for path in (tmp_path / "masks").iterdir():
        shutil.copy(path, folder / f"{path.stem}_mask.png")
    return folder


def read(folder: Path, colour: str | None = None, mask: str | None = None):
    [scan] = pictures_of(folder, SPACING, colour, mask, "path")
    return scan, scan.load()


def test_slices_lie_in_natural_order_and_what_is_assumed_is_said(folder, caplog):
    scan, volume = read(folder)
    np.testing.assert_array_equal(volume.voxels, layouts.person(1)[0])
    np.testing.assert_allclose(np.diag(volume.affine)[:3], SPACING)
    assert volume.notes == (picture_series.ASSUMED,) and (scan.patient, scan.labelled, scan.stored) == (
        "ann",
        False,
        None,
    )
    assert len(scan.files) == layouts.SHAPE[2] and "left out 16 masks and what is no picture" in caplog.text
    assert scan.recipe != pictures_of(folder, (1, 1, 1), None, None, "path")[0].recipe


def test_of_colours_one_is_read_and_a_mask_lies_on_the_grid_of_the_outputs(folder, tmp_path):
    for path in folder.glob("s_*.png"):
        rows = np.asarray(Image.open(path))
        Image.fromarray(np.stack([rows // 2, rows, 0 * rows], -1)).save(path)
    with pytest.raises(ScanError, match="red, green and blue differ"):
        read(folder)
    _, volume = read(folder, "green")
    np.testing.assert_array_equal(volume.voxels, layouts.person(1)[0])
    brain = layouts.person(1)[1]
    write_nifti(tmp_path / "brain.nii.gz", brain.astype(np.uint8), volume.affine)
    np.testing.assert_array_equal(read(folder, "green", str(tmp_path / "brain.nii.gz"))[1].brain, brain)


def test_refusals(folder, tmp_path):
    with pytest.raises(ScanError, match="pictures tell no voxel sizes; `symnorm score --spacing=X,Y,Z`"):
        scans_of(folder)
    with pytest.raises(ScanError, match="a .csv with columns t1,flair is needed"):
        pictures_of(folder, SPACING, None, None, "t1,flair")
    long = layouts.write_pictures(tmp_path / "long", np.arange(100, dtype=np.uint8).reshape(50, 2, 1))
    with pytest.raises(ScanError, match=r"edges are \[2500, 2, 1\] mm long; at most 2000 mm"):
        pictures_of(long, (50, 1, 1), None, None, "path")[0].load()
    with pytest.raises(ScanError, match="--spacing='1,nan,1'; a folder of pictures needs three lengths"):
        spacing_of("1,nan,1", "--spacing")
    (tmp_path / "none").mkdir()
    with pytest.raises(ScanError, match="holds no picture of a slice"):
        pictures_of(tmp_path / "none", SPACING, None, None, "path")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("-i", "ann", "--spacing=1,1,1", "--dicom"), "--dicom is of a DICOM series"),
        (("-i", "ann/s_8.png", "--spacing=1,1,1"), "with --spacing a folder is needed"),
        (("-i", "ann", "--spacing=1,1,1", "--bids"), "--spacing is of pictures"),
        (("-i", "ann", "--colour=red"), "--colour is allowed with --spacing alone"),
    ],
)
def test_arguments_that_cannot_be_right(folder, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    done = symnorm("score", "--model=model", "-o", "out", *given)
    assert done.returncode == 2 and said in done.stderr

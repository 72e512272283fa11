"""Lesions and map as DICOM beside an oblique series: every voxel where it was, of whom the series is, or refused."""

import importlib.util
from pathlib import Path

import layouts_lesion as layouts
import numpy as np
import pytest

from symnorm_jax.data.sources import dicom
from symnorm_jax.data.volumes import on_grid
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.inference import dicom_out
from symnorm_jax.inference.reading import scans_of
from symnorm_jax.inference.scorer import Result

ALONG = np.array([[0.8, 0.6, 0.0], [-0.48, 0.64, 0.6]])  # columns and rows of an oblique slice, LPS
NORMAL = np.cross(*ALONG)
ABOUT = {"model": "0123456789abcdef", "brain_from": "extract", "map": {"unit": "values of saca"}}
SHAPE = (10, 12, 9)  # rows, columns, slices
MADE_OF = "ab" * 32


@pytest.fixture
def folder(tmp_path, rng) -> Path:
    pytest.importorskip("highdicom", reason="highdicom is optional: pip install 'symnorm_jax[dicom]'")
    (tmp_path / "ann").mkdir()
    for k in range(SHAPE[2]):
        one = layouts._slice(rng.integers(1, 99, SHAPE[:2]), k * 6.5 * NORMAL - 40, ALONG.ravel(), "1.2.3", slope=1)
        one.StudyInstanceUID, one.FrameOfReferenceUID = "1.2.4", "1.2.5"
        one.save_as(tmp_path / "ann" / f"{(4 * k) % 9}.dcm", enforce_file_format=True)
    return tmp_path / "ann"


def judged(folder: Path, rng, ill: bool = True) -> tuple[list, Result]:
    [scan] = scans_of(folder)
    volume = scan.load()
    map = rng.normal(size=volume.voxels.shape).astype(np.float32)
    lesions = np.where(map > 1, 1 + (map > 2), 0).astype(np.uint16) * ill
    images = [on_grid(x, volume.affine, None) for x in (volume.voxels, lesions, map, lesions)]
    return scan.files, Result(ABOUT, *images)


def placed(path: Path, shown: np.ndarray) -> np.ndarray:
    """The values of a map or a segmentation at the voxels of the scan, by the places that its frames tell."""
    import pydicom

    one = pydicom.dcmread(path)
    affine, found = shown.affine, np.zeros(shown.shape, np.float32)
    pixels = one.pixel_array.reshape(-1, one.Rows, one.Columns)
    for frame, values in zip(one.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        corner = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        for (row, column), value in np.ndenumerate(values):
            place = corner + layouts.SPACING * (column * ALONG[0] + row * ALONG[1])
            index = np.linalg.inv(affine) @ [*(place * [-1, -1, 1]), 1]
            np.testing.assert_allclose(index, index.round(), atol=1e-3)
            found[tuple(index[:3].round().astype(int))] = value
    return found


@pytest.mark.parametrize("ill", [True, False])
def test_every_voxel_is_where_it_was_and_of_whom_the_series_is(folder, rng, ill):
    files, result = judged(folder, rng, ill)
    paths = folder.parent / "lesions.dcm", folder.parent / "map.dcm"
    dicom_out.write(result, files, *paths, MADE_OF)
    np.testing.assert_array_equal(placed(paths[0], result.lesions), np.asarray(result.lesions.dataobj) > 0)
    np.testing.assert_array_equal(placed(paths[1], result.map), np.asarray(result.map.dataobj))
    import pydicom

    for path, kind in zip(paths, ("SEG", "OT"), strict=True):
        one = pydicom.dcmread(path)
        assert (one.PatientID, one.PatientSex, one.StudyInstanceUID) == (layouts.NOBODY, "", "1.2.4")
        assert one.FrameOfReferenceUID == "1.2.5"
        assert one.Modality == kind and one.SeriesInstanceUID != "1.2.3"
    [scale] = one.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert (scale.LUTLabel, scale.LUTExplanation) == ("saca", "in values of saca")
    identified = [pydicom.dcmread(path).SOPInstanceUID for path in paths]
    dicom_out.write(result, files, *paths, MADE_OF)
    assert identified == [pydicom.dcmread(path).SOPInstanceUID for path in paths] and len(set(identified)) == 2


def test_what_cannot_be_derived_is_refused_at_once(folder, rng, tmp_path, monkeypatch):
    import pydicom

    layouts.write(tmp_path / "scan.nii.gz", layouts.person(1)[0])
    with pytest.raises(ScanError, match="--dicom: scan is no DICOM series"):
        dicom_out.check(scans_of(tmp_path / "scan.nii.gz"))
    dicom_out.check(scans_of(folder))
    for path in folder.iterdir():
        one = pydicom.dcmread(path)
        del one.FrameOfReferenceUID
        one.save_as(path)
    with pytest.raises(ScanError, match="--dicom: the headers of ann lack FrameOfReferenceUID"):
        dicom_out.check(scans_of(folder))
    with pytest.raises(ScanError, match=r"lack what DICOM asks of derived images \(") as caught:
        dicom_out.write(judged(folder, rng)[1], dicom.series(folder).files, tmp_path / "a", tmp_path / "b", MADE_OF)
    assert layouts.NOBODY not in str(caught.value) and not (tmp_path / "a").exists()


def test_dicom_without_its_library_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--dicom needs highdicom, which is missing; pip install 'symnorm_jax\[dic"):
        dicom_out.check([])

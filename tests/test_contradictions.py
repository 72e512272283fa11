"""Contradictions that once gave another number without a word, each with the word that it gets now."""

import unicodedata

import layouts
import layouts_lesion
import layouts_tumour
import numpy as np
import pytest
from scans_release import write_rows
from test_properties import warnings_of

from configs.base import base
from symnorm_jax.data import brain, prepare, samples
from symnorm_jax.data.sources import bids, dicom, lgg, table
from symnorm_jax.data.volumes import Volume
from symnorm_jax.errors import ScanError


def find(source: str, root, **options) -> tuple[list, str]:
    """The scans of a release, and what was said of them."""
    data = base().data
    data.update(source=source, root=str(root))
    data.options.update(options)
    with warnings_of() as words:
        return prepare.find_scans(data), " ".join(words)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_subject_is_the_same_in_either_form_of_its_umlaut(tmp_path, forms):
    on_disk, in_table = (f"sub-{unicodedata.normalize(form, 'Zoë')}" for form in forms)
    layouts_lesion.write(tmp_path / on_disk / "anat" / f"{on_disk}_T1w.nii.gz", layouts_lesion.person(0)[0])
    rows = [["participant_id", "group"], [in_table, "Control"]]
    write_rows(np.random.default_rng(0), tmp_path / "participants.tsv", rows, "\t")
    [scan] = bids.records(str(tmp_path))
    assert scan.healthy and scan.patient == "sub-Zoë"
    rows.append([in_table.removeprefix("sub-"), "stroke"])
    write_rows(np.random.default_rng(0), tmp_path / "participants.tsv", rows, "\t")
    with pytest.raises(ScanError, match="'Control' in one row and 'stroke' in another"):
        bids.records(str(tmp_path))


def test_a_gap_between_slices_and_a_stranger_among_them_are_refused(tmp_path):
    folder = next(layouts.write_lgg(tmp_path, 1, 24, 6).iterdir())
    slice_, mask = (folder / f"{folder.name}_3{end}.tif" for end in ("", "_mask"))
    for path in (slice_, mask):
        path.rename(path.with_name(path.name.replace("_3", "_03")))
    lgg.records(str(tmp_path))[0].load()
    for path in (slice_, mask):
        path.with_name(path.name.replace("_3", "_03")).rename(path.with_name(path.name.replace("_3", "_9")))
    with pytest.raises(ScanError, match="_6.tif is followed by .*_9.tif, others come in steps of 1"):
        lgg.records(str(tmp_path))[0].load()
    voxels = layouts_lesion.person(0)[0]
    pictures = layouts_lesion.write_pictures(tmp_path / "a", voxels)
    (pictures / "s_9.png").rename(pictures / "overview.png")
    write_rows(
        np.random.default_rng(0),
        tmp_path / "a.csv",
        [["path", "patient", "label", "spacing_mm"], ["a", "p", "healthy", "8,8,8"]],
    )
    with pytest.raises(ScanError, match="overview.png is named otherwise than most slices"):
        table.records(str(tmp_path / "a.csv"))[0].load()


def test_what_is_unlabelled_or_there_twice_among_others_is_counted(tmp_path):
    layouts_tumour.write_brats(tmp_path, ("BraTS-SSA-00001-000", "BraTS-SSA-00002-000"), end=".nii")
    next(tmp_path.rglob("*2-000-seg.nii")).unlink()
    twin = next(tmp_path.rglob("*1-000-t1c.nii"))
    twin.with_name(f"{twin.name}.gz").write_bytes(b"")
    _, words = find("brats", tmp_path)
    assert "1 of 2 scans are unlabelled, and neither trained on nor judged, as BraTS-SSA-00002/000" in words
    assert "1 files are there as .nii and .nii.gz" in words


def test_a_folder_without_its_image_is_named(tmp_path):
    layouts_lesion.write_bids(tmp_path)
    image = tmp_path / "sub-03/anat/sub-03_T1w.nii.gz"
    image.rename(image.with_name("sub-03_T1.nii.gz"))
    assert f"left out 1 folders without an image T1w, as {image.parent}" in find("bids", tmp_path)[1]


def test_a_lesion_mask_and_a_label_that_contradict_each_other_are_flagged():
    voxels, inside, lesion = layouts_lesion.person(0)
    data, volume = base().data, Volume(voxels.astype(np.float32), np.diag([8.0, 8, 8, 1]))
    data.update(midline="centred", size=(32, 32), spacing=8.0, min_similarity=-1.0, min_brain=1.0)

    def flag(drawn, healthy):
        return samples.cut(volume._replace(lesion=drawn), inside, healthy, data).rows[0]["flag"]

    assert flag(lesion, True) == "a healthy person has a lesion" and not flag(lesion, False)
    assert "no lesion in the brain" in flag(lesion & False, False) and not flag(lesion & False, True)


def test_a_speck_is_no_brain_mask():
    speck = np.zeros((20, 20, 20), bool)
    speck[9:11, 9:11, 9] = True
    with pytest.raises(ScanError, match="0.05% of the grid; at least 0.1% is needed"):
        brain.brain_mask(Volume(np.ones(speck.shape, np.float32), np.diag([8.0, 8, 8, 1]), brain=speck), "file")


@pytest.mark.parametrize(
    ("slope", "sentence"), [("-1", "rescaled by -1; a slope above 0"), (None, "15 of 16 slices have a slope")]
)
def test_slopes_of_slices_must_be_of_use(tmp_path, slope, sentence):
    pydicom = pytest.importorskip("pydicom", reason="pydicom is optional: pip install 'symnorm_jax[dicom]'")
    layouts_lesion.write_dicom(tmp_path)
    path = next((tmp_path / "a").glob("IM*"))
    one = pydicom.dcmread(path)
    one.RescaleSlope = slope or "1"
    if slope is None:
        del one.RescaleSlope, one.RescaleIntercept
    one.save_as(path)
    [scan] = dicom.records(str(tmp_path))
    with pytest.raises(ScanError, match=sentence):
        scan.load()


def test_folders_of_pictures_in_an_unknown_column_are_refused(tmp_path):
    for name in ("a", "b"):
        layouts_lesion.write_pictures(tmp_path / name, layouts_lesion.person(0)[0])
    rows = [["path", "patient", "label", "truth", "spacing_mm"], ["a", "p", "abnormal", "b", "8,8,8"]]
    write_rows(np.random.default_rng(0), tmp_path / "a.csv", rows)
    with pytest.raises(
        ScanError, match="line 2: truth='b' is a file or a folder of pictures, and the column is unknown"
    ):
        table.records(str(tmp_path / "a.csv"))

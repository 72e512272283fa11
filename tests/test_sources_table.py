"""One's own scans, listed in a CSV file."""

import pickle
from pathlib import Path

import layouts
import layouts_lesion
import numpy as np
import pytest
from absl import logging
from PIL import Image, ImageFilter

from symnorm_jax.data.manifest import COLUMNS
from symnorm_jax.data.sources import table
from symnorm_jax.errors import ScanError


def listed(folder: Path, *lines: str) -> list:
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return table.records(str(folder / "manifest.csv"))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two images, a mask of each kind, and the same as pictures."""
    voxels, brain, lesion = layouts_lesion.person(0)
    for name, array in {"a": voxels, "b": voxels[::-1], "brain": brain, "lesion": lesion}.items():
        layouts_lesion.write(tmp_path / f"{name}.nii.gz", array)
    layouts_lesion.write_pictures(tmp_path / "slices", voxels, ".jpg")
    layouts_lesion.write_pictures(tmp_path / "png", voxels)
    layouts_lesion.write_pictures(tmp_path / "brains", brain)
    layouts_lesion.write_pictures(tmp_path / "lesions", lesion, ".tif")
    return tmp_path


def test_scans_with_masks_and_groups(tmp_path):
    scans = table.records(str(layouts.write_table(tmp_path, people=3)))
    assert [scan.patient for scan in scans] == ["person0", "person1", "person2"]
    assert [scan.healthy for scan in scans] == [True, True, False] and scans[0].groups == {"site": "here"}
    healthy, ill = scans[0].load(), scans[2].load()
    assert healthy.lesion is None and healthy.brain.any() and (ill.lesion & ill.brain).any()
    assert ill.voxels[ill.lesion].mean() > 1.2 * ill.voxels[ill.brain & ~ill.lesion].mean()
    assert scans[2].recipe == "table format 1, lesion True, brain True"  # what stores were made with


def test_labels_sessions_and_absolute_paths(folder):
    lines = ("path , patient,label,session,age", f"{folder / 'a.nii.gz'},p,Healthy,1,30", "b.nii.gz,p,unlabelled,2,31")
    first, second = listed(folder, *lines)
    assert (first.name, first.healthy, first.labelled) == ("p/1", True, True) and first.groups == {"age": "30"}
    assert (second.name, second.healthy, second.labelled) == ("p/2", False, False)
    np.testing.assert_array_equal(first.load().voxels, layouts_lesion.person(0)[0])


@pytest.mark.parametrize("images", ["slices", "png"])
def test_a_folder_of_pictures_with_masks(folder, images):
    line = f'{images},p,abnormal,lesions,brains,"2,3, 5"'
    [scan] = listed(folder, "path,patient,label,lesion_path,brain_path,spacing_mm", line)
    volume = pickle.loads(pickle.dumps(scan)).load()
    voxels, brain, lesion = layouts_lesion.person(0)
    assert [Path(path).stem for path in scan.files][:3] == ["s_8", "s_9", "s_10"] and len(scan.extras) == 32
    assert not volume.stack and "(2.0, 3.0, 5.0)" in scan.recipe
    if images == "png":
        np.testing.assert_array_equal(volume.voxels, voxels)
    assert volume.voxels[volume.lesion].min() > 150 and np.argwhere(volume.lesion)[:, 0].max() < 10
    np.testing.assert_array_equal(volume.lesion, lesion)
    np.testing.assert_array_equal(volume.brain, brain)
    np.testing.assert_allclose(np.diag(volume.affine), [2, 3, 5, 1])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,patient\na,b\n", "columns .'path', 'patient'.; path, patient, label are needed"),
        ("path,patient,label,split\na,b,healthy,train\n", "names are taken: .*split"),
        ("path,patient,label,age,age\na.nii.gz,b,healthy,1,2\n", "each name may come once"),
        (
            "path,patient,label\na.nii.gz,b,healthy\n\nb.nii.gz,d,sick\n",
            "line 4: .*'sick'.*'healthy', 'abnormal', 'unl",
        ),
        ("path,patient,label\na.nii.gz,b,\n", "line 2: .*'label': ''.* are needed"),
        ("path,patient,label\n,b,healthy\n", "line 2: .*a path, a patient"),
        ("path,patient,label\na.nii.gz, ,healthy\n", "line 2: .*a path, a patient"),
        ("path,patient,label\na.nii.gz,b,healthy,30\n", "line 2: 4 cells; the header has 3"),
        ("path,patient,label\na.nii.gz,b,healthy\nc.nii.gz,d,healthy\n", "line 3: path='c.nii.gz'; there is no such"),
        ("path,patient,label\na\0.nii.gz,b,healthy\n", "line 2: path=.*; there is no such file"),
        ("path,patient,label,brain_path\na.nii.gz,b,healthy,no\n", "line 2: brain_path='no'; there is no such"),
        (
            "path,patient,label,session\na.nii.gz,b,healthy,1\nb.nii.gz,b,healthy,1\n",
            r"line 3: the patient and session \('b', '1'\) stands already in line 2; once is allowed",
        ),
        ("path,patient,label\na.nii.gz,b,healthy\n./a.nii.gz,c,healthy\n", "line 3: the path stands already in line 2"),
        ("path,patient,label,spacing_mm\na.nii.gz,b,healthy,1\n", "line 2: spacing_mm='1'; only a folder of pictures"),
        ("path,patient,label\npng,b,healthy\n", "line 2: spacing_mm=''; a folder of pictures needs three lengths"),
        ('path,patient,label,spacing_mm\npng,b,healthy,"1,nan,1"\n', "line 2: spacing_mm='1,nan,1'; .* 0.05 to 50 mm"),
        (
            'path,patient,label,spacing_mm,lesion_path\npng,b,abnormal,"1,1,1",slices\n',
            "line 2: .*slices holds no .png or .tif or .tiff mask of the slice s_8.png",
        ),
        (
            'path,patient,label,spacing_mm,lesion_path\npng,b,abnormal,"1,1,1",lesion.nii.gz\n',
            "line 2: the mask .*lesion.nii.gz is a file; a folder of pictures needs a folder of masks",
        ),
        ('path,patient,label,spacing_mm\n.,b,healthy,"1,1,1"\n', "line 2: the folder .* holds 0 pictures"),
        (
            "path,patient,label,Lesion_path\na.nii.gz,b,abnormal,\n",
            "the column 'Lesion_path' must be called 'lesion",
        ),
        (
            "path,patient,label,brain path\na.nii.gz,b,abnormal,\n",
            "the column 'brain path' must be called 'brain_p",
        ),
        ("path,patient,label,lesionpath\na.nii.gz,b,abnormal,\n", "the column 'lesionpath' must be called"),
        (
            "path,patient,label,seg\na.nii.gz,b,abnormal,lesion.nii.gz\n",
            "line 2: seg='lesion.nii.gz' is a file or a folder of",
        ),
        ("path,patient,label,mask\na.nii.gz,b,abnormal,gone/x.nii\n", "line 2: mask='gone/x.nii' is a file"),
        ("path,patient,label,lesion\na.nii.gz,b,abnormal,lesions\n", "line 2: lesion='lesions' is a file"),
        ("path,patient,label,notes\na.nii.gz,b,abnormal,manifest.csv\n", "line 2: notes='manifest.csv' is a file"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(folder, text, sentence):
    with pytest.raises(ScanError, match=sentence):
        listed(folder, text)


def test_a_group_may_be_called_like_a_folder(folder):
    (folder / "here").mkdir()
    [scan] = listed(folder, "path,patient,label,site", "a.nii.gz,b,healthy,here")
    assert scan.groups == {"site": "here"}


def test_one_name_in_two_spellings_is_one_patient(folder):
    lines = (
        "path,patient,label,session,site",
        "a.nii.gz,Mu\u0308ller,healthy,1,Zu\u0308rich",
        "b.nii.gz,Müller,healthy,2,Zürich",
    )
    first, second = listed(folder, *lines)
    assert first.patient == second.patient == "Müller" and first.groups == second.groups == {"site": "Zürich"}
    with pytest.raises(ScanError, match="line 3: the patient and session .'Müller', ''. stands already in line 2"):
        listed(folder, *(line.replace(",1,", ",,").replace(",2,", ",,") for line in lines))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda folder: (folder / "png" / "s_12.png").unlink(),
            "png: s_11.png is followed by s_13.png, others co",
        ),
        (lambda folder: pages(folder / "lesions" / "s_9.tif"), "s_9.tif: 3 pages; one slice a file is allowed"),
        (
            lambda folder: soften(folder / "lesions" / "s_14.tif"),
            "s_14.tif: the lesion mask holds .* values from",
        ),
        (lambda folder: colour(folder / "brains" / "s_9.png"), "s_9.png: red, green and blue differ; a grey picture"),
        (lambda folder: colour(folder / "png" / "s_9.png"), "s_9.png: red, green and blue differ; a grey picture"),
        (lambda folder: turn(folder / "png" / "s_9.png"), "s_9.png: its tag Orientation is 3, so that viewers turn it"),
        (lambda folder: pages(folder / "png" / "s_9.png"), "s_9.png: 3 pages; one slice a file is allowed"),
    ],
)
def test_pictures_that_hold_more_or_less_than_a_slice_are_refused(folder, damage, sentence):
    damage(folder)
    with pytest.raises(ScanError, match=sentence):
        line = 'png,p,abnormal,lesions,brains,"2,3,5"'
        listed(folder, "path,patient,label,lesion_path,brain_path,spacing_mm", line)[0].load()


def pages(path):
    picture = Image.open(path).convert("L")
    picture.save(path, save_all=True, append_images=[Image.new("L", picture.size, k) for k in (1, 2)])


def soften(path):
    Image.open(path).convert("L").filter(ImageFilter.GaussianBlur(1)).save(path)


def turn(path):
    picture = Image.open(path).convert("L")
    picture.getexif()[0x0112] = 3
    picture.save(path, exif=picture.getexif())


def colour(path):
    grey = Image.open(path).convert("L")
    Image.merge("RGB", (grey, grey, Image.new("L", grey.size, 40))).save(path)


def test_files_beside_pictures_are_counted_and_named(folder, monkeypatch):
    warned = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: warned.append(text % args))
    (folder / "png" / "s_24.bmp").write_bytes(b"")
    listed(folder, "path,patient,label,spacing_mm", 'png,p,healthy,"2,3,5"')
    assert warned == [f"{folder}/png: left out 1 files and folders that are no pictures, as s_24.bmp."]


def test_what_is_no_table_is_refused(tmp_path):
    with pytest.raises(ScanError, match="absent.csv: no such file"):
        table.records(str(tmp_path / "absent.csv"))
    with pytest.raises(ScanError, match="cannot be read as a table"):
        table.records(str(tmp_path))


def test_every_name_of_the_manifest_is_taken(folder):
    for name in set(COLUMNS) - {"patient", "session", "label"}:
        with pytest.raises(ScanError, match="these names are taken"):
            listed(folder, f"path,patient,label,{name}", "a.nii.gz,b,healthy,1")


def test_pictures_that_do_not_fit_are_refused(folder):
    header, line = "path,patient,label,lesion_path,spacing_mm", 'png,b,abnormal,lesions,"1,1,1"'
    layouts_lesion.write_pictures(folder / "small", np.zeros((5, 6, 16), np.uint8))
    with pytest.raises(ScanError, match=r"small: the masks have shape \(5, 6, 16\), their slices \(20, 24, 16\)"):
        listed(folder, header, line.replace("lesions", "small"))[0].load()
    with pytest.raises(ScanError, match="small: every pixel has the value 0; an image must have contrast"):
        listed(folder, header, line.replace("png", "small"))[0].load()

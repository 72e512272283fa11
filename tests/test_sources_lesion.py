"""Releases of people with lesions: open_ms, ATLAS, BIDS data sets and DICOM series."""

import importlib.util
import pickle
import shutil
import struct
import warnings
from pathlib import Path

import layouts_lesion as layouts
import numpy as np
import pytest
from absl import logging

import configs.atlas
from symnorm_jax.data.sources import bids, dicom, dicom_slices, open_ms
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.inference.reading import scans_of


@pytest.fixture
def warned(monkeypatch) -> list[str]:
    texts = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: texts.append(text % args))
    return texts


def load(scan):
    return pickle.loads(pickle.dumps(scan)).load()  # as it travels to a worker process


def put_name_into(path, tag):
    """Write the patient's name where the value of another tag belongs, which pydicom would not."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    def key(word):
        number = tag_for_keyword(word)
        return struct.pack("<HH", number >> 16, number & 0xFFFF) + dictionary_VR(word).encode()

    data, value = path.read_bytes(), layouts.NOBODY.encode()
    start = end = data.find(key(tag))
    if start < 0:  # in front of the tag that follows it
        start = end = data.index(key({"NumberOfFrames": "Rows", "SpecificCharacterSet": "SOPClassUID"}[tag]))
    else:
        end += 8 + struct.unpack("<H", data[start + 6 : start + 8])[0]
    path.write_bytes(data[:start] + key(tag) + struct.pack("<H", len(value)) + value + data[end:])


def assert_left(volume, seed, channel=0):
    """The voxels are those written, and the lesion is bright and on the person's left: at low X."""
    voxels, _, lesion = layouts.person(seed, channel)
    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_array_equal(volume.lesion, lesion)
    assert np.argwhere(volume.voxels == 250)[:, 0].max() < layouts.SHAPE[0] / 2
    assert volume.voxels.dtype == np.float32 and volume.lesion.dtype == bool and not volume.stack


class TestOpenMs:
    @pytest.fixture
    def root(self, tmp_path):
        return layouts.write_open_ms(tmp_path)

    def test_patients_groups_and_lesions(self, root):
        scans = open_ms.records(str(root))
        assert [scan.name for scan in scans] == ["patient01", "patient02", "patient03"]
        assert [scan.groups for scan in scans] == [
            {"age": "31", "sex": "F", "ms_type": "RR"},
            {},
            {"age": "37", "sex": "F"},
        ]
        assert not any(scan.healthy for scan in scans) and all(scan.labelled and not scan.split for scan in scans)
        for seed, scan in enumerate(scans, 1):
            assert_left(load(scan), seed)
        assert scans[0].extras == (str(root / "cross_sectional" / "raw" / "patient01" / "consensus_gt.nii.gz"),)

    @pytest.mark.parametrize("space", ["coregistered", "resampled"])
    @pytest.mark.parametrize("channel", ["flair", "t1", "t1_gd", "t2"])
    def test_coregistered_channels_come_with_a_brain(self, root, channel, space):
        scans = open_ms.records(str(root / "cross_sectional"), channel=channel, space=space)
        for seed, scan in enumerate(scans, 1):
            volume = load(scan)
            assert_left(volume, seed, list(open_ms.CHANNELS).index(channel))
            np.testing.assert_array_equal(volume.brain, layouts.person(seed)[1])
            assert len(scan.extras) == 2 and open_ms.SPACES[space] in Path(scan.files[0]).parts
        assert len(scans) == 3

    @pytest.mark.parametrize("channel", ["flair", "t1", "t1_gd", "t2"])
    def test_mni_channels_have_no_skull_and_no_mask_of_it(self, root, channel):
        folder = root / "cross_sectional" / "MNI" / "patient01"
        (folder / f"FLAIR_{layouts.IN_MNI_STEM}_quantile.nii.gz").write_bytes(b"another version of the image")
        volume = load(open_ms.records(str(root), channel=channel, space="mni")[0])
        voxels, brain, lesion = layouts.person(1, list(open_ms.CHANNELS).index(channel))
        np.testing.assert_array_equal(volume.voxels, voxels * brain)
        np.testing.assert_array_equal(volume.lesion, lesion)
        assert volume.brain is None

    def test_recipes_tell_channels_and_spaces_apart(self, root):
        choices = [(channel, space) for channel in open_ms.CHANNELS for space in open_ms.SPACES]
        recipes = {open_ms.records(str(root), channel=one, space=two)[0].recipe for one, two in choices}
        assert len(recipes) == len(choices)

    def test_raw_images_on_a_grid_of_their_own_are_refused(self, root):
        with pytest.raises(ScanError, match="consensus_gt.nii.gz: the mask has shape .* its image .*T1W.nii.gz"):
            open_ms.records(str(root), channel="t1")[0].load()

    def test_missing_pieces(self, root, warned):
        raw = root / "cross_sectional" / "raw"
        (raw / "patient02" / "FLAIR.nii.gz").unlink()
        (raw / "patient03" / "consensus_gt.nii.gz").unlink()
        scans = open_ms.records(str(root))
        assert [scan.patient for scan in scans] == ["patient01", "patient03"] and scans[1].extras == ()
        assert warned == [f"{raw}: left out 1 of 3 patients without flair."]
        with pytest.raises(ScanError, match="patient03/consensus_gt.nii.gz: no such file"):
            scans[1].load()

    def test_refusals(self, root, tmp_path):
        with pytest.raises(ConfigError, match="channel='t1w'; one of .*'t1_gd'.* is allowed"):
            open_ms.records(str(root), channel="t1w")
        with pytest.raises(ConfigError, match="space='native'; one of .*'mni'.* is allowed"):
            open_ms.records(str(root), space="native")
        with pytest.raises(ScanError, match="nowhere: not a folder; one that holds cross_sectional/"):
            open_ms.records(str(tmp_path / "nowhere"))
        (tmp_path / "empty").mkdir()
        with pytest.raises(ScanError, match="0 patients in .*empty/MNI; the layout must be cross_sectional/"):
            open_ms.records(str(tmp_path / "empty"), space="mni")


class TestAtlas:
    """ATLAS v2.0 is a preset of BIDS."""

    @pytest.fixture
    def root(self, tmp_path):
        return layouts.write_atlas(tmp_path)

    def records(self, root):
        data = configs.atlas.get_config().data
        assert data.source == "bids"
        return bids.records(str(root), **data.options)

    def test_people_sessions_and_sites(self, root):
        scans = self.records(root)
        names = ["001s001/ses-1", "001s002/ses-1", "001s002/ses-2", "001s003/ses-1", "010s001/ses-1"]
        assert [scan.name for scan in scans] == [f"sub-r{name}" for name in names]
        assert [scan.groups for scan in scans] == [{"site": "R001"}] * 4 + [{"site": "R010"}]
        assert not any(scan.healthy for scan in scans)
        for seed, scan in zip((0, 1, 2, 3), (scan for scan in scans if scan.labelled), strict=True):
            assert_left(load(scan), seed)

    def test_testing_has_no_truth(self, root, warned):
        [scan] = self.records(root / "ATLAS_2" / "Testing")
        assert not scan.labelled and scan.extras == () and load(scan).lesion is None
        assert warned == [f"{root}/ATLAS_2/Testing: 1 of 1 scans have no lesion mask and are unlabelled."]

    def test_a_head_whose_mask_is_missing_is_unlabelled_and_counted(self, root, warned):
        sorted(root.rglob("*_mask.nii.gz"))[0].unlink()
        scan = self.records(root / "ATLAS_2")[0]
        assert not scan.labelled and scan.extras == () and load(scan).lesion is None
        assert warned == [f"{root}/ATLAS_2: 2 of 5 scans have no lesion mask and are unlabelled."]

    def test_of_two_copies_of_a_session_one_is_taken_with_its_own_mask(self, root, warned):
        training = root / "ATLAS_2" / "Training" / "R010"
        shutil.copytree(training, root / "ATLAS_2" / "Copy" / "R010")
        scan = self.records(root)[-1]
        assert scan.patient == "sub-r010s001" and scan.labelled and len(self.records(root)) == 5
        assert {Path(file).parts[-6] for file in (*scan.files, *scan.extras)} == {"Copy"}
        assert f"{root}: left out 1 of 6 images, each a session's second or later." in warned

    def test_root_without_heads_is_refused(self, tmp_path):
        with pytest.raises(ScanError, match="0 images T1w; the layout must be sub-<label>/"):
            self.records(tmp_path)
        with pytest.raises(ScanError, match="nowhere: not a folder"):
            self.records(tmp_path / "nowhere")


class TestBids:
    @pytest.fixture
    def root(self, tmp_path):
        return layouts.write_bids(tmp_path)

    def test_who_is_healthy_and_who_is_not(self, root):
        scans = {scan.name: scan for scan in bids.records(str(root))}
        assert list(scans) == ["sub-01", "sub-02/ses-1", "sub-02/ses-2", "sub-03", "sub-04"]
        assert [scan.healthy for scan in scans.values()] == [True, False, False, False, False]
        assert [scan.labelled for scan in scans.values()] == [True, True, True, False, False]
        assert scans["sub-01"].groups == {"age": "30", "group": "Control"}  # `slice` is the manifest's own
        assert scans["sub-02/ses-1"].groups == {"group": "patient"}

    def test_masks_are_those_of_the_session_and_the_grid(self, root):
        scans = {scan.name: scan for scan in bids.records(str(root))}
        for session in (1, 2):
            volume = load(scans[f"sub-02/ses-{session}"])
            assert_left(volume, 10 + session)
            np.testing.assert_array_equal(volume.brain, layouts.person(10 + session)[1])
        control = load(scans["sub-01"])
        assert control.lesion is None and control.brain is None

    def test_of_several_runs_the_first_is_taken(self, root, warned):
        scan = bids.records(str(root))[0]
        assert scan.files == (str(root / "sub-01" / "anat" / "sub-01_run-1_T1w.nii.gz"),)
        assert warned[0] == f"{root}: left out 1 of 6 images, each a session's second or later."

    def test_rows_of_one_participant_must_agree_on_the_group(self, root):
        text = (root / "participants.tsv").read_text()
        (root / "participants.tsv").write_text(text + "sub-01\t31\tControl\t7\n")
        assert bids.records(str(root))[0].groups == {"group": "Control"}  # two ages, of which none is believed
        (root / "participants.tsv").write_text(text + "01\t30\tpatient\t7\n")  # without the sub-
        sentence = "sub-01 has the group 'Control' in one row and 'patient' in another; one is allowed"
        with pytest.raises(ScanError, match=f"participants.tsv: {sentence}"):
            bids.records(str(root))
        (root / "participants.tsv").write_text(text.replace("slice", "group"))
        with pytest.raises(ScanError, match="tsv: columns .*each name may come once, group comes more"):
            bids.records(str(root))

    def test_masks_behind_links_are_used_and_others_are_named(self, root, warned, tmp_path):
        lesions, far = root / "derivatives" / "manual_masks", tmp_path / "far"
        shutil.move(lesions / "sub-02", far)
        (lesions / "sub-02").symlink_to(far)
        (far / "circle").symlink_to(lesions)
        scans = {scan.name: scan for scan in bids.records(str(root))}
        assert load(scans["sub-02/ses-1"]).lesion.sum() == load(scans["sub-02/ses-2"]).lesion.sum() > 0
        anat = far / "ses-1" / "anat"
        (anat / "sub-02_ses-1_space-T1w_label-lesion_mask.nii.gz").rename(anat / "sub-02_ses-1_T1w_lesion.nii.gz")
        warned.clear()
        scan = bids.records(str(root))[1]
        assert not scan.drawn and any("are masks by their names and fit no scan, as" in text for text in warned)

    def test_another_suffix(self, root):
        [scan] = bids.records(str(root), channel="FLAIR")
        assert scan.patient == "sub-01"
        np.testing.assert_array_equal(load(scan).voxels, layouts.person(0, 1)[0])

    @pytest.mark.parametrize("healthy", ["PATIENT, other", ("patient",)])
    def test_the_option_says_who_is_healthy(self, root, healthy):
        scans = bids.records(str(root), healthy=healthy)
        assert {scan.patient for scan in scans if scan.healthy} == {"sub-02"}

    def test_a_group_column_of_another_name_or_none(self, root, warned):
        assert {scan.patient for scan in bids.records(str(root), group_column="age", healthy="30") if scan.healthy} == {
            "sub-01"
        }
        assert not any(scan.labelled for scan in bids.records(str(root), group_column=""))
        with pytest.raises(ConfigError, match="group_column='diagnosis'; one of the columns .*'group'"):
            bids.records(str(root), group_column="diagnosis")

    def test_nobody_healthy_is_said(self, root, warned):
        bids.records(str(root), healthy="norml")
        assert f"{root}: nobody's group is one of ['norml']; nobody is healthy." in warned

    def test_without_a_table_nobody_is_labelled(self, root):
        (root / "participants.tsv").unlink()
        assert not any(scan.labelled or scan.healthy for scan in bids.records(str(root)))

    @pytest.mark.parametrize("name", ["label-L_desc-T1lesion_mask", "T1w_label-lesion_roi", "run-1_desc-lesion_mask"])
    def test_other_names_of_lesion_masks(self, root, name):
        layouts.write(root / "derivatives" / "x" / "sub-01" / "anat" / f"sub-01_{name}.nii.gz", layouts.person(0)[2])
        assert_left(load(bids.records(str(root))[0]), 0)

    @pytest.mark.parametrize(
        "name", ["run-2_desc-lesion_mask", "FLAIR_label-lesion_roi", "ses-1_desc-lesion_mask", "label-lesion_probseg"]
    )
    def test_masks_of_other_images_are_not_taken(self, root, name):
        layouts.write(root / "derivatives" / "x" / "sub-01" / "anat" / f"sub-01_{name}.nii.gz", layouts.person(0)[2])
        assert bids.records(str(root))[0].extras == ()

    def test_two_masks_of_one_image_are_refused_until_one_folder_is_named(self, root):
        twin = root / "derivatives" / "other" / "sub-02_ses-1_desc-brain_mask.nii.gz"
        layouts.write(twin, layouts.person(0)[1])
        with pytest.raises(
            ScanError, match="sub-02_ses-1_T1w.nii: 2 brain masks, .*fmriprep.*other.*data.options.masks"
        ):
            bids.records(str(root))
        scans = bids.records(str(root), masks="derivatives/other")
        assert [scan.extras for scan in scans if scan.extras] == [(str(twin),)]
        assert not any(scan.extras for scan in bids.records(str(root), masks=""))
        with pytest.raises(ScanError, match="masks='derivatives/third' must name one"):
            bids.records(str(root), masks="derivatives/third")

    def test_refusals(self, root, tmp_path):
        with pytest.raises(ConfigError, match="channel=.../T1w.; a BIDS suffix"):
            bids.records(str(root), channel="../T1w")
        with pytest.raises(ConfigError, match="standing='mask'; one of .'masks', 'table'. is allowed"):
            bids.records(str(root), standing="mask")
        for site in ("(", "sub-.*"):
            with pytest.raises(ConfigError, match="site='.*'; a regular expression with a group, or '', is allowed"):
                bids.records(str(root), site=site)
        with pytest.raises(ScanError, match="0 images T2w; the layout must be sub-<label>/"):
            bids.records(str(root), channel="T2w")
        with pytest.raises(ScanError, match="nowhere: not a folder"):
            bids.records(str(tmp_path / "nowhere"))
        (root / "participants.tsv").write_text("id\tgroup\n1\tcontrol\n")
        with pytest.raises(ScanError, match="participants.tsv: columns .*; participant_id are needed"):
            bids.records(str(root))


def test_dicom_without_its_library_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs pydicom, which is missing; pip install 'symnorm_jax\[dicom\]'"):
        dicom.records(str(tmp_path))


class TestDicom:
    @pytest.fixture(autouse=True)
    def library(self):
        pytest.importorskip("pydicom", reason="pydicom is optional: pip install 'symnorm_jax[dicom]'")

    @pytest.fixture
    def root(self, tmp_path):
        return layouts.write_dicom(tmp_path)

    def change(self, root, number=0, **tags):
        """Set tags of one slice, by its place among the file names; None takes a tag away."""
        import pydicom

        path = sorted((root / "a").glob("IM*"))[number]
        one = pydicom.dcmread(path)
        for tag, value in tags.items():
            delattr(one, tag) if value is None else setattr(one, tag, value)
        one.save_as(path)
        return path

    def refuse(self, root, sentence):
        [scan] = dicom.records(str(root))
        with pytest.raises(ScanError, match=sentence) as caught:
            scan.load()
        assert "Zebra" not in str(caught.value) and caught.value.__cause__ is None

    @pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
    def test_slices_are_ordered_rescaled_and_turned(self, tmp_path, plane):
        layouts.write_dicom(tmp_path, plane)
        [scan] = dicom.records(str(tmp_path))
        volume = load(scan)
        np.testing.assert_allclose(volume.voxels, layouts.person(1)[0], atol=1e-3)
        assert_left(volume._replace(voxels=volume.voxels.round()), 1)
        np.testing.assert_allclose(volume.affine[:3, :3], layouts.SPACING * np.eye(3), atol=1e-6)
        np.testing.assert_allclose(volume.affine[:3, 3], [-90, -126, -72], atol=1e-6)

    def test_a_series_alone_is_of_somebody_unknown(self, root):
        [listed], [alone] = dicom.records(str(root)), scans_of(root / "a")
        assert (alone.patient, alone.labelled, alone.files, alone.extras) == ("a", False, listed.files, ())
        np.testing.assert_array_equal(load(alone).voxels, load(listed).voxels)

    def test_who_is_who_stands_in_the_table(self, root):
        [scan] = dicom.records(str(root))
        assert (scan.patient, scan.session, scan.healthy, scan.labelled) == ("p1", "", False, True)
        assert scan.groups == {"site": "here"} and scan.extras == (str(root / "lesion.nii.gz"),)
        assert len(scan.files) == layouts.SHAPE[2] and all(Path(file).name.startswith("IM") for file in scan.files)
        assert dicom.records(str(root / "scans.csv"))[0].files == scan.files
        shutil.move(root / "scans.csv", root / "mine.csv")
        assert dicom.records(str(root), table="mine.csv")[0].files == scan.files
        with pytest.raises(ScanError, match="scans.csv: no such file; .* folder, patient, label is needed"):
            dicom.records(str(root))

    @pytest.mark.parametrize("tag", [None, "PixelSpacing", "RescaleSlope", "NumberOfFrames", "SpecificCharacterSet"])
    def test_no_name_of_a_patient_gets_out(self, root, tag, caplog, capfd):
        [scan] = dicom.records(str(root))
        path = Path(scan.files[0])
        assert path.read_bytes().count(b"Zebra") > 2
        if tag:
            put_name_into(path, tag)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            texts = [repr(scan), str(pickle.dumps(scan))]
            try:
                texts.append(repr(scan.load()))
            except ScanError as error:
                texts.append(str(error))
        streams = capfd.readouterr()
        texts += [caplog.text, streams.out, streams.err, *(str(one.message) for one in caught)]
        assert not [text for text in texts if "Zebra" in text or "Quagga" in text or "1970" in text]

    @pytest.mark.parametrize(
        ("tags", "sentence"),
        [
            ({"SeriesInstanceUID": "1.2.3"}, "a: 2 series in one folder; 1 is allowed"),
            ({"NumberOfFrames": 3}, "IM0000: an enhanced multi-frame file; one slice a file"),
            ({"ImagePositionPatient": None}, "IM0000: the header lacks ImagePositionPatient; every slice"),
            ({"PixelSpacing": [4, 4]}, "the pixel spacing differs between slices"),
            ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "the slices lie in different directions"),
            ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "IM0000: rows and columns run along .* right angles"),
            ({"PhotometricInterpretation": "MONOCHROME1"}, "not a grey image with bright high values"),
            ({"SamplesPerPixel": 3}, "not a grey image"),
            ({"BitsAllocated": 1}, "1 bits a pixel; 8, 16 or 32 are allowed"),
            ({"Rows": 60000}, "claims 60000 x 20 pixels, 2400000 bytes; the file has"),
            ({"Rows": 0}, "claims 0 x 20 pixels"),
            ({"Rows": 12}, "slices of 2 sizes; all must have the same"),
            ({"PixelData": b"12"}, r"the header claims 24 x 20 pixels, 960 bytes; the file has|cannot be decoded"),
            ({"RescaleSlope": "1e38"}, "its values are infinite"),
        ],
    )
    def test_headers_that_do_not_fit_are_refused(self, root, tags, sentence):
        self.change(root, **tags)
        self.refuse(root, sentence)

    def test_padding_is_background(self, root):
        import pydicom

        [whole] = [scan.load() for scan in dicom.records(str(root))]
        for path in (root / "a").glob("IM*"):
            one = pydicom.dcmread(path)
            pixels = one.pixel_array.copy()
            pixels[:3] = -2000 if one.PixelRepresentation else 63536
            one.PixelData = pixels.tobytes()
            one.add_new(0x00280120, "US", 63536)  # the same bits
            one.save_as(path)
        [padded] = [scan.load() for scan in dicom.records(str(root))]
        lowest = padded.voxels.min()
        assert whole.voxels.min() <= lowest < 10 and (padded.voxels != whole.voxels).any()
        assert set(padded.voxels[padded.voxels != whole.voxels]) <= {lowest} and padded.geometry == "dicom"

    def test_what_is_passed_over_is_named_and_a_slice_never(self, root, warned):
        dicom.records(str(root))
        assert warned == [f"{root / 'a'}: left out 1 files and folders that are no DICOM files, as notes.txt."]
        top = sorted((root / "a").glob("IM*"))[-1]
        top.write_bytes(top.read_bytes()[132:])  # as old programs wrote them
        with pytest.raises(ScanError, match=f"1 files, as {top.name}, are no DICOM files by their first 132"):
            dicom.records(str(root))

    def test_images_that_seem_to_be_missing_are_noted(self, root):
        self.change(root, InstanceNumber=24)
        [scan] = dicom.records(str(root))
        assert scan.load().notes == ("images are numbered up to 24, 16 are here",)

    def test_gaps_copies_and_sheared_slices_are_refused(self, root):
        import pydicom

        paths = sorted((root / "a").glob("IM*"), key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])
        kept = paths[5].read_bytes()
        paths[5].unlink()
        self.refuse(root, r"a: 16.00 mm lie between the slices at -40.00 and -24.00 mm, 8.00 mm between most")
        paths[5].write_bytes(kept)
        (root / "a" / "copy").write_bytes(kept)
        self.refuse(root, r"a: two slices lie at -32.00 mm along their normal; each place may come once")
        (root / "a" / "copy").unlink()
        one = pydicom.dcmread(paths[-1])
        one.ImagePositionPatient[0] += 3
        one.save_as(paths[-1])
        self.refuse(root, r"slices lie up to 3.00 mm off one normal; at most 0.1 mm")

    def test_one_file_alone_and_another_grid_of_the_mask_are_refused(self, root):
        layouts.write(root / "lesion.nii.gz", layouts.person(1)[2][:-1])
        self.refuse(root, "lesion.nii.gz: the mask has shape .*, its image .*a has")
        for path in sorted((root / "a").glob("IM*"))[1:]:
            path.unlink()
        self.refuse(root, "a: 1 DICOM files; 2 to 2048, one a slice")

    def test_sizes_are_bounded_before_anything_is_decoded(self, root, monkeypatch):
        monkeypatch.setattr(dicom, "decode", lambda *_: pytest.fail("decoded"))
        monkeypatch.setattr(dicom, "MAX_VOXELS", 1000)
        self.refuse(root, r"a: the headers claim 7680 voxels; at most 1000")
        monkeypatch.setattr(dicom_slices, "MAX_FILE_BYTES", 1000)
        self.refuse(root, r"IM0000: \d+ bytes; at most 1000 are allowed for one slice")

    @pytest.mark.parametrize("keep", [140, 300, 1200])
    def test_a_file_cut_short_is_refused(self, root, keep):
        path = sorted((root / "a").glob("IM*"))[3]
        path.write_bytes(path.read_bytes()[:keep])
        self.refuse(root, f"{path.name}: ")

    def test_compressed_slices_are_read_or_refused_in_a_sentence(self, root, monkeypatch):
        import pydicom
        from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

        for path in (root / "a").glob("IM*"):
            one = pydicom.dcmread(path)
            one.compress(RLELossless)
            one.save_as(path)
        np.testing.assert_allclose(dicom.records(str(root))[0].load().voxels, layouts.person(1)[0], atol=1e-3)
        monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
        self.refuse(root, "compressed as RLE Lossless, for which pydicom finds no decoder; install pylibjpeg")
        one = pydicom.dcmread(path)
        one.file_meta.TransferSyntaxUID = "1.2.3.4"
        one.save_as(path, implicit_vr=False, little_endian=True)
        with pytest.raises(ScanError, match="its transfer syntax is unknown to pydicom"):
            dicom_slices.read_header(str(path))
        one.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        one.save_as(path)
        with pytest.raises(ScanError, match="deflated as a whole; uncompressed DICOM is needed"):
            dicom_slices.read_header(str(path))

    def test_a_series_without_contrast_and_a_file_for_a_folder_are_refused(self, root):
        for number in range(layouts.SHAPE[2]):
            self.change(root, number, PixelData=bytes(2 * 20 * 24), RescaleSlope="1")
        self.refuse(root, "a: every voxel has the value -5; an image must have contrast")
        (root / "scans.csv").write_text("folder,patient,label\nlesion.nii.gz,p,healthy\n")
        with pytest.raises(ScanError, match="line 2: folder='lesion.nii.gz' is a file"):
            dicom.records(str(root))

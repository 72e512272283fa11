import pickle
from collections import Counter

import numpy as np
import pytest
from absl import logging
from layouts_dementia import (
    COLLECTION,
    marked_head,
    write_analyze,
    write_caps,
    write_collection,
    write_loni,
    write_neurite,
    write_oasis,
    write_pictures,
)
from PIL import Image

from symnorm_jax.data.brain import brain_mask
from symnorm_jax.data.sources import adni, adni_slices, diagnosis, oasis
from symnorm_jax.data.volumes import stored_axes
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.geometry import picture

LONI = [
    ("002_S_0413", "MPRAGE", "2006-05-02_12_31_52.0", "S13893", "20061115141733545_S13893_I29704.nii"),
    ("153_S_4077", "MPRAGE", "2011-09-20_10_41_36.0", "S122974", "20110920110741_S122974_I257401.nii.gz"),
    ("153_S_4077", "Accelerated_Sagittal_MPRAGE", "2018-09-20_10_41_36.0", "I1234567", "x_S1_I1234567.nii"),
    ("011_S_0003", "IR-FSPGR", "2005-09-01_09_00_00.0", "I31863", "whatever.nii"),
]
ROWS = [
    ("I29704", "002_S_0413", "CN", "sc"),
    ("I257401", "153_S_4077", "AD", "v02"),
    ("1234567", "153_S_4077", "AD", "v41"),
    ("I31863", "011_S_0003", "MCI", "bl"),
]
CAPS = [
    ("sub-ADNI022S0004", "ses-M000", "CN"),
    ("sub-ADNI022S0004", "ses-M012", "CN"),
    ("sub-ADNI005S0221", "ses-M006", "AD"),
    ("sub-ADNI011S0005", "ses-M000", "CN"),
    ("sub-ADNI011S0005", "ses-M024", "MCI"),
]


@pytest.fixture
def loni(tmp_path):
    root = write_loni(tmp_path / "download", LONI)
    write_collection(root / "collection_1_02_2020.csv", ROWS)
    return root


@pytest.fixture
def slices(tmp_path):
    base = tmp_path / "ADNI_AD_NC_2D" / "AD_NC"
    write_pictures(base / "train" / "NC", "218391", range(78, 90), 0)
    write_pictures(base / "train" / "AD", "388206", range(88, 108), 1)
    write_pictures(base / "test" / "NC", "808819", range(88, 108), 2)
    write_pictures(base / "test" / "NC", "218391", range(90, 98), 0)
    write_pictures(base / "test" / "AD", "99", range(88, 108), 3)
    return base.parent


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: said.append(text % args))
    return said


def assert_marked_left(volume, seed, scale=1.0):
    head, mark = marked_head(seed)
    np.testing.assert_allclose(volume.voxels, scale * head, atol=1)
    assert volume.voxels[mark].min() > volume.voxels[~mark].max()
    assert volume.lesion is None and volume.brain is None and not volume.stack


def standings(scans):
    return {scan.name: (scan.healthy, scan.labelled) for scan in scans}


class TestDiagnosis:
    @pytest.mark.parametrize(
        ("word", "kind"),
        [("NC", "CN"), ("EMCI", "MCI"), ("SMC", "MCI"), (" Dementia ", "AD"), ("pMCI", "MCI"), ("Patient", None)],
    )
    def test_words_and_what_they_say(self, word, kind):
        assert diagnosis.kind_of(word) == kind

    def test_only_who_is_normal_throughout_is_healthy(self):
        assert diagnosis.standing("CN", {"CN"}, "drop") == "healthy"
        assert diagnosis.standing("AD", {"CN", "AD"}, "drop") == "abnormal"
        assert diagnosis.standing(None, {"CN"}, "keep") is None
        for kind, of_person, called in (("MCI", {"MCI"}, "abnormal"), ("CN", {"CN", "MCI"}, "unlabelled")):
            stands = [diagnosis.standing(kind, of_person, mci) for mci in diagnosis.CHOICES]
            assert stands == [called, None, "unlabelled"]


class TestLoni:
    def test_images_and_table_are_joined_by_number(self, loni):
        scans = adni.records(str(loni), mci="keep")
        assert standings(scans) == {
            "002_S_0413/2006-05-02": (True, True),
            "011_S_0003/2005-09-01": (False, False),
            "153_S_4077/2011-09-20": (False, True),
            "153_S_4077/2018-09-20": (False, True),
        }
        assert scans[0].groups == {"site": "002", "diagnosis": "CN", "age": "71", "sex": "F", "visit": "sc"}

    def test_left_stays_left(self, loni):
        for i, place in enumerate((0, 2, 3, 1)):
            scan = pickle.loads(pickle.dumps(adni.records(str(loni), mci="keep")[place]))
            assert stored_axes(scan.files[0]) == "PSR"
            assert_marked_left(scan.load(), i, 1000)

    @pytest.mark.parametrize("place", ["../beside.csv", "ADNI/table.csv", "other.csv"])
    @pytest.mark.parametrize("header", [COLLECTION, COLLECTION.replace(" ", "_"), COLLECTION.replace(" ", ".")])
    def test_the_table_lies_in_or_beside_the_root_and_may_have_gone_through_r(self, loni, place, header):
        (loni / "collection_1_02_2020.csv").unlink()
        (loni / "ADNIMERGE.csv").write_text("RID,PTID,DX\n4,022_S_0004,CN\n")
        (loni / "notes.csv").write_bytes(b"\xff\xfe\x00")
        write_collection(loni / place, ROWS, header)
        assert len(adni.records(str(loni))) == 3

    def test_root_may_be_the_adni_folder_or_hold_several_downloads(self, loni):
        assert len(adni.records(str(loni / "ADNI"))) == len(adni.records(str(loni.parent))) == 3

    def test_people_with_mci_are_dropped_kept_or_called_abnormal(self, loni, warnings):
        assert all(scan.labelled for scan in adni.records(str(loni)))
        assert warnings == [
            f"{loni}: left out 1 of 4 scans of people listed neither as CN throughout nor as AD (mci='drop')."
        ]
        assert standings(adni.records(str(loni), mci="abnormal"))["011_S_0003/2005-09-01"] == (False, True)

    def test_a_normal_visit_of_a_convert_is_not_healthy(self, loni):
        rows = [*ROWS[:3], ("I999", "002_S_0413", "MCI", "m60")]  # its image was never downloaded
        write_collection(loni / "collection_1_02_2020.csv", rows)
        assert "002_S_0413" not in {scan.patient for scan in adni.records(str(loni))}
        assert standings(adni.records(str(loni), mci="abnormal"))["002_S_0413/2006-05-02"] == (False, False)

    def test_one_image_a_day_is_taken(self, loni, warnings):
        day = "2006-05-02_12_31_52.0"
        more = [
            ("002_S_0413", "MPR__GradWarp__B1_Correction__N3__Scaled", day, "S13893", "S13893_I45117.nii"),
            ("002_S_0413", "MPRAGE_Repeat", "2006-05-02_12_45_00.0", "S13894", "S13894_I29703.nii"),
        ]
        write_loni(loni, more)
        write_collection(loni / "more.csv", [(f"I{i}", "002_S_0413", "CN", "sc") for i in (45117, 29703)])
        files = [scan.files[0] for scan in adni.records(str(loni))]
        assert files[0].endswith("_I45117.nii") and len(files) == 3
        assert f"{loni}: left out 2 of 6 images, each another of a day; prefer='corrected'." in warnings
        assert adni.records(str(loni), prefer="original")[0].files[0].endswith("_I29704.nii")
        assert adni.records(str(loni), description="repeat")[0].files[0].endswith("_I29703.nii")

    def test_what_is_no_head_or_not_listed_or_not_there_is_left_out(self, loni, warnings):
        day = "2006-05-02_12_31_52.0"
        more = [
            ("002_S_0413", "Axial_T2_STAR", day, "S1", "S1_I7.nii"),
            ("002_S_0413", "AAHScout_MPR_sag", day, "S2", "S2_I8.nii"),
            ("002_S_0413", "MPRAGE", "2009-05-02_12_31_52.0", "S3", "S3_I9.nii"),
            ("002_S_0413", "MPRAGE", "2009-05-03_12_31_52.0", "S4", "no_number.nii"),
            ("002_S_0413", "MPRAGE", "2006-05-02_12_31_52.0", "S13893", "copy_S13893_I29704.nii.gz"),
        ]
        write_loni(loni, more)
        write_collection(loni / "more.csv", [("I45117", "002_S_0413", "CN", "sc"), ("", "", "", "")])
        assert len(adni.records(str(loni), mci="keep")) == 4
        assert [said.removeprefix(f"{loni}: left out ") for said in warnings] == [
            "2 of 9 images that are no T1, or of another description.",
            "1 lines of the table, without their images.",
            "2 of 7 images that the table does not list.",
            "1 of 5 images, each there twice.",
        ]

    def test_groups_that_say_nothing_are_left_out(self, loni):
        write_collection(
            loni / "collection_1_02_2020.csv", [(i, who, "Patient", v) for i, who, _, v in ROWS[:1]] + ROWS[1:]
        )
        assert {scan.patient for scan in adni.records(str(loni))} == {"153_S_4077"}

    @pytest.mark.parametrize(
        ("row", "sentence"),
        [
            (("I29704", "002_S_0413", "AD", "sc"), "group of 29704 is 'AD', elsewhere 'CN'; one is allowed"),
            (("29704", "002_S_0559", "CN", "sc"), "subject of 29704 is '002_S_0559', elsewhere '002_S_0413'"),
        ],
    )
    def test_lines_that_contradict_are_refused(self, loni, row, sentence):
        write_collection(loni / "more.csv", [row])
        with pytest.raises(ScanError, match=f"more.csv: the {sentence}"):
            adni.records(str(loni))

    def test_images_that_contradict_are_refused(self, loni):
        write_collection(loni / "collection_1_02_2020.csv", [("I29704", "002_S_0559", "CN", "sc")])
        with pytest.raises(ScanError, match="image I29704 is of 002_S_0413, in the table of 002_S_0559"):
            adni.records(str(loni))
        write_loni(loni, [("002_S_0413", "MPRAGE", "2006-05-02_12_31_52.0", "I1", "S1_I2.nii")])
        with pytest.raises(ScanError, match="the image is I2, its folder I1; they must be the same"):
            adni.records(str(loni))

    def test_an_image_of_two_people_is_refused(self, loni):
        write_loni(loni, [("941_S_0001", "MPRAGE", "2006-05-02_12_31_52.0", "S1", "S1_I29704.nii")])
        with pytest.raises(ScanError, match="image I29704 is of 941_S_0001, in the table of 002_S_0413"):
            adni.records(str(loni))

    def test_missing_pieces_are_named(self, loni):
        with pytest.raises(
            ScanError, match="0 T1 images whose description holds 'flair'; the layout must be ADNI/<PTID>"
        ):
            adni.records(str(loni), description="flair")
        (loni / "collection_1_02_2020.csv").unlink()
        with pytest.raises(ScanError, match="no CSV file with lines and the columns Image Data ID, Subject and Group"):
            adni.records(str(loni))


class TestCaps:
    def test_sessions_and_what_they_are(self, tmp_path):
        scans = adni.records(str(write_caps(tmp_path, CAPS)), mci="keep")
        assert standings(scans) == {
            "sub-ADNI005S0221/ses-M006": (False, True),
            "sub-ADNI011S0005/ses-M000": (False, False),
            "sub-ADNI011S0005/ses-M024": (False, False),
            "sub-ADNI022S0004/ses-M000": (True, True),
            "sub-ADNI022S0004/ses-M012": (True, True),
        }
        assert scans[0].groups == {"diagnosis": "AD", "age": "70.5", "sex": "F"}
        assert_marked_left(scans[0].load(), 2)
        assert not any(file.endswith(".pt") for scan in scans for file in (*scan.files, *scan.extras))

    def test_older_names_and_tables_in_folders(self, tmp_path, warnings):
        sessions = [(person, session.replace("M0", "M"), kind) for person, session, kind in CAPS]
        root = write_caps(tmp_path, sessions, "T1w_space-MNI152NLin2009cSym_desc-Crop_res-1x1x1_T1w.nii.gz")
        text = (root / "labels.tsv").read_text()
        (root / "labels.tsv").unlink()
        (root / "splits" / "train").mkdir(parents=True)
        (root / "splits" / "train" / "AD.tsv").write_text(text.replace("ses-M", "ses-M0"))
        scans = adni.records(str(root / "subjects"))
        assert [scan.session for scan in scans] == ["ses-M06", "ses-M00", "ses-M12"]
        assert len(warnings) == 1 and "left out 2 of 5 scans of people listed neither" in warnings[0]

    def test_the_cropped_image_of_a_session_is_taken(self, tmp_path, warnings):
        root = write_caps(tmp_path, CAPS[:1])
        write_caps(
            root, [(*CAPS[0][:1], "ses-M099", "CN")], "acq-A_run-01_space-MNI152NLin2009cSym_res-1x1x1_T1w.nii.gz"
        )
        whole = root / "subjects/sub-ADNI022S0004/ses-M000/t1_linear"
        whole = whole / "sub-ADNI022S0004_ses-M000_space-MNI152NLin2009cSym_res-1x1x1_T1w.nii.gz"
        whole.write_bytes(b"")
        (root / "other.tsv").write_text("participant_id\tsession_id\tdiagnosis\nsub-ADNI022S0004\tses-M0\tCN\n")
        scans = adni.records(str(root))
        assert ["desc-Crop" in scan.files[0] for scan in scans] == [True, False]
        assert warnings[0].endswith("left out 1 of 3 images, each another one of a session.")

    def test_faults_are_named(self, tmp_path):
        root = write_caps(tmp_path, CAPS)
        (root / "other.tsv").write_text("participant_id\tsession_id\tdiagnosis\nsub-ADNI022S0004\tses-M00\tAD\n")
        with pytest.raises(
            ScanError, match="other.tsv: the diagnosis of sub-ADNI022S0004 ses-M0 is 'AD', elsewhere 'CN'; one is"
        ):
            adni.records(str(root))
        (root / "other.tsv").unlink()
        (root / "labels.tsv").unlink()
        with pytest.raises(ScanError, match="no table .* participant_id, session_id and diagnosis"):
            adni.records(str(root))
        for path in root.rglob("*.nii.gz"):
            path.unlink()
        with pytest.raises(ScanError, match="0 images of t1_linear; the layout must be subjects/sub-"):
            adni.records(str(root))


class TestSlices:
    def test_slices_of_a_person_are_put_together_from_all_folders(self, slices):
        for root in (slices, slices / "AD_NC"):
            scans = adni.records(str(root))
            assert standings(scans) == {
                "99": (False, True),
                "218391": (True, True),
                "388206": (False, True),
                "808819": (True, True),
            }
            assert {len(scan.files) for scan in scans} == {20} and {scan.split for scan in scans} == {""}

    def test_slices_are_in_numeric_order_with_the_assumed_sizes(self, slices):
        scan = pickle.loads(pickle.dumps(adni.records(str(slices))[0]))
        volume = scan.load()
        assert [int(file.rpartition("_")[2].removesuffix(".jpeg")) for file in scan.files] == list(range(88, 108))
        hundredth = np.asarray(Image.open(slices / "AD_NC/test/AD/99_100.jpeg"))
        inside = picture(volume.voxels[:, :, 12]) > 0
        np.testing.assert_array_equal(picture(volume.voxels[:, :, 12])[inside], hundredth[inside])
        assert volume.voxels.shape == (24, 32, 20) and volume.stack and volume.lesion is None
        np.testing.assert_array_equal(np.diag(volume.affine), [1, 1, 1, 1])

    def test_left_of_the_picture_is_left(self, slices):
        voxels = adni.records(str(slices))[1].load().voxels
        assert voxels[:8].max() > 240 and voxels[12:].max() < 220

    def test_ripples_in_the_black_become_zero_and_the_brain_is_found(self, slices):
        volume = adni.records(str(slices))[1].load()
        raw = np.asarray(Image.open(slices / "AD_NC/train/NC/218391_80.jpeg"))
        assert raw[0].max() > 5 and not volume.voxels[:, -1].any()
        truth = marked_head(0, (24, 32, 40))[0][:, :, 5 + np.arange(78, 98) % 30] > 0
        mask = brain_mask(volume, "nonzero")
        assert (mask ^ truth).sum() < 0.03 * truth.sum()

    def test_dark_pixels_within_the_head_stay(self):
        dark = np.ones((9, 9, 1), bool)
        dark[2:7, 2:7] = False
        dark[4, 4] = True
        outside = adni_slices._around(dark)
        assert outside[0, 0, 0] and not outside[4, 4, 0] and outside.sum() == 81 - 25

    def test_the_division_is_taken_where_it_is_asked_for(self, slices):
        write_pictures(slices / "AD_NC" / "validation" / "AD", "7", range(3))
        scans = adni.records(str(slices), use_folders=True)
        splits = Counter((scan.patient, scan.split) for scan in scans)
        assert splits == Counter(
            {("7", "train"): 1, ("99", "test"): 1, ("218391", "train"): 1, ("218391", "test"): 1}
            | {("388206", "train"): 1, ("808819", "test"): 1}
        )
        assert {len(scan.files) for scan in scans if scan.patient == "218391"} == {8, 12}

    def test_a_person_of_two_diagnoses_is_refused_by_name(self, slices):
        write_pictures(slices / "AD_NC" / "test" / "AD", "218391", range(1))
        with pytest.raises(ScanError, match=r"218391_\d+.jpeg: 218391 is (AD|NC), in another folder (AD|NC); one is"):
            adni.records(str(slices))

    def test_a_slice_that_is_there_twice_is_left_out(self, slices, warnings):
        write_pictures(slices / "AD_NC" / "test" / "NC", "218391", range(78, 80))
        write_pictures(slices / "AD_NC" / "test" / "NC", "nobody", range(1))
        assert {len(scan.files) for scan in adni.records(str(slices))} == {20}
        assert [said.partition("left out ")[2] for said in warnings] == [
            "1 of 31 pictures whose names hold no person and slice.",
            "2 of 82 pictures, each of a slice that is there already.",
        ]

    def test_participants_give_groups(self, slices):
        (slices / "participants.tsv").write_text("participant_id\tcdr\tsex\n99\t0.5\tF\n218391\t0\t\n")
        scans = adni.records(str(slices / "AD_NC"))
        assert [scan.groups for scan in scans[:3]] == [{"cdr": "0.5", "sex": "F"}, {"cdr": "0"}, {}]
        (slices / "participants.tsv").write_text("participant_id\tsplit\n99\ttest\n")
        with pytest.raises(ScanError, match="participants.tsv: the columns split must have other names"):
            adni.records(str(slices))

    def test_folders_of_people_and_their_kin(self, tmp_path):
        base = tmp_path / "ADNI_dataset_png_axial"
        for kind, person in (("AD", "002_S_0413"), ("CN", "002_S_0559"), ("MCI", "005_S_0222")):
            folder = base / "train" / kind / person
            write_pictures(folder, person, range(12), name="{}_slice_{:03d}.png")
        scans = adni.records(str(base), mci="keep")
        assert standings(scans) == {
            "002_S_0413": (False, True),
            "002_S_0559": (True, True),
            "005_S_0222": (False, False),
        }
        assert [len(scan.files) for scan in scans] == [12] * 3

    def test_folders_without_a_division(self, tmp_path):
        write_pictures(tmp_path / "AD", "ADNI_002_S_0413_MR_MPR_S1_I7", range(3), name="{}_{}.png")
        write_pictures(tmp_path / "AD", "ADNI_002_S_0413_MR_MPR_S2_I9", range(3), name="{}_{}.png")
        write_pictures(tmp_path / "CI", "41", range(3))
        write_pictures(tmp_path / "CN", "42", range(3))
        assert [scan.name for scan in adni.records(str(tmp_path), mci="abnormal")] == [
            "002_S_0413/MR_MPR_S1_I7",
            "002_S_0413/MR_MPR_S2_I9",
            "41",
            "42",
        ]
        with pytest.raises(ConfigError, match="use_folders=True; .* has no folders of train and test"):
            adni.records(str(tmp_path), use_folders=True)

    @pytest.mark.parametrize("name", ["NonDemented", "Very_Mild_Demented"])
    def test_a_release_without_people_is_refused(self, tmp_path, name):
        write_pictures(tmp_path / "train" / name, "nonDem", range(2))
        with pytest.raises(ScanError, match="this release names no people"):
            adni.records(str(tmp_path))

    def test_bad_pictures_are_refused(self, slices):
        for path in (slices / "AD_NC/test/AD").iterdir():
            Image.new("L", (24, 32), 9).save(path)
        with pytest.raises(ScanError, match="test/AD: every pixel has the value 9; an image must have contrast"):
            adni.records(str(slices))[0].load()
        Image.new("L", (24, 31), 9).save(slices / "AD_NC/test/AD/99_90.jpeg")
        with pytest.raises(ScanError, match="99_90.jpeg: 24 x 31 pixels; all slices and masks must have 24 x 32"):
            adni.records(str(slices))[0].load()

    def test_no_named_picture_is_refused(self, tmp_path):
        write_pictures(tmp_path / "AD", "nobody", range(2))
        with pytest.raises(ScanError, match="0 pictures that name a person and a slice; the layout must be AD_NC"):
            adni.records(str(tmp_path))

    def test_real_release(self, real_data):
        scans = adni.records(str(real_data / "oasis"))
        assert len(scans) == 100 and {len(scan.files) for scan in scans} == {32}
        assert all((float(scan.groups["cdr"]) == 0) == scan.healthy for scan in scans)
        for scan in scans[::25]:
            volume = scan.load()
            mask = brain_mask(volume, "nonzero")
            specks = ((volume.voxels > 0) & ~mask).sum()
            assert volume.voxels.shape == (176, 208, 32) and specks < 0.001 * mask.sum()
            assert mask.any((0, 1)).all() and 0.4 < mask.mean() < 0.6


class TestChoices:
    def test_unknown_options_are_refused(self, loni):
        for options in ({"layout": "bids"}, {"mci": "healthy"}, {"prefer": "best"}):
            [(key, value)] = options.items()
            with pytest.raises(ConfigError, match=f"data.options.{key}='{value}'; one of .* is allowed"):
                adni.records(str(loni), **options)
        with pytest.raises(ConfigError, match="use_folders=True; the layout 'loni' has no folders of train and test"):
            adni.records(str(loni), use_folders=True)

    def test_a_folder_with_none_of_the_layouts_is_refused(self, tmp_path):
        with pytest.raises(ScanError, match="0 scans of ADNI; the layout must be ADNI/<PTID>.*subjects/sub-.*AD_NC"):
            adni.records(str(tmp_path))
        with pytest.raises(ScanError, match="nowhere: not a folder"):
            adni.records(str(tmp_path / "nowhere"))

    @pytest.mark.parametrize("layout", ["caps", "loni", "slices"])
    def test_a_layout_that_is_not_there_is_refused(self, tmp_path, layout):
        with pytest.raises(ScanError, match=f"{tmp_path}: 0 .*; the layout must be"):
            adni.records(str(tmp_path), layout=layout)


OASIS = [
    ("OAS1_0001_MR1", "74", "0"),
    ("OAS1_0003_MR1", "73", "0.5"),
    ("OAS1_0061_MR1", "20", ""),
    ("OAS1_0061_MR2", "20", ""),
    ("OAS1_0080_MR1", "61", "0"),
    ("OAS1_0080_MR2", "61", ""),
]


class TestOasis:
    def test_sessions_and_cdr(self, tmp_path, warnings):
        root = write_oasis(tmp_path, OASIS)
        scans = oasis.records(str(root))
        assert standings(scans) == {
            "OAS1_0001/MR1": (True, True),
            "OAS1_0003/MR1": (False, True),
            "OAS1_0080/MR1": (True, True),
            "OAS1_0080/MR2": (True, True),
        }
        assert scans[1].groups == {"age": "73", "sex": "F", "cdr": "0.5", "mmse": "29"}
        assert warnings == [f"{root}: left out 2 of 6 sessions of people who were not assessed (unassessed='drop')."]
        everyone = oasis.records(str(root), unassessed="healthy")
        assert len(everyone) == 6 and [scan.name for scan in everyone if not scan.healthy] == ["OAS1_0003/MR1"]

    def test_analyze_files_are_read_from_right_to_left(self, tmp_path):
        scan = pickle.loads(pickle.dumps(oasis.records(str(write_oasis(tmp_path, OASIS)))[1]))
        assert scan.files[0].endswith("_mpr_n4_anon_111_t88_masked_gfc.img") and scan.extras[0].endswith(".hdr")
        assert stored_axes(scan.files[0]) == "LAS"
        assert_marked_left(scan.load(), 1, 1000)
        assert (brain_mask(scan.load(), "nonzero") == (marked_head(1)[0] > 0)).mean() > 0.99

    def test_discs_and_a_table_beside_them(self, tmp_path):
        write_oasis(tmp_path / "download" / "oasis_cross-sectional_disc1" / "disc1", OASIS[:1], table="")
        write_oasis(tmp_path / "download" / "disc2", OASIS[1:], table="")
        write_oasis(tmp_path, OASIS)
        assert len(oasis.records(str(tmp_path / "download"))) == 4

    def test_neurite_is_read_where_it_is(self, tmp_path):
        root = write_neurite(tmp_path, "OAS1_0001_MR1")
        write_oasis(root, OASIS[:2])
        for path in (root / "OAS1_0001_MR1").rglob("*.img"):
            path.unlink()
        scans = oasis.records(str(root))
        assert stored_axes(scans[0].files[0]) == "LIA" and scans[0].extras == () and scans[0].patient == "OAS1_0001"
        assert_marked_left(scans[0].load(), 0)

    def test_what_is_not_whole_or_not_listed_is_left_out(self, tmp_path, warnings):
        root = write_oasis(tmp_path, OASIS[:2])
        next(root.rglob("OAS1_0001*.hdr")).unlink()
        write_analyze(root / "OAS1_0009_MR1/PROCESSED/MPRAGE/T88_111/x_t88_masked_gfc.img", np.eye(3)[..., None])
        assert [scan.patient for scan in oasis.records(str(root))] == ["OAS1_0003"]
        assert [said.partition("left out ")[2] for said in warnings] == [
            "1 of 3 sessions without an image, or one of its two files.",
            "1 of 2 sessions that the table does not list.",
        ]

    def test_faults_are_named(self, tmp_path):
        with pytest.raises(ScanError, match="nowhere: not a folder"):
            oasis.records(str(tmp_path / "nowhere"))
        with pytest.raises(ScanError, match="0 sessions; the layout must be OAS1_<person>"):
            oasis.records(str(tmp_path))
        with pytest.raises(ConfigError, match="unassessed='ill'; one of .'drop', 'healthy'. is allowed"):
            oasis.records(str(tmp_path), unassessed="ill")
        write_oasis(tmp_path, OASIS[:1], table="")
        with pytest.raises(ScanError, match="no CSV file with the columns ID and CDR"):
            oasis.records(str(tmp_path))
        write_oasis(tmp_path, [("OAS1_0001_MR1", "74", "mild")])
        with pytest.raises(
            ScanError, match="sectional.csv: the CDR of OAS1_0001_MR1 is 'mild'; 0, 0.5, 1, 2, 3 or nothing"
        ):
            oasis.records(str(tmp_path))

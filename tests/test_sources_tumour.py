import pickle
from pathlib import Path

import layouts_tumour as layouts
import numpy as np
import pytest
from absl import logging
from PIL import Image

from symnorm_jax.data.sources import brainmetshare, brats, pictures
from symnorm_jax.data.volumes import digest, read_nifti, stored_axes, write_nifti
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.geometry import voxel_sizes

PEOPLE = ("Mets_001", "Mets_002", "Mets_010")


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *args: said.append(text % args))
    return said


@pytest.fixture(params=[".nii.gz", ".nii", "masked pictures", "bare pictures"])
def mets_root(request, tmp_path):
    if request.param.startswith(".nii"):
        return layouts.write_mets_volumes(tmp_path / "brainmetshare-3", PEOPLE, request.param)
    if request.param == "bare pictures":
        return layouts.write_mets_pictures(tmp_path, PEOPLE, "mets_stanford_release_train")
    part = "stanford_release_brainmask/mets_stanford_releaseMask_train"
    return layouts.write_mets_pictures(tmp_path, PEOPLE, part)


@pytest.fixture
def picture_root(tmp_path):
    return layouts.write_mets_pictures(tmp_path, PEOPLE, "mets_stanford_releaseMask_train")


class TestBrainMetShare:
    def test_every_layout_gives_people_voxels_and_lesions(self, mets_root, warnings):
        scans = brainmetshare.records(str(mets_root))
        assert [scan.name for scan in scans] == list(PEOPLE) and warnings == []
        for seed, scan in enumerate(scans):
            volume = pickle.loads(pickle.dumps(scan)).load()  # as it travels to a worker process
            voxels, _, labels = layouts.sided_head(seed, level=2)
            np.testing.assert_array_equal(volume.voxels, voxels)
            np.testing.assert_array_equal(volume.lesion, labels > 0)
            assert volume.voxels.dtype == np.float32 and volume.lesion.dtype == bool and volume.brain is None
            assert not scan.healthy and scan.labelled and scan.split == ""

    def test_the_lesion_lies_on_the_persons_left(self, mets_root):
        volume = brainmetshare.records(str(mets_root))[0].load()
        assert volume.lesion.any() and not volume.lesion[layouts.SHAPE[0] // 2 :].any()
        assert (volume.affine[:3, :3] >= 0).all()

    @pytest.mark.parametrize("level", range(4))
    def test_channels_are_told_apart(self, mets_root, level):
        scan = brainmetshare.records(str(mets_root), channel=layouts.METS_CHANNELS[level])[1]
        np.testing.assert_array_equal(scan.load().voxels, layouts.sided_head(1, level)[0])
        assert f", {layouts.METS_CHANNELS[level]}" in scan.recipe

    def test_pictures_are_stacks_in_numeric_order_with_the_resampled_spacing(self, picture_root):
        scan = brainmetshare.records(str(picture_root))[0]
        assert [Path(file).stem for file in scan.files] == [str(k) for k in range(1, 13)]
        volume = scan.load()
        assert not volume.stack  # the distance of the slices is known
        np.testing.assert_allclose(voxel_sizes(volume.affine), [0.94, 0.94, 1.0])

    @pytest.mark.parametrize("level", range(3))
    def test_the_root_may_be_any_folder_above_the_cases(self, tmp_path, level, monkeypatch):
        part = "stanford_release_brainmask/mets_stanford_releaseMask_train"
        layouts.write_mets_pictures(tmp_path, PEOPLE, part)
        root = [tmp_path, *[tmp_path / "/".join(part.split("/")[: k + 1]) for k in range(2)]][level]
        monkeypatch.chdir(root)
        scans = [brainmetshare.records(path) for path in (str(root), ".")]
        assert [scan.patient for scan in scans[0]] == list(PEOPLE)
        assert [scan.files for scan in scans[0]] == [scan.files for scan in scans[1]]

    def test_a_test_case_without_mask_is_unlabelled(self, tmp_path):
        root = tmp_path / "brainmetshare-3"
        layouts.write_mets_volumes(root, PEOPLE[:1])
        layouts.write_mets_volumes(root, ("Mets_201",), part="test", lacking=("seg",))
        drawn, bare = brainmetshare.records(str(root))
        assert (drawn.labelled, bare.labelled) == (True, False)
        assert bare.patient == "Mets_201" and bare.extras == () and bare.load().lesion is None
        layouts.write_mets_pictures(tmp_path, ("Mets_300",), "mets_stanford_releaseMask_test", seg=False)
        assert not brainmetshare.records(str(tmp_path))[-1].labelled

    def test_a_train_case_without_its_mask_is_refused_by_name(self, tmp_path):
        layouts.write_mets_volumes(tmp_path, PEOPLE, lacking=("seg",))
        scan = brainmetshare.records(str(tmp_path))[0]
        assert scan.labelled and digest([*scan.files, *scan.extras])
        with pytest.raises(ScanError, match=r"Mets_001/seg.nii.gz: no such file"):
            scan.load()

    def test_cases_that_lack_the_channel_are_left_out_with_a_warning(self, tmp_path, warnings):
        layouts.write_mets_volumes(tmp_path, PEOPLE, lacking=("flair",))
        assert len(brainmetshare.records(str(tmp_path))) == 3 and warnings == []
        kept = brainmetshare.records(str(tmp_path), channel="flair")
        assert [scan.patient for scan in kept] == ["Mets_002", "Mets_010"]
        assert warnings == [f"{tmp_path}: left out 1 of 3 cases without flair."]

    def test_of_several_copies_of_a_person_one_is_taken(self, tmp_path, warnings):
        layouts.write_mets_pictures(tmp_path, PEOPLE, "a/mets_stanford_release_train")
        layouts.write_mets_pictures(tmp_path, PEOPLE, "b/mets_stanford_releaseMask_train")
        files = [brainmetshare.records(str(tmp_path))[0].files[0]]
        layouts.write_mets_volumes(tmp_path / "c", PEOPLE, ".nii")
        files.append(brainmetshare.records(str(tmp_path))[0].files[0])
        layouts.write_mets_volumes(tmp_path / "d", PEOPLE, lacking=("t1_gd",))
        scans = brainmetshare.records(str(tmp_path))
        files += [scan.files[0] for scan in scans[:2]]
        places = [str(Path(file).relative_to(tmp_path)) for file in files]
        assert [place[0] for place in places] == ["b", "c", "c", "d"] and len(scans) == 3
        assert warnings[-1] == f"{tmp_path}: left out 9 of 12 cases, each another copy of one."

    def test_a_copy_with_a_mask_goes_first(self, tmp_path, warnings):
        layouts.write_mets_volumes(tmp_path, ("Mets_001",), part="test", lacking=("seg",))
        layouts.write_mets_pictures(tmp_path, ("Mets_001",), "mets_stanford_releaseMask_train")
        [scan] = brainmetshare.records(str(tmp_path))
        assert scan.labelled and scan.files[0].endswith("1.png") and len(warnings) == 1

    @pytest.mark.parametrize(("folder", "number"), [("seg", 11), ("2", 12)])
    def test_masks_of_other_slices_are_refused_by_name(self, picture_root, folder, number):
        (picture_root / "mets_stanford_releaseMask_train" / "Mets_001" / folder / f"{number}.png").unlink()
        with pytest.raises(ScanError, match=rf"Mets_001/{folder}: {number}.png is not there; 2 and seg must hold"):
            brainmetshare.records(str(picture_root))[0].load()

    def test_pictures_that_are_no_mask_are_refused(self, picture_root):
        case = picture_root / "mets_stanford_releaseMask_train" / "Mets_001"
        (case / "seg" / "9.png").write_bytes((case / "0" / "9.png").read_bytes())
        with pytest.raises(ScanError, match=r"Mets_001/seg/9.png: the lesion mask holds .*; 0 and one other value"):
            brainmetshare.records(str(picture_root))[0].load()

    def test_masks_of_another_size_are_refused(self, picture_root):
        for path in (picture_root / "mets_stanford_releaseMask_train" / "Mets_001" / "seg").iterdir():
            Image.open(path).resize((12, 12)).save(path)
        with pytest.raises(ScanError, match=r"Mets_001/seg: the masks have shape \(12, 12, 12\), their slices"):
            brainmetshare.records(str(picture_root))[0].load()

    def test_masks_on_another_grid_are_refused(self, tmp_path):
        layouts.write_mets_volumes(tmp_path, PEOPLE)
        write_nifti(tmp_path / "train" / "Mets_001" / "seg.nii.gz", np.ones((4, 4, 4), np.uint8), np.eye(4))
        with pytest.raises(ScanError, match="seg.nii.gz: the mask has shape"):
            brainmetshare.records(str(tmp_path))[0].load()

    def test_pictures_without_contrast_or_too_many_are_refused(self, picture_root, monkeypatch):
        scan = brainmetshare.records(str(picture_root))[0]
        monkeypatch.setattr(pictures, "MAX_SLICES", 11)
        with pytest.raises(ScanError, match="12 slices <slice>.png; 1 to 11"):
            scan.load()
        monkeypatch.undo()
        for file in scan.files:
            Image.new("L", (20, 24), 3).save(file)
        with pytest.raises(ScanError, match="Mets_001/2: every pixel has the value 3; an image must have contrast"):
            scan.load()

    def test_bad_roots_and_options_are_refused(self, tmp_path):
        with pytest.raises(ScanError, match="nowhere: not a folder"):
            brainmetshare.records(str(tmp_path / "nowhere"))
        (tmp_path / "0").mkdir()
        with pytest.raises(ScanError, match=r"0 cases; the layout must be .*Mets_001"):
            brainmetshare.records(str(tmp_path))
        with pytest.raises(ConfigError, match="channel='t2'; one of .* is allowed"):
            brainmetshare.records(str(tmp_path), channel="t2")


@pytest.fixture
def africa_root(tmp_path):
    root = tmp_path / "PKG - BraTS-Africa" / "BraTS-Africa"
    layouts.write_brats(root / "95_Glioma", ("BraTS-SSA-00002-000", "BraTS-SSA-00010-000"))
    layouts.write_brats(root / "51_OtherNeoplasms", ("BraTS-SSA-00009-000",))
    return root


class TestBrats:
    def test_both_groups_are_listed_and_nobody_is_healthy(self, africa_root):
        scans = brats.records(str(africa_root))
        assert [scan.name for scan in scans] == [
            "BraTS-SSA-00002/glioma-000",
            "BraTS-SSA-00009/other-000",
            "BraTS-SSA-00010/glioma-000",
        ]
        assert [scan.groups["tumour"] for scan in scans] == ["glioma", "other", "glioma"]
        assert not any(scan.healthy for scan in scans) and all(scan.labelled for scan in scans)

    def test_one_group_can_be_asked_for_from_any_root(self, africa_root, monkeypatch):
        assert [scan.patient for scan in brats.records(str(africa_root), group="other")] == ["BraTS-SSA-00009"]
        monkeypatch.chdir(africa_root / "95_Glioma")
        for root in (str(africa_root.parent.parent), "."):
            assert len(brats.records(root, group="glioma")) == 2
        with pytest.raises(ScanError, match="0 cases of group='other'; the layout must be BraTS-Africa"):
            brats.records(".", group="other")

    def test_an_id_in_both_groups_is_one_person_with_two_sessions(self, africa_root):
        layouts.write_brats(africa_root / "51_OtherNeoplasms", ("BraTS-SSA-00002-000",))
        scans = [scan for scan in brats.records(str(africa_root)) if scan.patient == "BraTS-SSA-00002"]
        assert [scan.session for scan in scans] == ["glioma-000", "other-000"]

    def test_voxels_are_ras_with_their_negative_values_and_zero_background(self, africa_root):
        scan = pickle.loads(pickle.dumps(brats.records(str(africa_root))[0]))
        voxels, brain, labels = layouts.sided_head(0, level=1)
        volume = scan.load()
        assert stored_axes(scan.files[0]) == "LPS"
        np.testing.assert_array_equal(volume.voxels, np.where(brain, voxels - 75.5, 0))
        assert (volume.voxels[brain] < 0).any() and not volume.voxels[~brain].any()
        np.testing.assert_array_equal(volume.lesion, labels > 0)
        assert not volume.lesion[layouts.SHAPE[0] // 2 :].any()  # on the person's left, where it was put

    @pytest.mark.parametrize(("labels", "values"), [("whole", (1, 2, 3)), ("core", (1, 3)), ("enhancing", (3,))])
    @pytest.mark.parametrize("old", [False, True])
    def test_labels_of_both_schemes(self, tmp_path, labels, values, old):
        name = "BraTS2021_00000" if old else "BraTS-GLI-00000-000"
        [scan] = brats.records(str(layouts.write_brats(tmp_path, (name,), old=old)), labels=labels)
        np.testing.assert_array_equal(scan.load().lesion, np.isin(layouts.sided_head(0)[2], values))
        assert f", {labels}, " in scan.recipe and scan.groups == {}

    @pytest.mark.parametrize("old", [False, True])
    def test_channels_have_the_names_of_2023_in_both_schemes(self, tmp_path, old):
        layouts.write_brats(tmp_path, ("BraTS2021_01146" if old else "BraTS-MET-00002-000",), old=old)
        for level, channel in enumerate(layouts.BRATS_CHANNELS):
            [scan] = brats.records(str(tmp_path), channel=channel)
            voxels, brain, _ = layouts.sided_head(0, level)
            np.testing.assert_array_equal(scan.load().voxels[brain], voxels[brain] - 75.5)

    def test_names_are_split_into_person_and_session(self, tmp_path):
        layouts.write_brats(tmp_path / "ASNR-MICCAI-BraTS2023-GLI", ("BraTS-GLI-00207-000", "BraTS-GLI-00207-001"))
        assert [scan.name for scan in brats.records(str(tmp_path))] == ["BraTS-GLI-00207/000", "BraTS-GLI-00207/001"]
        layouts.write_brats(tmp_path / "2021", ("BraTS2021_00000",), old=True, end=".nii")
        assert brats.records(str(tmp_path / "2021"))[0].name == "BraTS2021_00000"

    def test_cases_without_seg_are_unlabelled(self, tmp_path):
        layouts.write_brats(tmp_path / "validation", ("BraTS-SSA-00126-000",), seg=False)
        [scan] = brats.records(str(tmp_path))
        assert not scan.labelled and scan.extras == () and scan.load().lesion is None

    def test_cases_that_lack_the_channel_are_left_out_with_a_warning(self, africa_root, warnings):
        next(africa_root.rglob("BraTS-SSA-00010-000-t2f.nii.gz")).unlink()
        assert len(brats.records(str(africa_root), channel="t2f")) == 2
        assert warnings == [f"{africa_root}: left out 1 of 3 cases without t2f."]

    def test_of_two_copies_the_one_with_a_map_is_taken(self, tmp_path, warnings):
        layouts.write_brats(tmp_path / "a", ("BraTS-GLI-00001-000",), seg=False)
        layouts.write_brats(tmp_path / "b", ("BraTS-GLI-00001-000",))
        [scan] = brats.records(str(tmp_path))
        assert scan.labelled
        assert warnings == [f"{tmp_path}: left out 1 of 2 cases, each another copy of one."]

    def test_the_two_names_of_the_same_people_are_refused_together(self, tmp_path):
        layouts.write_brats(tmp_path / "a", ("BraTS-GLI-00001-000",))
        layouts.write_brats(tmp_path / "b", ("BraTS2021_00005",), old=True)
        with pytest.raises(ScanError, match="holds BraTS2021_00005 and BraTS-GLI-00001, .* a folder with one"):
            brats.records(str(tmp_path))

    @pytest.mark.parametrize("value", [5, 0.5, -1])
    def test_unknown_labels_are_refused(self, africa_root, value):
        scan = brats.records(str(africa_root))[0]
        labels, affine = read_nifti(scan.extras[0])
        labels[3, 3, 3] = value
        write_nifti(scan.extras[0], labels, affine)
        with pytest.raises(ScanError, match=rf"-seg.nii.gz: holds the label {value}; 0, 1, 2, 3 and 4 are allowed"):
            scan.load()

    def test_a_map_on_another_grid_is_refused(self, africa_root):
        scan = brats.records(str(africa_root))[0]
        write_nifti(scan.extras[0], np.ones((4, 4, 4), np.uint8), np.eye(4))
        with pytest.raises(ScanError, match="seg.nii.gz: the mask has shape"):
            scan.load()

    def test_bad_roots_and_options_are_refused(self, tmp_path):
        with pytest.raises(ScanError, match="nowhere: not a folder"):
            brats.records(str(tmp_path / "nowhere"))
        (tmp_path / "Mets_001").mkdir()
        with pytest.raises(ScanError, match="0 cases; the layout must be BraTS-SSA-00002-000/"):
            brats.records(str(tmp_path))
        for option in ({"channel": "t1ce"}, {"group": "normal"}, {"labels": "oedema"}):
            [(key, value)] = option.items()
            with pytest.raises(ConfigError, match=rf"data.options.{key}='{value}'; one of .* is allowed"):
                brats.records(str(tmp_path), **option)

    @pytest.mark.parametrize("channel", brats.CHANNELS)
    def test_real_case(self, real_data, channel):
        [scan] = brats.records(str(real_data / "brats"), channel=channel)
        assert scan.name == "BraTS-GLI-00001/000" and not scan.labelled and not scan.healthy
        volume = scan.load()
        assert stored_axes(scan.files[0]) == "LPS" and volume.voxels.shape == (240, 240, 155)
        np.testing.assert_array_equal(volume.affine[:3, :3], np.eye(3))
        assert 900 < (volume.voxels != 0).sum() / 1000 < 2000  # ml
        # The brain is wider behind its middle than before it, and its temporal lobes and brain stem point down.
        inside = volume.voxels != 0
        width = inside.any(2).sum(0)
        depth = np.flatnonzero(width)
        assert width[depth[len(depth) // 4]] > width[depth[-len(depth) // 4]]
        area = inside.sum((0, 1))
        height = np.flatnonzero(area)
        assert area[height[:15]].sum() < area[height[-15:]].sum()


def test_links_that_run_in_circles_end(tmp_path, warnings):
    layouts.write_brats(tmp_path, ("BraTS-GLI-00001-000",))
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(brats.records(str(tmp_path))) == 1

import pickle
from pathlib import Path

import layouts
import nibabel as nib
import numpy as np
import pytest
from absl import logging
from nilearn.datasets import load_mni152_brain_mask
from PIL import Image
from scipy import ndimage

from symnorm_jax.data.phantom import planting
from symnorm_jax.data.sources import ixi, lgg, pictures
from symnorm_jax.data.volumes import digest
from symnorm_jax.errors import ConfigError, ScanError


@pytest.fixture
def lgg_root(tmp_path):
    return layouts.write_lgg(tmp_path / "kaggle_3m")


@pytest.fixture(scope="module")
def ixi_root(tmp_path_factory):
    return layouts.write_ixi(tmp_path_factory.mktemp("ixi"))


@pytest.fixture(scope="module")
def lesion_masks(tmp_path_factory):
    return str(layouts.write_lesion_masks(tmp_path_factory.mktemp("lesions"), n=8))


def first_file(root, pattern):
    return sorted(root.rglob(pattern))[0]


class TestLgg:
    def test_patients_dates_and_centres_come_from_the_folder_names(self, lgg_root):
        scans = lgg.records(str(lgg_root))
        assert [scan.name for scan in scans][:2] == ["TCGA_CS_4900/20010100", "TCGA_DU_4901/20010101"]
        assert [scan.groups for scan in scans][:2] == [{"site": "CS"}, {"site": "DU"}]
        assert not any(scan.healthy for scan in scans)

    def test_slices_are_stacked_in_numeric_order(self, lgg_root):
        scan = pickle.loads(pickle.dumps(lgg.records(str(lgg_root))[0]))  # as it travels to a worker process
        folder = lgg_root / "TCGA_CS_4900_20010100"
        assert [Path(file).stem.split("_")[-1] for file in scan.files] == [str(k) for k in range(1, 13)]
        tenth = np.asarray(Image.open(folder / f"{folder.name}_10.tif"))[..., 1]
        np.testing.assert_array_equal(scan.load().voxels[:, :, 9], tenth[::-1].T)

    def test_voxels_are_float32_ras_with_the_assumed_spacing(self, lgg_root):
        volume = lgg.records(str(lgg_root))[0].load()
        head, _ = layouts.head((64, 64, 12), seed=0)
        outside = ~volume.lesion
        np.testing.assert_allclose(volume.voxels[outside], (255 * head)[outside], atol=1)
        assert volume.voxels.dtype == np.float32 and volume.lesion.dtype == bool and volume.brain is None
        np.testing.assert_allclose(np.diag(volume.affine), [240 / 64, 240 / 64, 150 / 12, 1])

    def test_the_mask_lies_on_the_lesion(self, lgg_root):
        for scan in lgg.records(str(lgg_root)):
            volume = scan.load()
            assert 0 < volume.lesion.any((0, 1)).sum() < 12
            assert np.unique(volume.voxels[volume.lesion]).tolist() == [round(0.9 * 255)]

    def test_channels_are_told_apart(self, lgg_root):
        scans = [lgg.records(str(lgg_root), channel=channel)[0] for channel in ("t1_pre", "t1_post", "flair")]
        volumes = [scan.load() for scan in scans]
        dark, bright, brightest = (volume.voxels[volume.lesion].mean() for volume in volumes)
        assert dark < bright < brightest
        assert len({scan.recipe for scan in scans}) == 3

    def test_patients_without_a_true_channel_are_left_out_with_a_warning(self, lgg_root, monkeypatch):
        warnings = []
        monkeypatch.setattr(logging, "warning", lambda text, *args: warnings.append(text % args))
        assert len(lgg.records(str(lgg_root))) == len(lgg.records(str(lgg_root), channel="t1_pre")) == 4
        assert warnings == []
        kept = lgg.records(str(lgg_root), channel="t1_post")
        assert [scan.patient for scan in kept] == ["TCGA_CS_4900", "TCGA_DU_4901", "TCGA_FG_4902"]
        assert warnings == [f"{lgg_root}: left out 1 of 4 patients without t1_post."]

    def test_unknown_channel_is_refused(self, lgg_root):
        with pytest.raises(ConfigError, match="channel='t2'; one of .* is allowed"):
            lgg.records(str(lgg_root), channel="t2")

    def test_root_without_patients_is_refused_with_the_layout(self, tmp_path):
        with pytest.raises(ScanError, match="nowhere: not a folder"):
            lgg.records(str(tmp_path / "nowhere"))
        with pytest.raises(ScanError, match="0 patient folders; the layout must be TCGA_<centre>"):
            lgg.records(str(tmp_path))

    def test_folder_without_slices_is_refused(self, lgg_root):
        (lgg_root / "TCGA_AA_0001_20000101").mkdir()
        scan = lgg.records(str(lgg_root), channel="t1_post")[0]
        assert scan.files == ()
        with pytest.raises(ScanError, match=r"0 slices TCGA_AA_0001_20000101_<slice>.tif; 1 to 512"):
            scan.load()

    @pytest.mark.parametrize(
        ("bound", "value", "message"),
        [
            ("MAX_SLICES", 11, "12 slices .*; 1 to 11 are allowed"),
            ("MAX_VOXELS", 1000, r"12 slices of \(64, 64\) pixels; 1000 in all"),
        ],
    )
    def test_too_large_is_refused(self, lgg_root, monkeypatch, bound, value, message):
        monkeypatch.setattr(pictures, bound, value)
        with pytest.raises(ScanError, match=message):
            lgg.records(str(lgg_root))[0].load()

    def test_missing_mask_is_refused_by_name(self, lgg_root):
        first_file(lgg_root, "*_7_mask.tif").unlink()
        scan = lgg.records(str(lgg_root))[0]
        assert digest([*scan.files, *scan.extras])
        with pytest.raises(ScanError, match="TCGA_CS_4900_20010100_7_mask.tif: no such file"):
            scan.load()

    @pytest.mark.parametrize("damage", [b"", b"not a picture", None])
    def test_unreadable_picture_is_refused(self, lgg_root, damage):
        path = first_file(lgg_root, "*_7.tif")
        path.write_bytes(path.read_bytes()[:2000] if damage is None else damage)
        scan = lgg.records(str(lgg_root), channel="t1_pre")[0]
        with pytest.raises(ScanError, match="20010100_7.tif: cannot be read as a picture"):
            scan.load()

    @pytest.mark.parametrize("name", ["*_3.tif", "*_3_mask.tif"])
    def test_picture_of_another_size_is_refused(self, lgg_root, name):
        path = first_file(lgg_root, name)
        Image.open(path).resize((60, 64)).save(path)
        with pytest.raises(ScanError, match="_3.*tif: 60 x 64 pixels; all .* must have 64 x 64"):
            lgg.records(str(lgg_root))[0].load()

    @pytest.mark.parametrize(("name", "mode"), [("*_3.tif", "L"), ("*_3_mask.tif", "RGB")])
    def test_picture_of_another_mode_is_refused(self, lgg_root, name, mode):
        path = first_file(lgg_root, name)
        Image.open(path).convert(mode).save(path)
        with pytest.raises(ScanError, match=f"the picture's mode is {mode}; (RGB|L) is allowed"):
            lgg.records(str(lgg_root))[0].load()

    def test_huge_picture_is_refused_before_it_is_decoded(self, lgg_root, monkeypatch):
        path = first_file(lgg_root, "*_1.tif")
        Image.new("RGB", (2049, 8)).save(path)
        monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
        with pytest.raises(ScanError, match="2049 x 8 pixels; at most 2048 x 2048"):
            lgg.load(str(path.parent), (str(path),), "flair")

    def test_picture_without_contrast_is_refused(self, lgg_root):
        for path in (lgg_root / "TCGA_CS_4900_20010100").glob("*[0-9].tif"):
            Image.new("RGB", (64, 64), (1, 7, 2)).save(path)
        with pytest.raises(ScanError, match="4900_20010100: every pixel has the value 7; an image must have contrast"):
            lgg.records(str(lgg_root))[0].load()

    def test_real_release(self, real_data):
        root = str(real_data / "lgg" / "kaggle_3m")
        counts = {channel: len(lgg.records(root, channel=channel)) for channel in lgg.CHANNELS}
        assert 0 < counts["flair"] - counts["t1_pre"] <= 6  # as many as the whole release has
        assert 0 < counts["flair"] - counts["t1_post"] <= 10
        contrasts = []
        for scan in lgg.records(root)[::6]:
            volume = scan.load()
            around = ndimage.binary_dilation(volume.lesion, iterations=4) & ~volume.lesion
            contrasts.append(volume.voxels[volume.lesion].mean() / volume.voxels[around].mean())
        assert np.median(contrasts) > 1.1


class TestIxi:
    def test_people_sites_and_participants(self, ixi_root):
        scans = ixi.records(str(ixi_root))
        assert [scan.name for scan in scans][:3] == ["IXI012", "IXI015", "IXI018"]
        assert scans[0].groups == {"site": "HH", "age": "20.5", "sex": "M"}
        assert {scan.groups["site"] for scan in scans} == {"HH", "Guys", "IOP"}

    def test_healthy_heads_are_ras_with_brain_and_empty_lesion(self, ixi_root):
        scan = ixi.records(str(ixi_root))[1]
        volume = scan.load()
        head, brain = layouts.head((36, 48, 48), seed=1)
        assert scan.healthy and not volume.lesion.any()
        np.testing.assert_allclose(volume.voxels, 255 * head, atol=0.51)
        np.testing.assert_array_equal(volume.brain, brain)  # the hole in the label map is filled

    def test_brain_at_the_edge_of_the_array_is_not_eaten_by_closing(self):
        whole = np.ones((6, 6, 6), bool)
        np.testing.assert_array_equal(ixi._solid(whole, np.full(3, 2.0)), whole)

    def test_release_without_masks_and_participants(self, tmp_path):
        root = layouts.write_ixi(tmp_path, people=1, labels=False, participants=False)
        for path in (str(root), str(root / "IXI-T1")):
            [scan] = ixi.records(path)
            assert scan.groups == {"site": "HH"} and scan.extras == () and scan.load().brain is None

    def test_demographics_of_the_release_itself(self, tmp_path):
        root = layouts.write_ixi(tmp_path, people=3, participants=False)  # IXI012, IXI015, IXI018
        table = ['IXI_ID,"SEX_ID (1=m, 2=f)",HEIGHT,AGE', "12,2,160,35.8", "12,0,0,", "15,1,0,40.1", "15,2,0,60.2"]
        (root / "IXI.csv").write_text("\n".join([*table, "18,0,0,"]) + "\n")
        groups = [scan.groups for scan in ixi.records(str(root))]
        assert groups == [{"site": "HH", "age": "35.8", "sex": "F"}, {"site": "Guys"}, {"site": "IOP"}]

    @pytest.mark.parametrize("flat", [True, False])
    def test_other_channels_have_no_label_maps_and_nothing_planted(self, ixi_root, lesion_masks, tmp_path, flat):
        folder = tmp_path if flat else tmp_path / "IXI-T2"
        folder.mkdir(exist_ok=True)
        for path in (ixi_root / "IXI-T1").iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
            (folder / path.name.replace("-T1.", "-T2.")).write_bytes(path.read_bytes())
        (tmp_path / "DLMUSE").symlink_to(ixi_root / "DLMUSE")
        scans = ixi.records(str(tmp_path), channel="t2")
        assert len(scans) == 6 and all(scan.files[0].endswith("-T2.nii.gz") for scan in scans)
        assert scans[0].patient == "IXI012" and scans[0].extras == () and scans[0].load().brain is None
        assert "T2" in scans[0].recipe
        with pytest.raises(ConfigError, match="with channel='t2' only '' is allowed"):
            ixi.records(str(tmp_path), channel="t2", lesion_masks=lesion_masks)
        with pytest.raises(ConfigError, match="channel='mra'; one of .*'pd', 't1', 't2'"):
            ixi.records(str(tmp_path), channel="mra")
        with pytest.raises(ScanError, match="0 heads; the layout must be IXI-PD/IXI<number>"):
            ixi.records(str(tmp_path), channel="pd")

    def test_recipes_name_the_planted_lesion_and_its_seed(self, ixi_root, lesion_masks):
        scans = ixi.records(str(ixi_root), lesion_masks=lesion_masks, planted=0.5, seed=3)
        whole, planted = "ixi format 1, T1, ", "ixi format 1, T1, planted with seed 3, "
        assert {scan.recipe for scan in scans} == {
            f"{whole}lesion False, brain True",
            f"{planted}lesion True, brain True",
        }

    def test_second_head_of_a_person_is_left_out(self, tmp_path):
        root = layouts.write_ixi(tmp_path, people=2)
        first = first_file(root, "*-T1.nii.gz")
        (root / "IXI-T1" / "IXI012-HH-9999-T1.nii.gz").write_bytes(first.read_bytes())
        assert [scan.files for scan in ixi.records(str(root))][0] == (str(first),)
        assert len(ixi.records(str(root))) == 2

    def test_root_without_heads_is_refused(self, tmp_path):
        with pytest.raises(ScanError, match="nowhere: not a folder"):
            ixi.records(str(tmp_path / "nowhere"))
        with pytest.raises(ScanError, match="0 heads; the layout must be IXI-T1/IXI<number>"):
            ixi.records(str(tmp_path))

    def test_participants_without_the_columns_are_refused(self, tmp_path):
        root = layouts.write_ixi(tmp_path, people=1)
        (root / "participants.tsv").write_text("id,age\n1,2\n")
        with pytest.raises(ScanError, match="participants.tsv: columns .*; participant_id, age, sex are needed"):
            ixi.records(str(root))

    def test_labels_on_another_grid_are_refused(self, tmp_path):
        root = layouts.write_ixi(tmp_path, people=1)
        path = first_file(root, "*_DLMUSE.nii.gz")
        nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), path)
        with pytest.raises(ScanError, match="the mask has shape"):
            ixi.records(str(root))[0].load()


class TestPlantedLesions:
    def test_a_fraction_receives_lesions_none_of_them_twice(self, ixi_root, lesion_masks):
        scans = ixi.records(str(ixi_root), lesion_masks=lesion_masks, planted=0.5)
        carriers = [scan for scan in scans if not scan.healthy]
        assert len(scans) == 6 and len({scan.extras[0] for scan in carriers}) == len(carriers) == 3
        assert all(scan.load().lesion.any() != scan.healthy for scan in scans)

    def test_whoever_gets_lesions_in_pairs_stands_without_and_with_each(self, ixi_root, lesion_masks):
        options = {"lesion_masks": lesion_masks, "planted": 0.5}
        single, one, two = (ixi.records(str(ixi_root), **options, pairs=pairs) for pairs in (0, 1, 2))
        carriers = {scan.patient for scan in single if not scan.healthy}
        whole = ([one[:3] + one[4:-1] for one in scans if one.patient not in carriers] for scans in (two, single))
        assert next(whole) == next(whole)
        sessions = [scan.session for scan in two if scan.patient in carriers]
        assert sessions == ["healthy", "lesion1", "lesion2"] * 3
        assert all(scan.healthy == (scan.session in ("", "healthy")) for scan in two)
        masks = [scan.extras[0] for scan in two if not scan.healthy]
        assert len(set(masks)) == 6 and masks[::2] == [scan.extras[0] for scan in one if not scan.healthy]
        assert masks[::2] == [scan.extras[0] for scan in single if not scan.healthy]
        keys = [(scan.files, scan.extras, scan.recipe) for scan in (*single, *two) if not scan.healthy]
        assert len(set(keys)) == 9  # another contrast each, and so another place in the store
        whole, first, second = (scan.load() for scan in two if scan.patient == min(carriers))
        assert not whole.lesion.any() and first.lesion.any() and second.lesion.any()
        contrasts = [(one.voxels[one.lesion] / whole.voxels[one.lesion]).mean() for one in (first, second)]
        assert contrasts[0] != pytest.approx(contrasts[1], abs=1e-3)
        with pytest.raises(ScanError, match="8 of 8 .*; planted=1, pairs=2 of 6 people needs 12, none of them twice"):
            ixi.records(str(ixi_root), lesion_masks=lesion_masks, planted=1.0, pairs=2)

    def test_the_head_changes_in_the_lesion_and_its_border_only(self, ixi_root, lesion_masks):
        heads = {scan.name: scan.load() for scan in ixi.records(str(ixi_root))}
        contrasts = []
        for scan in ixi.records(str(ixi_root), lesion_masks=lesion_masks, planted=1.0):
            before, after = heads[scan.name], scan.load()
            changed = before.voxels != after.voxels
            border = ndimage.binary_dilation(after.lesion, np.ones((3, 3, 3)))
            assert changed[after.lesion].mean() > 0.95 and not changed[~border | ~after.brain].any()
            assert not (after.lesion & ~after.brain).any()
            contrasts.append(after.voxels[after.lesion].mean() / before.voxels[after.lesion].mean() - 1)
        assert np.mean(contrasts) < -0.1

    def test_same_seed_same_lesions(self, ixi_root, lesion_masks):
        options = {"lesion_masks": lesion_masks, "planted": 0.5}
        first, again, other = (ixi.records(str(ixi_root), **options, seed=seed) for seed in (0, 0, 1))
        keys = [[scan._replace(load=None, tissue=None) for scan in scans] for scans in (first, again, other)]
        assert keys[0] == keys[1] != keys[2]
        for one, two in zip(first, again, strict=True):
            np.testing.assert_array_equal(one.load().voxels, pickle.loads(pickle.dumps(two)).load().voxels)

    def test_lesion_keeps_its_side_and_place(self, ixi_root, tmp_path):
        brain = ixi.records(str(ixi_root))[0].load().brain
        right_front_top = np.zeros((40, 40, 40), np.uint8)
        right_front_top[20:30, 20:30, 20:30] = 1
        affine = np.diag([3.0, 3.0, 3.0, 1.0])
        affine[:3, 3] = [-60, -60, -20]  # from the middle of the MNI brain to its right, front and top
        nib.save(nib.Nifti1Image(right_front_top, affine), tmp_path / "lesion.nii.gz")
        lesion = planting.warp_lesion(tmp_path / "lesion.nii.gz", brain)
        middle = np.argwhere(brain).mean(0)
        assert (np.argwhere(lesion).mean(0) > middle + 1).all()

    def test_mni_box_is_that_of_the_template(self):
        template = load_mni152_brain_mask(resolution=1)
        inside = np.argwhere(template.get_fdata() > 0)
        edges = nib.affines.apply_affine(template.affine, [inside.min(0) - 0.5, inside.max(0) + 0.5])
        np.testing.assert_array_equal(planting.MNI_BRAIN, edges)

    def test_without_labels_the_lesion_still_lies_in_the_head(self, tmp_path, lesion_masks):
        labelled = layouts.write_ixi(tmp_path / "labelled", people=3)
        bare = layouts.write_ixi(tmp_path / "bare", people=3, labels=False)
        options = {"lesion_masks": lesion_masks, "planted": 1.0}
        releases = (ixi.records(str(root), **options) for root in (labelled, bare))
        for with_labels, without in zip(*releases, strict=True):
            volume, lesion = with_labels.load(), without.load().lesion
            assert lesion[volume.brain].sum() > 0.9 * lesion.sum() > 0

    def test_impossible_plantings_are_refused(self, ixi_root, lesion_masks, monkeypatch):
        monkeypatch.setattr(planting, "LESION_ML", (200, 300))
        with pytest.raises(ScanError, match="0 of 8 .* hold 200 to 300 ml; planted=0.5, pairs=0 of 6 people needs 3"):
            ixi.records(str(ixi_root), lesion_masks=lesion_masks, planted=0.5)
        with pytest.raises(ConfigError, match="planted=1.5; a fraction from 0 to 1"):
            ixi.records(str(ixi_root), lesion_masks=lesion_masks, planted=1.5)

    def test_lesion_outside_the_brain_is_refused(self, ixi_root, tmp_path):
        brain = ixi.records(str(ixi_root))[0].load().brain
        affine = np.diag([3.0, 3.0, 3.0, 1.0])
        affine[:3, 3] = [-72, -107, -72]  # a corner of the box, outside the ellipsoid in it
        path = tmp_path / "x_lesion.nii.gz"
        nib.save(nib.Nifti1Image(np.pad(np.ones((4, 4, 4), np.uint8), 2), affine), path)
        with pytest.raises(ScanError, match="0 of .* voxels lie in the brain; 30% must"):
            planting.warp_lesion(path, brain)
        with pytest.raises(ScanError, match="the head has 0 voxels of brain"):
            planting.warp_lesion(path, np.zeros_like(brain))

    def test_real_release(self, real_data):
        root, masks = str(real_data / "ixi"), str(real_data / "stroke_masks")
        scans = ixi.records(root, lesion_masks=masks, planted=0.05)
        carriers = [scan for scan in scans if not scan.healthy]
        assert len(carriers) == round(0.05 * len(scans)) > 0
        for scan in carriers:
            volume = scan.load()
            assert 0.5 < volume.lesion.sum() * 0.008 < 150 and 900 < volume.brain.sum() * 0.008 < 2000

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from commands import symnorm
from scipy import ndimage

from symnorm_jax.data.phantom import layouts
from symnorm_jax.data.phantom import people as phantom
from symnorm_jax.data.sources import brainmetshare, brats
from symnorm_jax.data.volumes import read_nifti, read_volume, stored_axes
from symnorm_jax.errors import ConfigError
from symnorm_jax.geometry import mirror

SPACING = 8.0


def write(layout, root, people=8, seed=0, workers=1):
    return layouts.write(layout, root, people, SPACING, seed, workers)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of each layout's release, with 8 people."""
    root = tmp_path_factory.mktemp("phantoms")
    return {name: write(name, root / name) for name in layouts.LAYOUTS}


def names(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def glioma(contrast="t1_gd", labels="whole", spacing=4.0, person="phantom-p0001"):
    return phantom.load(person, "glioma", phantom.Look(3, contrast, spacing, labels))


class TestBrainMetShare:
    def test_the_tree_is_that_of_the_release(self, written):
        root = written["brainmetshare"]
        trained = [f"train/Mets_{k:03d}/{piece}.nii.gz" for k in range(1, 8) for piece in (*layouts.METS, "seg")]
        tested = ["test/Mets_201/t1_gd.nii.gz", "test/Mets_201/t1_pre.nii.gz"]
        assert root.name == "brainmetshare-3"
        assert names(root) == sorted([*trained, *tested])

    def test_the_adapter_reads_the_phantoms_back(self, written):
        scans = brainmetshare.records(str(written["brainmetshare"]))
        made = phantom.records(None, healthy=0, patients=8, seed=2000, contrast="t1_gd", spacing=SPACING)
        assert [scan.labelled for scan in scans] == [True] * 7 + [False]
        for k in (0, 6, 7):
            here, there = scans[k].load(), made[k].load()
            np.testing.assert_allclose(here.voxels, 10 * there.voxels, atol=1.01)
            np.testing.assert_allclose(here.affine, there.affine)
            np.testing.assert_array_equal(here.voxels != 0, there.brain)
            if scans[k].labelled:
                np.testing.assert_array_equal(here.lesion, there.lesion)

    def test_the_channels_are_contrasts_of_one_head(self, written):
        root = str(written["brainmetshare"])
        heads = [brainmetshare.records(root, channel=channel)[0].load() for channel in layouts.METS]
        for head in heads[1:]:
            np.testing.assert_array_equal(head.voxels != 0, heads[0].voxels != 0)
            np.testing.assert_array_equal(head.lesion, heads[0].lesion)
            assert not np.allclose(head.voxels, heads[0].voxels, atol=50)


class TestBrats:
    def test_the_tree_is_that_of_the_release(self, written):
        root = written["brats"]
        cases = [f"95_Glioma/BraTS-SSA-{k:05d}-000" for k in range(2, 7)]
        cases += [f"51_OtherNeoplasms/BraTS-SSA-{k:05d}-000" for k in range(7, 10)]
        pieces = ("t1n", "t1c", "t2f", "seg")
        assert root.name == "BraTS-Africa"
        assert names(root) == sorted(f"{case}/{Path(case).name}-{piece}.nii.gz" for case in cases for piece in pieces)

    def test_files_are_stored_as_in_the_release(self, written):
        scan = brats.records(str(written["brats"]))[0]
        assert stored_axes(scan.files[0]) == stored_axes(scan.extras[0]) == "LPS"
        volume = scan.load()
        inside = ndimage.binary_fill_holes(volume.voxels != 0)
        assert 0.002 < (volume.voxels[inside] < 0).mean() < 0.03 and (volume.voxels == 0).mean() > 0.3
        assert (read_nifti(scan.extras[0])[0] % 1 == 0).all() and volume.voxels.max() > 1000

    def test_the_adapter_reads_the_phantoms_back(self, written):
        options = {"healthy": 0, "patients": 8, "seed": 3000, "spacing": SPACING, "noise": layouts.BRATS_NOISE}
        for group, disease, first in (("glioma", "glioma", 0), ("other", "metastases", 5)):
            for labels in ("whole", "core", "enhancing"):
                scan = brats.records(str(written["brats"]), group=group, labels=labels)[0]
                made = phantom.records(None, contrast="t1_gd", disease=disease, labels=labels, **options)[first].load()
                volume = scan.load()
                np.testing.assert_array_equal(volume.lesion, made.lesion)
                assert np.corrcoef(volume.voxels[made.brain], made.voxels[made.brain])[0, 1] > 0.99999
                assert not volume.voxels[~made.brain].any()

    def test_scans_are_noisier_than_those_of_brainmetshare(self):
        roughness = []
        for noise in (1.0, layouts.BRATS_NOISE):
            head = phantom.load("phantom-p0000", None, phantom.Look(0, "t1_gd", 4.0, noise=noise))
            rough = head.voxels - ndimage.gaussian_filter(head.voxels, 1.0)
            roughness.append(rough[ndimage.binary_erosion(head.brain, iterations=3)].std())
        assert roughness[1] > 1.1 * roughness[0]


class TestAdni:
    def test_the_tree_and_the_collection_are_those_of_the_release(self, written):
        root = written["adni"]
        [table] = root.glob("*.csv")
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert tuple(rows[0]) == layouts.ADNI_COLUMNS and len(rows) == 8 + 3
        day, ptid = r"\d{4}-\d\d-\d\d_10_41_36\.0", r"\d{3}_S_\d{4}"
        pattern = re.compile(rf"ADNI/({ptid})/MPRAGE/{day}/(I\d+)/ADNI_\1_MR_MPRAGE_br_raw_\d+_1_S\d+_\2\.nii")
        found = [pattern.fullmatch(str(path.relative_to(root))) for path in root.rglob("*.nii")]
        assert sorted(match.groups() for match in found) == sorted(
            (row["Subject"], row["Image Data ID"]) for row in rows
        )
        assert {row["Group"] for row in rows} == {"CN", "AD"} and len({row["Subject"] for row in rows}) == 8

    def test_a_second_visit_is_the_same_head_a_year_later(self, written):
        with next(written["adni"].glob("*.csv")).open(newline="") as file:
            rows = list(csv.DictReader(file))
        first, second = [row for row in rows if row["Subject"] == rows[0]["Subject"]]
        assert first["Group"] == second["Group"] and (first["Visit"], second["Visit"]) == ("sc", "m12")
        assert int(second["Age"]) == int(first["Age"]) + 1
        files = [next(written["adni"].rglob(f"*_{row['Image Data ID']}.nii")) for row in (first, second)]
        heads = [read_volume(file).voxels for file in files]
        assert stored_axes(files[0]) == "PSR"
        np.testing.assert_array_equal(heads[0] != 0, heads[1] != 0)
        assert 0.8 < np.corrcoef(heads[0].ravel(), heads[1].ravel())[0, 1] < 0.9999

    def test_those_with_atrophy_are_listed_as_ad_and_no_others(self, written):
        with next(written["adni"].glob("*.csv")).open(newline="") as file:
            group = {row["Image Data ID"]: row["Group"] for row in csv.DictReader(file)}
        options = {"healthy": 5, "patients": 3, "seed": 1000, "spacing": SPACING, "disease": "atrophy"}
        made = {True: [], False: []}
        for scan in phantom.records(None, **options):
            made[scan.healthy].append(scan.load().voxels)
        for path in written["adni"].rglob("*.nii"):
            voxels = read_nifti(path)[0] / 10
            apart = {healthy: min(np.abs(voxels - one).mean() for one in those) for healthy, those in made.items()}
            assert min(apart, key=apart.get) == (group[path.parent.name] == "CN")


class TestGlioma:
    @pytest.mark.parametrize("person", [f"phantom-p{k:04d}" for k in range(4)])
    def test_one_large_tumour_on_one_side_in_three_parts(self, person):
        whole, core, enhancing = (glioma(labels=labels, person=person).lesion for labels in phantom.LABELS)
        assert (whole >= core).all() and (core >= enhancing).all() and enhancing.any()
        assert 1.05 * core.sum() < whole.sum() and 1.05 * enhancing.sum() < core.sum()
        _, count = ndimage.label(core, np.ones((3, 3, 3)))
        assert count == 1 and 10 < core.sum() * 0.064 < 80  # ml
        assert not ndimage.binary_dilation(core & ~enhancing)[~core].any()  # the dead core is inside a rim
        assert (core & mirror(core)).sum() < 0.5 * core.sum()

    def test_each_part_looks_as_its_contrast_says(self):
        changes = {}
        for contrast in ("t1", "t1_gd", "flair"):
            ill, well = glioma(contrast), phantom.load("phantom-p0001", None, phantom.Look(3, contrast, 4.0))
            core, enhancing = glioma(contrast, "core").lesion, glioma(contrast, "enhancing").lesion
            parts = {"oedema": ill.lesion & ~core, "rim": enhancing, "dead": core & ~enhancing}
            change = {name: ill.voxels[part].mean() / well.voxels[part].mean() - 1 for name, part in parts.items()}
            changes[contrast] = change
            outside = ~ndimage.binary_dilation(ill.lesion, np.ones((3, 3, 3)), iterations=2)
            np.testing.assert_array_equal(ill.voxels[outside], well.voxels[outside])
        assert changes["t1_gd"]["rim"] > 0.1 > -0.1 > changes["t1_gd"]["dead"]
        assert changes["flair"]["oedema"] > 0.2 and changes["flair"]["dead"] < changes["flair"]["oedema"] - 0.1
        assert max(changes["t1"].values()) < -0.05

    def test_metastases_have_parts_too(self):
        seen = [
            phantom.load("phantom-p0003", "metastases", phantom.Look(3, "t1_gd", 4.0, labels)).lesion
            for labels in phantom.LABELS
        ]
        assert (seen[0] >= seen[1]).all() and seen[1].any()
        np.testing.assert_array_equal(seen[1], seen[2])


class TestRecords:
    def test_the_recipe_names_the_new_options_and_keeps_the_old_text(self):
        variants = [{}, {"disease": "glioma"}, {"labels": "core"}, {"noise": 2.0}]
        recipes = [
            phantom.records(None, healthy=0, patients=1, seed=3, spacing=5.0, **variant)[0].recipe
            for variant in variants
        ]
        assert recipes[0] == "phantom format 2: phantom-p0000, metastases, seed 3, t1, 5.0 mm"
        assert len(set(recipes)) == len(variants)

    def test_visits_are_sessions_of_one_person(self):
        scans = phantom.records(None, healthy=1, patients=1, seed=3, spacing=5.0, visits=2)
        assert [scan.name for scan in scans] == [f"phantom-{who}0000/visit{k}" for who in "hp" for k in range(2)]
        assert len({scan.recipe for scan in scans}) == 4
        [single, _] = phantom.records(None, healthy=1, patients=1, seed=3, spacing=5.0)
        first, second = (scan.load() for scan in scans[:2])
        np.testing.assert_array_equal(single.load().voxels, first.voxels)
        np.testing.assert_array_equal(first.brain, second.brain)
        assert not np.array_equal(first.voxels, second.voxels)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"disease": "stroke"}, "disease='stroke'; one of .*atrophy"),
            ({"labels": "rim"}, "labels='rim'; one of .*whole"),
            ({"noise": 6.0}, "noise=6.0; 0.0 to 5.0"),
            ({"noise": float("nan")}, "noise=nan"),
            ({"visits": 0}, "visits=0"),
        ],
    )
    def test_impossible_options_are_refused(self, change, message):
        with pytest.raises(ConfigError, match=message):
            phantom.records(None, healthy=1, patients=1, seed=0, **change)


class TestWriting:
    def test_another_seed_or_layout_has_other_people(self, written, tmp_path):
        name = "95_Glioma/BraTS-SSA-00002-000/BraTS-SSA-00002-000-t1c.nii.gz"
        here, there = (read_nifti(root / name)[0] != 0 for root in (written["brats"], write("brats", tmp_path, seed=1)))
        mets = brainmetshare.records(str(written["brainmetshare"]))[0].load().voxels != 0
        assert np.mean(here != there) > 0.01 and np.mean(here != mets) > 0.01

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"layout": "lgg"}, "layout='lgg'; one of .'adni', 'brainmetshare', 'brats'. is allowed"),
            ({"people": 7}, "people=7; 8 to 200"),
            ({"seed": 1000}, "seed=1000; 0 to 999"),
        ],
    )
    def test_impossible_wishes_are_refused(self, tmp_path, change, message):
        with pytest.raises(ConfigError, match=message):
            write(**{"layout": "adni", "root": tmp_path / "new"} | change)
        assert not (tmp_path / "new").exists()

    def test_a_folder_that_holds_something_is_not_touched(self, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        for root in (tmp_path, tmp_path / "mine.txt"):
            with pytest.raises(ConfigError, match="is there and not empty; a new or empty folder is allowed"):
                write("adni", root)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_the_command_writes_the_same_files_in_parallel(self, written, tmp_path):
        given = ["--layout=brats", f"--output={tmp_path / 'new'}", "--people=8", f"--spacing={SPACING}"]
        done = symnorm("phantom", *given)
        assert done.returncode == 0 and f"{tmp_path / 'new' / 'BraTS-Africa'}: 8 people" in done.stdout
        here, there = brats.records(str(tmp_path)), brats.records(str(written["brats"]))
        assert len(here) == len(there) == 8
        for one, other in zip(here, there, strict=True):
            np.testing.assert_allclose(one.load().voxels, other.load().voxels, rtol=1e-4, atol=0.01)
            np.testing.assert_array_equal(one.load().lesion, other.load().lesion)

    def test_the_command_refuses_in_one_sentence(self, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        done = symnorm("phantom", "--layout=adni", f"--output={tmp_path}")
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert re.search("error: .*: is there and not empty", done.stderr)

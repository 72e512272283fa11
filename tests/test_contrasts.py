"""Several contrasts of a person: read together, refused where they do not fit, compared and made one map."""

import json
import pickle
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import layouts
import layouts_tumour
import numpy as np
import pandas as pd
import pytest

from configs import demo, simclr, table
from symnorm_jax import channels
from symnorm_jax.data import manifest, samples, store
from symnorm_jax.data.sources import brainmetshare, brats, contrasts, lgg
from symnorm_jax.data.sources import table as listed
from symnorm_jax.data.volumes import Volume, read_nifti, write_nifti
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.files import load_array, load_arrays
from symnorm_jax.inference import embedding
from symnorm_jax.masking import widen
from symnorm_jax.run import Run
from symnorm_jax.rundir import open_run
from symnorm_jax.standardise import Scan as Slices
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.symnorm import Symnorm
from symnorm_jax.training import passes, transfer

TUMOUR = ("t2f", "t1n", "t1c", "t2w")
RIVALS = ("ae", "vae", "context_encoder", "dae", "pddpm")
QUICK = {"train.unet.steps": 3, "train.vae.steps": 3, "data.midline": "centred", "data.workers": 1}
QUICK |= {"evaluation.replicates": 20, "evaluation.interval": "percentile"}


@pytest.fixture(scope="module")
def tumours(tmp_path_factory) -> Path:
    """Three people, of whom the last lacks T2."""
    folder = layouts_tumour.write_brats(
        tmp_path_factory.mktemp("brats"), ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000")
    )
    shutil.copytree(folder / "BraTS-GLI-00002-000", folder / "BraTS-GLI-00003-000")
    for path in (folder / "BraTS-GLI-00003-000").iterdir():
        path.rename(path.with_name(path.name.replace("00002", "00003")))
    (folder / "BraTS-GLI-00003-000" / "BraTS-GLI-00003-000-t2w.nii.gz").unlink()
    return folder


def write_pairs(folder: Path, people: int = 12) -> Path:
    """The table of `layouts`, T1 with an inverted contrast beside it that the second person lacks."""
    rows = pd.read_csv(layouts.write_table(folder, people=people, size=32), dtype=str).rename(columns={"path": "t1"})
    for path in rows.t1:
        voxels, affine = read_nifti(folder / path)
        write_nifti(folder / "flair" / Path(path).name, 255 - voxels, affine)
    rows["flair"] = rows.t1.str.replace("t1/", "flair/")
    rows.loc[1, "flair"] = ""
    rows.to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def run(pairs, tmp_path_factory) -> Run:
    """Two contrasts from scans to a report, in each of which a lesion has a sign of its own."""
    config = table.get_config("tiny")
    asked = {"data.options.channel": "t1,flair", "difference.channels": "mahalanobis"}
    asked |= {"difference.kind": "positive,negative", "data.root": str(pairs)}
    folder = tmp_path_factory.mktemp("run")
    config.update_from_flattened_dict(QUICK | asked | {"data.store": str(folder / "store")})
    open_run(folder / "run", config.lock(), {})
    made = Run(config, folder / "run")
    made.everything()
    return made


class TestScans:
    def test_four_files_are_one_scan(self, tumours):
        scans_of = brats.records(str(tumours), channel=" t2f, t1n,t1c,t2w")
        volume = pickle.loads(pickle.dumps(scans_of[0])).load()
        alone = {name: brats.records(str(tumours), channel=name)[0] for name in TUMOUR}
        assert list(volume.others) == list(TUMOUR[1:])
        for name, found in {"t2f": volume.voxels, **volume.others}.items():
            np.testing.assert_array_equal(found, alone[name].load().voxels)
        np.testing.assert_array_equal(volume.lesion, alone["t2f"].load().lesion)
        assert scans_of[0].location == alone["t2f"].location and scans_of[0].extras == alone["t2f"].extras

    @pytest.mark.parametrize("piece", TUMOUR)
    def test_every_file_counts_in_the_hash(self, tumours, piece, tmp_path):
        folder = shutil.copytree(tumours, tmp_path / "copy")
        before, *_ = brats.records(str(folder), channel=",".join(TUMOUR))
        with next(folder.glob(f"*00001-000/*-{piece}.nii.gz")).open("ab") as file:
            file.write(b"\0")
        assert before.sha256() != brats.records(str(tumours), channel=",".join(TUMOUR))[0].sha256()

    def test_who_lacks_a_contrast_says_so(self, tumours):
        *_, last = brats.records(str(tumours), channel=",".join(TUMOUR))
        with pytest.raises(ScanError, match="there is no t2w; all of t2f, t1n, t1c, t2w are needed"):
            last.load()
        assert len(brats.records(str(tumours), channel="t2f,t1n")) == 3

    def test_the_colours_of_one_picture(self, tmp_path):
        root = str(layouts.write_lgg(tmp_path, patients=2, size=24, slices=5))
        first, copied = lgg.records(root, channel="flair,t1_pre,t1_post")
        volume, alone = first.load(), {name: lgg.records(root, channel=name)[0] for name in lgg.CHANNELS}
        for name, found in {"flair": volume.voxels, **volume.others}.items():
            np.testing.assert_array_equal(found, alone[name].load().voxels)
        assert first.sha256() == alone["flair"].sha256() and first.recipe != alone["flair"].recipe and volume.stack
        with pytest.raises(ScanError, match="there is no t1_post"):
            copied.load()

    def test_pictures_of_several_folders(self, tmp_path):
        root = str(layouts_tumour.write_mets_pictures(tmp_path, ("Mets_001",)))
        [scan] = brainmetshare.records(root, channel="t1_gd,flair")
        np.testing.assert_array_equal(scan.load().others["flair"], layouts_tumour.sided_head(0, 3)[0])

    @pytest.mark.parametrize("given", ["t1n,t1n", "t1n,", ",t1n", "t1n,,t1c"])
    def test_names_twice_or_blank_are_refused(self, tumours, given):
        with pytest.raises(ConfigError, match="data.options.channel=.*; names with commas between them, each once"):
            brats.records(str(tumours), channel=given)

    def test_unknown_names_are_refused(self, tumours):
        with pytest.raises(ConfigError, match="data.options.channel='pd'; one of .*'t1c', 't1n', 't2f', 't2w'"):
            brats.records(str(tumours), channel="t1n,pd")

    @pytest.mark.parametrize(
        "shape, shift, sentence",
        [
            ((5, 5, 4), 0.0, r"b has the shape \(5, 5, 4\), a has \(6, 5, 4\); all contrasts must be on one grid"),
            ((6, 5, 4), 0.4, "corners of b lie 0.40 mm from its own; 0.3 mm are allowed"),
        ],
    )
    def test_another_grid_is_refused(self, shape, shift, sentence):
        lead, other = Volume(np.zeros((6, 5, 4)), np.eye(4)), Volume(np.zeros(shape), np.eye(4))
        other.affine[0, 3] = shift
        with pytest.raises(ScanError, match=f"a: {sentence}"):
            contrasts.read_together({"a": lambda **how: lead, "b": lambda **how: other})

    def test_memory_is_bounded_in_all(self, monkeypatch):
        monkeypatch.setattr(contrasts, "MAX_VOXELS", 200)
        loads = dict.fromkeys("ab", lambda **how: Volume(np.zeros((6, 5, 4), np.float32), np.eye(4)))
        with pytest.raises(ScanError, match=r"a: 2 contrasts of \(6, 5, 4\) voxels; 200 in all"):
            contrasts.read_together(loads)

    def test_the_contrast_with_the_masks_leads(self, tumours):
        lists = {name: brats.records(str(tumours), channel=name)[:1] for name in ("t1n", "t2f")}
        lists["t1n"] = [lists["t1n"][0]._replace(drawn=False)]
        with pytest.raises(ScanError, match="mask is of t2f, not of the first contrast, t1n; name t2f first"):
            contrasts.joined(lists)[0].load()


class TestTables:
    def test_columns_are_contrasts(self, pairs):
        found = listed.records(str(pairs), channel="t1,flair")
        volume = found[0].load()
        np.testing.assert_array_equal(volume.others["flair"], 255 - volume.voxels)
        assert found[0].groups == {"site": "here"} and len(found) == 12
        with pytest.raises(ScanError, match="there is no flair; all of t1, flair are needed"):
            found[1].load()

    @pytest.mark.parametrize(
        "channel, change, error, sentence",
        [
            ("t1", {}, ScanError, "flair='flair/0.nii.gz' is a file.*; files go in brain_path, lesion_path, t1"),
            ("t1,lesion_path", {}, ConfigError, "lesion_path is no column of images"),
            ("t1,flair", {"flair": "t1/0.nii.gz"}, ScanError, "t1/0.nii.gz stands in two columns of t1,flair"),
            ("t1,flair", {"flair": "", "t1": ""}, ScanError, "line 2: .* a t1, a patient and a label of"),
            ("t1,pd", {}, ScanError, "t1, pd, patient, label are needed"),
        ],
    )
    def test_what_means_two_things_is_refused(self, pairs, channel, change, error, sentence, tmp_path):
        folder = shutil.copytree(pairs.parent, tmp_path / "copy")
        rows = pd.read_csv(folder / "pairs.csv", dtype=str)
        for column, cell in change.items():
            rows.loc[0, column] = cell
        rows.to_csv(folder / "pairs.csv", index=False)
        with pytest.raises(error, match=sentence):
            listed.records(str(folder / "pairs.csv"), channel=channel)


class TestSamples:
    @pytest.mark.parametrize("normalise", samples.NORMALISE)
    def test_each_contrast_is_scaled_for_itself_and_one_is_as_it_was_alone(self, normalise):
        """A contrast that is another one times 7 less 100 looks the same; a darkened half of it does not."""
        voxels, brain = layouts.head((40, 40, 30), 0)
        alone = Volume(voxels.astype(np.float32), np.diag([5.0, 5, 5, 1]), brain=brain)
        config = demo.get_config("tiny").data
        config.update({"normalise": normalise, "midline": "centred"})
        half = 7 * voxels - 100 - np.where(np.indices(voxels.shape)[0] < 20, 3, 0)
        both = alone._replace(others={"same": 7 * voxels - 100, "half": half})
        one, made = (samples.cut(volume, brain, True, config) for volume in (alone, both))
        assert made.arrays.shape[-1] == 5 and str(made.rows) == str(one.rows)  # for nan is no nan
        np.testing.assert_array_equal(made.arrays[..., [0, 3, 4]], one.arrays)
        np.testing.assert_allclose(made.arrays[..., 1], one.arrays[..., 0], atol=0.01)
        assert np.abs(made.arrays[..., 2] - one.arrays[..., 0]).max() > 0.3

    def test_a_contrast_without_contrast_is_refused_by_name(self):
        voxels, brain = layouts.head((20, 20, 20), 0)
        flat = Volume(voxels, np.diag([5.0, 5, 5, 1]), others={"pd": np.ones_like(voxels)})
        config = demo.get_config("tiny").data
        config.midline = "centred"
        with pytest.raises(ScanError, match="pd: the brain mask covers .* voxels of one value"):
            samples.cut(flat, brain, True, config)

    @pytest.mark.parametrize("shape", [(2, 6, 4, 3), (2, 6, 4, 6), (1, 6, 4, 2, 3)])
    def test_the_store_gives_back_slices_of_any_number_and_volumes(self, shape, tmp_path, rng):
        arrays = rng.uniform(-3, 3, shape).astype(np.float16)
        store.write(tmp_path, "key", arrays, {})
        rows = pd.DataFrame({"store": "key", "record": range(shape[0]), "records_in_scan": shape[0], "patient": "p"})
        one = store.SampleSource(tmp_path, rows)[shape[0] - 1]
        np.testing.assert_array_equal(one["image"], arrays[-1, ..., :-2])
        np.testing.assert_array_equal(one["brain"], arrays[-1, ..., -2:-1])
        np.testing.assert_array_equal(one["lesion"], arrays[-1, ..., -1] > 0)


class TestMap:
    def test_the_largest_keeps_its_sign_and_each_has_a_kind(self):
        maps = [np.array([[[1.0, -2.0, 3.0]]]), np.array([[[-4.0, 1.0, 2.0]]])]
        of = lambda *kinds: channels.combined(maps, kinds, np.zeros(1), None).tolist()  # noqa: E731
        assert of("signed", "signed") == [[[-4, -2, 3]]]
        assert of("positive", "negative") == [[[4, 0, 3]]]
        assert of("positive", "positive") == [[[1, 1, 3]]]

    def test_the_distance_is_that_of_the_covariance_at_the_height(self):
        low, high = np.eye(2), np.array([[2.0, 0.5], [0.5, 1.0]])
        maps, position = [np.full((3, 1, 1), 2.0), np.full((3, 1, 1), -1.0)], np.array([0.0, 0.5, 1.0])
        found = channels.combined(maps, ["signed", "signed"], position, np.stack([low, high]))
        r = np.array([2.0, -1.0])
        expected = [np.sqrt(r @ np.linalg.inv(s) @ r) for s in (low, (low + high) / 2, high)]
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-6)
        found = channels.combined(maps, ["positive", "positive"], position, np.stack([low, high]))
        np.testing.assert_allclose(found[2], np.sqrt(4 * np.linalg.inv(high)[0, 0]), rtol=1e-6)

    def test_healthy_contrasts_that_go_together_are_measured(self, rng):
        """Correlated by 0.8 in the lower half of the head, by nothing in the upper."""
        scan = Slices(np.ones((20, 16, 16), bool), np.linspace(0, 1, 20), np.arange(20.0))
        share = np.where(scan.position < 0.5, 0.8, 0.0)[:, None, None]

        def people():
            for _ in range(10):
                one, other = rng.standard_normal((2, 20, 16, 16))
                yield scan, [one, share * one + np.sqrt(1 - share**2) * other]

        found = channels.covariance(people(), width=0.05)
        keep = 1 - channels.SHRINKAGE
        np.testing.assert_allclose(found[0], [[1, keep * 0.8], [keep * 0.8, 1]], atol=0.05)
        np.testing.assert_allclose(found[-1], np.eye(2), atol=0.05)


def config_of(preset="", **changes):
    config = demo.get_config(f"tiny,{preset}" if preset else "tiny")
    config.data.options.channel = "a,b,c"
    config.update_from_flattened_dict(changes)
    return config


class TestSystems:
    def test_a_patch_is_hidden_in_all_contrasts(self, rng):
        config = config_of(**{"data.size": (16, 16), "unet.stem": 1, "vae.widths": (8,)})
        model, image = Symnorm(config), jnp.asarray(rng.uniform(size=(2, 16, 16, 3)), jnp.float32)
        variables = model.init(jax.random.key(0), {"image": image})
        hidden = widen(jnp.asarray(rng.random((2, 4, 4)) < 0.5), config.mask.patch)
        answer = lambda image: (model.fill(variables, image, hidden) ** 2).sum()  # noqa: E731
        gradient = jax.jit(jax.grad(answer))(image)
        assert (gradient * hidden == 0).all() and (jnp.abs(gradient * (1 - hidden)).max((0, 1, 2)) > 0).all()

    @pytest.mark.parametrize("name", ["symnorm", *RIVALS])
    def test_every_system_has_a_residual_of_each_contrast_and_embeds_one_map(self, name):
        config = config_of(name if name != "symnorm" else "", **{"data.size": (16, 16)})
        system = BUILD[name](config)
        shapes = {"image": (2, 16, 16, 3), "brain": (2, 16, 16, 1), "difference": (2, 16, 16, 1), "hidden": (2, 4, 4)}
        batch = {key: jax.ShapeDtypeStruct(shape, jnp.float32) for key, shape in shapes.items()}
        batch |= {"hidden": jax.ShapeDtypeStruct((2, 4, 4), bool), "progress": jax.ShapeDtypeStruct((), jnp.float32)}
        batch |= {"index": jax.ShapeDtypeStruct((2,), jnp.int32)}
        key = jax.eval_shape(lambda: jax.random.key(0))
        variables = jax.eval_shape(system.init, key, batch)
        assert jax.eval_shape(system.residual, variables, batch).map.shape == (2, 16, 16, 3)
        assert jax.eval_shape(system.embed, variables, batch).z.shape[0] == 2
        for stage in system.stages.values():
            assert jax.eval_shape(stage.loss, variables, batch, key)[0].shape == ()

    @pytest.mark.parametrize(
        "config, sentence",
        [
            (config_of(**{"difference.kind": "positive,negative"}), "kind='positive,negative'; one, or as many .* 3,"),
            (config_of(**{"difference.kind": "positive,ratio,signed"}), "difference.kind='ratio'; one of"),
            (config_of(**{"difference.channels": "mean"}), "difference.channels='mean'; one of .*largest"),
            (
                config_of(**{"difference.channels": "mahalanobis", "difference.standard": "pixel"}),
                "difference.standard='pixel' with difference.channels='mahalanobis'; 'position' is allowed",
            ),
            (config_of("padim"), "channel='a,b,c' with system='padim'; one contrast is allowed"),
        ],
    )
    def test_what_cannot_be_is_refused_by_name(self, config, sentence):
        with pytest.raises(ConfigError, match=sentence):
            BUILD[config.system](config)

    def test_volumes_have_one_contrast(self):
        config = simclr.get_config("tiny")
        config.data.options.channel = "t1,t2"
        with pytest.raises(ConfigError, match="channel='t1,t2' with system='simclr'; one contrast is allowed"):
            BUILD["simclr"](config)


class TestRuns:
    def test_goes_from_scans_to_report(self, run):
        assert run.finished and "pixel" in json.loads((run.workdir / "metrics.json").read_text())
        assert "data table, t1,flair," in (run.workdir / "report.html").read_text()
        rows = run.manifest
        lacking = rows[rows.split == "excluded"]
        assert list(lacking.patient) == ["person1"] and lacking.exclusion.str.contains("there is no flair").all()
        assert manifest.read_table(run.workdir / "scores.csv").mahalanobis.notna().all()

    def test_the_kept_map_is_the_distance_of_both_maps(self, run):
        raw, kept = (load_array(run.workdir / "maps" / name) for name in ("raw.npy", "difference.npy"))
        assert raw.shape == (*kept.shape, 2)
        healthy = passes.healthy_of(run.workdir, run.config)
        rows = run.manifest[manifest.trainable(run.manifest, run.config.data.train_on)]
        made = passes.Pass(run._system, run.config, rows, run.workdir)
        place, scan, own = next(made._scans())
        one, other = (
            passes.standardise.standardised(own[name], scan, healthy.maps[name], how)
            for name, how in channels.channels_of(run.config).items()
        )
        r = np.stack([np.maximum(one, 0), np.minimum(other, 0)], -1)
        inverse = np.linalg.inv(passes.standardise.between(healthy.together, scan.position))
        expected = np.sqrt(np.einsum("nxyc,ncd,nxyd->nxy", r, inverse, r))
        np.testing.assert_allclose(kept[place], expected, atol=0.01, rtol=0.01)
        assert expected.max() > 1 and (kept[place][~scan.brain] == 0).all()

    def test_trivial_scores_and_pictures_are_of_the_leading_contrast(self, run):
        found = load_arrays(run.workdir / "embeddings" / "test.npz")
        source = store.SampleSource(run.config.data.store, run.manifest.loc[found["index"]])
        np.testing.assert_array_equal(found["image"][0], source[0]["image"][..., 0].astype(np.float16))
        assert (found["map"] >= 0).all()

    def test_new_scans_have_the_same_columns(self, run, pairs, tmp_path):
        embedding.embed(run.workdir, pairs, tmp_path / "z.npz", None, None, False)
        found, own = np.load(tmp_path / "z.npz"), load_arrays(run.workdir / "embeddings" / "test.npz")
        rows = run.manifest.loc[own["index"]]
        place = {one: i for i, one in enumerate(zip(found["patient"], found["slice"], strict=True))}
        again = [place[one] for one in zip(rows.patient, rows.slice.astype(int), strict=True)]
        np.testing.assert_allclose(found["z"][again], own["z"], atol=1e-3)
        assert "there is no flair" in (tmp_path / "z.npz.excluded.csv").read_text()
        with pytest.raises(ScanError, match="the model has several contrasts; a .csv with columns t1,flair is needed"):
            embedding.embed(run.workdir, pairs.parent / "t1", tmp_path / "other.npz", None, None, False)

    def test_networks_of_another_number_of_contrasts_are_no_start(self, run):
        config = run.config.copy_and_resolve_references().unlock()
        config.data.options.channel, config.difference.kind = "t1", "positive"
        config.init_from = str(run.workdir)
        with pytest.raises(ConfigError, match="number of contrasts .there 2, here 1."):
            transfer.check_source(config, BUILD["symnorm"](config))

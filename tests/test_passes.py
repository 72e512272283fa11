"""The pass between stages: kept maps are those that the networks make, whenever, wherever and in whatever order."""

import shutil

import jax
import numpy as np
import pytest

from configs import demo
from symnorm_jax import standardise
from symnorm_jax.data import pipeline, store
from symnorm_jax.errors import RunError
from symnorm_jax.files import load_array, load_arrays, read_json
from symnorm_jax.run import Run
from symnorm_jax.rundir import COST, DIFFERENCE, HEALTHY, MAPS, RAW, open_run
from symnorm_jax.scoring.embed import Embedder, highest
from symnorm_jax.systems import BUILD
from symnorm_jax.training import passes, train, transfer
from symnorm_jax.training.sharding import make_mesh


@pytest.fixture
def copied(demo_run, tmp_path) -> Run:
    """The finished demo, to be changed; its store is the same."""
    shutil.copytree(demo_run.workdir, tmp_path / "run")
    return Run(demo_run.config, tmp_path / "run")


def variables_of(run: Run):
    system, size = BUILD[run.config.system](run.config), (*run.config.data.size, 1)
    batch = {"image": np.zeros((2, *size), np.float32), "brain": np.zeros((2, *size), np.float32)}
    return transfer.restored(str(run.workdir), system, train.initial_variables(system, run.config, batch, make_mesh()))


def pass_of(run: Run) -> passes.Pass:
    rows = run.manifest[(run.manifest.split == "train") & (run.manifest.label == "healthy")]
    return passes.Pass(BUILD[run.config.system](run.config), run.config, rows, run.workdir)


def test_kept_maps_are_what_one_device_makes_of_each_scan_anew(demo_run):
    made, variables = pass_of(demo_run), variables_of(demo_run)
    place = standardise.scans_of(made.rows)[3]
    samples = [made.source[int(i)] for i in place]
    batch = {name: np.stack([one[name] for one in samples]) for name in ("image", "brain", "index")}
    raw = jax.jit(made.system.residual)(jax.device_get(variables), batch).map[..., 0]
    np.testing.assert_allclose(load_array(made.folder / RAW)[place], raw, atol=1e-3)
    how, healthy = passes.maps_of(demo_run.config)["map"], passes.healthy_of(demo_run.workdir, demo_run.config)
    scan = passes.scan_of(made.rows.iloc[place], batch["brain"][..., 0] > 0)
    expected = standardise.standardised(np.asarray(raw), scan, healthy.maps["map"], how)
    kept = load_array(made.folder / DIFFERENCE)[place]
    np.testing.assert_allclose(kept, expected, atol=0.02)
    assert np.abs(expected).max() > 1


def test_batches_have_the_map_of_their_slice_mirrored_with_it(demo_run):
    config = demo_run.config.copy_and_resolve_references().unlock()
    config.data.flip = True
    made = pass_of(demo_run)
    kept = load_array(made.folder / DIFFERENCE)
    source = store.SampleSource(config.data.store, made.rows, differences=kept)
    batch = next(pipeline.training_batches(source, config, 32, asks=()))
    assert "hidden" not in batch and batch["difference"].shape == batch["image"].shape
    place, mirrored = {index: i for i, index in enumerate(made.rows.index)}, 0
    for index, image, difference in zip(*(batch[name] for name in ("index", "image", "difference")), strict=True):
        own = kept[place[index]].astype(np.float32)
        if (image == source[place[index]]["image"]).all():
            np.testing.assert_array_equal(difference[..., 0], own)
        else:
            np.testing.assert_array_equal(difference[..., 0], own[::-1])
            mirrored += 1
    assert 5 < mirrored < 27


@pytest.mark.two_devices
def test_a_scoring_batch_that_devices_do_not_divide_is_rounded_up(copied, demo_run):
    config = demo_run.config.copy_and_resolve_references().unlock()
    config.score.batch_size = 3
    run = Run(config, copied.workdir)
    for name in (RAW, DIFFERENCE):
        (run.workdir / MAPS / name).unlink()
    (run.workdir / COST).unlink()
    found = pass_of(run).differences(variables_of(run))
    np.testing.assert_allclose(found, load_array(demo_run.workdir / MAPS / DIFFERENCE), atol=0.02)
    run.measure_cost()
    assert read_json(run.workdir / COST)["passes"] > 0


@pytest.mark.parametrize("lost", [(DIFFERENCE,), (DIFFERENCE, HEALTHY), (DIFFERENCE, HEALTHY, RAW)])
def test_killed_between_the_pass_and_the_next_stage_it_ends_in_the_same_bits(copied, demo_run, lost):
    for name in lost:
        (copied.workdir / MAPS / name).unlink()
    for name in ("vae", "embeddings"):
        shutil.rmtree(copied.workdir / name)
    copied.train_and_embed()
    for name in (RAW, DIFFERENCE):
        assert (copied.workdir / MAPS / name).read_bytes() == (demo_run.workdir / MAPS / name).read_bytes()
    for split in ("train", "test"):
        one, other = (load_arrays(run.workdir / "embeddings" / f"{split}.npz") for run in (copied, demo_run))
        assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_maps_of_a_stage_that_is_trained_again_are_refused(copied):
    shutil.rmtree(copied.workdir / "embeddings")
    shutil.rmtree(copied.workdir / "unet" / "ckpt")
    shutil.rmtree(copied.workdir / "vae")
    with pytest.raises(RunError, match="maps is there, but unet before it is not finished; remove maps"):
        copied.train_and_embed()


def test_a_threshold_that_no_map_reaches_is_refused_before_the_vae_is_trained(copied):
    shutil.rmtree(copied.workdir / "embeddings")
    shutil.rmtree(copied.workdir / "vae")
    most = np.abs(load_array(copied.workdir / MAPS / DIFFERENCE)).max()
    copied.config = copied.config.copy_and_resolve_references()
    copied.config.difference.threshold = 60.0
    with pytest.raises(RunError, match=f"difference.threshold=60, and the maps of training slices reach {most:.3g}"):
        copied.train_and_embed()
    assert not (copied.workdir / "vae" / "metrics.jsonl").exists()


def test_a_run_without_its_healthy_maps_says_so(copied):
    (copied.workdir / MAPS / HEALTHY).unlink()
    with pytest.raises(RunError, match="healthy.npz is missing; the run's training makes it"):
        passes.healthy_of(copied.workdir, copied.config)


def test_a_slice_has_its_map_in_whatever_order_and_company_scans_come(demo_run):
    """Smoothing across slices takes neighbours from the scan alone: without the other scans nothing changes."""
    healthy = passes.healthy_of(demo_run.workdir, demo_run.config)
    embedder = Embedder(
        BUILD["symnorm"](demo_run.config), demo_run.config, variables_of(demo_run), healthy, make_mesh()
    )
    rows = demo_run.manifest[demo_run.manifest.split == "test"]
    kept = load_arrays(demo_run.workdir / "embeddings" / "test.npz")
    some = rows[rows.patient.isin(rows.patient.unique()[[1, 4]])].sample(frac=1, random_state=0)
    found = embedder.split(some, "two shuffled scans")
    place = [list(kept["index"]).index(index) for index in some.index]
    for name in ("z", "score.highest", "map", "raw_map", "trivial_asymmetry"):
        np.testing.assert_allclose(found[name], kept[name][place], atol=0.02, rtol=1e-2, err_msg=name)
    np.testing.assert_allclose(found["score.highest"], highest(found["map"].astype(float), found["brain"]), rtol=1e-2)


def test_the_highest_pixels_are_in_the_brain():
    values, brain = np.arange(200.0).reshape(2, 10, 10), np.ones((2, 10, 10), bool)
    brain[1, -1], brain[0, 1:] = False, False
    assert highest(values, brain).tolist() == [np.arange(10).mean(), np.arange(170, 190).mean()]


@pytest.mark.parametrize("name", ["dae"])
def test_rivals_are_standardised_alike(demo_run, name, tmp_path):
    """Their own maps by the same code, and plain intensity, which no network touches, to the same numbers."""
    config = demo.get_config(f"tiny,{name}")
    for stage in BUILD[name](config).stages:
        config.train[stage].steps = 2
    config.data = demo_run.config.data
    open_run(tmp_path / "run", config.lock(), {})
    shutil.copy(demo_run.workdir / "manifest.csv", tmp_path / "run")
    run = Run(config, tmp_path / "run")
    run.train_and_embed()
    one, other = (load_arrays(x.workdir / "embeddings" / "test.npz") for x in (run, demo_run))
    for trivial in ("trivial_intensity", "trivial_intensity_by_position", "trivial_asymmetry"):
        np.testing.assert_allclose(one[f"score.{trivial}"], other[f"score.{trivial}"], rtol=1e-3)
    made = pass_of(run)
    brain = np.stack([made.source[i]["brain"][..., 0] for i in range(len(made.rows))]) > 0
    spread = np.sqrt((load_array(made.folder / DIFFERENCE)[brain].astype(float) ** 2).mean())
    assert 0.6 < spread < 1.3 and one["map"].max() > 1 and {"raw_map", "score.highest"} <= one.keys()

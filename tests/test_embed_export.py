"""Scans embedded with a finished run: what the run itself made of them, in every format, and nothing half done."""

import gzip
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from commands import symnorm
from layouts import write_table
from ml_collections import ConfigDict

from configs import table
from symnorm_jax.data import manifest
from symnorm_jax.data.sources import folder
from symnorm_jax.data.volumes import read_nifti
from symnorm_jax.errors import ScanError
from symnorm_jax.files import load_arrays, write_json
from symnorm_jax.inference.scorer import Scorer
from symnorm_jax.run import FROM_METRICS, FROM_SCORES, Run
from symnorm_jax.rundir import open_run
from symnorm_jax.scoring import export
from symnorm_jax.scoring.scores import own
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.contract import Aux, Batch, Embedding, Stage, System, Variables

QUICK = {
    "system": "linear",  # whose stage has the name of a rival's
    "score.headline": "mahalanobis",
    "data.brain": "file",
    "data.midline": "centred",
    "data.workers": 1,
    "train.baseline.steps": 2,
    "score.batch_size": 8,
}
SIZES = {"slices": {}, "volumes": {"data.size": (24, 24, 12), "data.spacing": 9.0, "data.split": (0.4, 0.3, 0.3)}}


def linear(config: ConfigDict) -> System:
    """Three weighted sums of the voxels, trained a little; a score for slices alone. It compiles in no time."""
    scores = ("size",) if len(config.data.size) == 2 else ()

    def init(key: jax.Array, batch: Batch) -> Variables:
        return {"params": {"net": {"w": jax.random.normal(key, (batch["image"][0].size, 3))}}, "stats": {}}

    def embed(variables: Variables, batch: Batch) -> Embedding:
        z = batch["image"].reshape(len(batch["image"]), -1) @ variables["params"]["net"]["w"]
        shown = None if scores else batch["image"][..., 0]  # a map of volumes
        return Embedding(z, {name: jnp.abs(z).sum(1) for name in scores}, map=shown)

    def loss(variables: Variables, batch: Batch, key: jax.Array):
        return jnp.square(embed(variables, batch).z).mean(), Aux({}, variables["stats"])

    return System(init, {"baseline": Stage(("net",), loss)}, embed, scores=scores)


@pytest.fixture(scope="module", params=SIZES)
def run(request, scans, tmp_path_factory) -> Iterator[Run]:
    """A run that was seen through but for its scores and what comes of them, which nothing here reads."""
    workdir, config = (
        tmp_path_factory.mktemp(request.param) / "run",
        table.get_config("tiny,dae"),
    )  # whose stage has the name of that of `linear`
    own = {"data.root": str(scans), "data.store": str(workdir.parent / "store")}
    config.update_from_flattened_dict(QUICK | SIZES[request.param] | own)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUILD, "linear", linear)
        open_run(workdir, config.lock(), {})
        made = Run(config, workdir)
        for step in (made.prepare, made.train_and_embed, made.fit):
            step()
        for name in ("cost.json", *FROM_SCORES, *FROM_METRICS):
            (workdir / name).touch()
        assert made.finished
        yield made


of_slices, of_volumes = (pytest.mark.parametrize("run", [kind], indirect=True) for kind in SIZES)


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    return write_table(tmp_path_factory.mktemp("heads"), people=12, size=32)


def embed(run: Run, source, output, *more: str, status: int = 0) -> str:
    """What the launcher says; it is to end with `status`."""
    done = symnorm("embed", f"--run={run.workdir}", f"--input={source}", f"--output={output}", *more)
    assert done.returncode == status, done.stderr + done.stdout
    return done.stderr if status else done.stdout


def without_labels(scans: Path) -> Path:
    """The same manifest without a word on who is ill, in another order."""
    path = scans.parent / "unlabelled.csv"
    pd.read_csv(scans)[::-1][["path", "patient", "brain_path"]].to_csv(path, index=False)
    return path


def far(z: np.ndarray, gaussian: dict[str, np.ndarray]) -> np.ndarray:
    """Mahalanobis distances by the inverse of the covariance, in float64."""
    covariance = np.asarray(gaussian["cholesky"], float) @ np.asarray(gaussian["cholesky"], float).T
    off = z.astype(float) - gaussian["mean"]
    return np.sqrt(np.einsum("ni,ij,nj->n", off, np.linalg.inv(covariance), off))


def test_embeddings_are_those_that_the_run_itself_has(run, scans, tmp_path):
    embed(run, without_labels(scans), tmp_path / "out" / "z.npz")
    made, slices = load_arrays(tmp_path / "out" / "z.npz"), len(run.config.data.size) == 2
    numbers = made["slice"] if slices else [0] * len(made["z"])
    place = {key: i for i, key in enumerate(zip(made["patient"], numbers, strict=True))}
    for split in manifest.SPLITS:
        own = load_arrays(run.workdir / "embeddings" / f"{split}.npz", "index", "z", "score.size")
        rows = run.manifest.loc[own["index"]]
        here = [place[key] for key in zip(rows.patient, rows.slice, strict=True)]
        np.testing.assert_allclose(made["z"][here], own["z"], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(made["position"][here], rows.position)
        if slices:
            np.testing.assert_allclose(made["size"][here], own["score.size"], rtol=1e-4)
    assert len(made["z"]) == len(run.manifest) and np.ptp(made["z"], axis=0).min() > 1
    assert ("slice" in made) == ("size" in made) == slices
    distances = far(made["z"], load_arrays(run.workdir / "gaussian.npz"))
    np.testing.assert_allclose(made["mahalanobis"], distances, rtol=1e-3)
    assert set(made["source"]) == {f"t1/{i}.nii.gz" for i in range(12)}


@of_volumes
def test_maps_of_volumes_are_kept_whole_beside_what_they_are_judged_by(run):
    arrays = load_arrays(run.workdir / "embeddings" / "test.npz", "map", "image", "brain", "lesion")
    assert {x.shape[1:] for x in arrays.values()} == {tuple(run.config.data.size)}
    np.testing.assert_array_equal(arrays["map"], arrays["image"])


def scorer_of(run: Run, workdir: Path) -> Scorer:
    """What scores new scans by the run, once it has scores."""
    shutil.copytree(run.workdir, workdir)
    for name in FROM_SCORES:
        (workdir / name).unlink()
    Run(run.config, workdir).score()
    write_json(workdir / "metrics.json", {"sample": {}, "patient": {}})
    return Scorer.load(workdir)


@of_slices
def test_a_scan_gets_a_verdict_and_no_map_of_a_system_without_one(run, scans, tmp_path):
    result = scorer_of(run, tmp_path / "run")(scans.parent / "t1" / "0.nii.gz", scans.parent / "brain" / "0.nii.gz")
    assert result.score > 0 and (result.map, result.lesions, result.about["map"]) == (None, None, None)


@of_volumes
def test_a_scan_gets_the_map_of_its_volume_on_its_own_grid(run, scans, tmp_path):
    brain, stored = scans.parent / "brain" / "0.nii.gz", nib.load(scans.parent / "t1" / "0.nii.gz")
    voxels, inside = (np.asarray(nib.load(path).dataobj) for path in (stored.get_filename(), brain))
    bright = np.zeros(stored.shape, bool)
    bright[18:, 18:, :14] = True  # in no direction in the middle
    voxels = np.where(bright, 250, voxels // 2)
    result = scorer_of(run, tmp_path / "run")(nib.Nifti1Image(voxels, stored.affine), brain)
    shown, labels, about = *(np.asarray(x.dataobj) for x in (result.map, result.lesions)), result.about
    assert shown.dtype == np.float32 and shown.shape == labels.shape == stored.shape
    np.testing.assert_array_equal(result.map.affine, stored.affine)
    there = shown != 0
    assert there.any() and not shown[inside == 0].any() and not labels[inside == 0].any()
    assert np.corrcoef(shown[there], voxels[there])[0, 1] > 0.8  # `linear` shows the image
    assert about["map"]["kind"] == "positive" and about["map"]["unit"] == "values of linear"
    called = shown >= about["map"]["threshold"]
    assert 2 * (called & (labels > 0)).sum() > 0.8 * (called.sum() + (labels > 0).sum())
    [blob] = about["blobs"]
    assert blob["label"] == labels.max() == 1 and np.mean(bright[labels == 1]) > 0.8 and blob["peak"] == shown.max()


@of_slices
def test_every_format_says_the_same(run, scans, tmp_path):
    one = scans.parent / "one.csv"
    one.write_text("\n".join(without_labels(scans).read_text().splitlines()[:3]) + "\n")
    for ending in ("csv", "npz"):
        embed(run, one, tmp_path / f"z.{ending}")
    held, read = load_arrays(tmp_path / "z.npz"), pd.read_csv(tmp_path / "z.csv", keep_default_na=False)
    names = [f"z{i:03d}" for i in range(held["z"].shape[1])]
    about = ["source", "patient", "session", "slice", "position"]
    assert list(read) == [*about, *names, "size", "mahalanobis"]
    np.testing.assert_array_equal(read[names].to_numpy(np.float32), held["z"])
    for name in (*about, "size", "mahalanobis"):
        np.testing.assert_array_equal(read[name].to_numpy(held[name].dtype), held[name])
    assert [held[name].dtype.kind for name in about] == ["U", "U", "U", "i", "f"]
    pytest.importorskip("pyarrow", reason="Parquet is an extra: pip install -e '.[parquet]'")
    embed(run, one, tmp_path / "z.parquet")
    stored = pd.read_parquet(tmp_path / "z.parquet")
    assert list(stored) == list(read) and {str(stored[name].dtype) for name in names} == {"float32"}
    np.testing.assert_array_equal(stored[names].to_numpy(), held["z"])


@pytest.fixture
def heads(scans, tmp_path) -> Path:
    """A folder of two heads, one of them thrice, and of what is none."""
    top = tmp_path / "study" / "heads"
    (top / "deep" / "masks").mkdir(parents=True)
    shutil.copy(scans.parent / "t1" / "0.nii.gz", top / "sub-9_ses-2_T1w.nii.gz")
    image = nib.load(scans.parent / "t1" / "0.nii.gz")
    nib.save(nib.MGHImage(np.asarray(image.dataobj), image.affine), top / "deep" / "mine.mgz")
    shutil.copy(scans.parent / "t1" / "1.nii.gz", top / "deep" / "ten.nii.gz")
    for name in ("deep/masks/ten.nii.gz", "deep/ten_brain_mask.nii.gz", "T1_DLMUSE.nii.gz", "regions.nii.gz"):
        shutil.copy(scans.parent / "brain" / "1.nii.gz", top / name)
    (top / "broken.nii").write_bytes(b"no image")
    (top / ".hidden.nii").write_bytes(b"no image")
    (top / "lost.nii.gz").symlink_to(tmp_path / "nowhere")
    return top


@of_slices
def test_a_folder_is_embedded_but_for_what_is_broken_or_no_image(run, heads, tmp_path):
    output = tmp_path / "z.csv"
    said = embed(run, heads / ".." / "heads", output, "--brain=head")
    rows = pd.read_csv(output, keep_default_na=False).set_index("source")
    assert set(rows.index) == {"sub-9_ses-2_T1w.nii.gz", "deep/mine.mgz", "deep/ten.nii.gz"}
    found = rows.groupby("source")[["patient", "session"]].first()
    assert found.loc["sub-9_ses-2_T1w.nii.gz"].tolist() == ["sub-9", "ses-2"]
    assert found.loc["deep/mine.mgz"].tolist() == ["deep/mine", ""]
    z = rows.filter(regex="^z[0-9]+$")
    np.testing.assert_allclose(z.loc["deep/mine.mgz"], z.loc["sub-9_ses-2_T1w.nii.gz"], rtol=1e-4, atol=1e-5)
    excluded = pd.read_csv(tmp_path / "z.csv.excluded.csv", index_col="source").reason
    assert set(excluded.index) == {"broken.nii", "lost.nii.gz", "regions.nii.gz"}
    assert "as in a mask" in excluded["regions.nii.gz"] and "No such file" in excluded["lost.nii.gz"]
    assert "Left out" in said and "3 files are masks or label maps by their names" in said
    assert f"{len(rows)} rows of 3 scans" in said


@of_volumes
def test_one_scan_is_a_folder_of_one(run, heads, tmp_path):
    embed(run, heads, tmp_path / "all.npz", "--brain=head", f"--store={tmp_path / 'store'}")
    embed(run, heads / "deep" / "ten.nii.gz", tmp_path / "one.npz", "--brain=head")
    all_, one = load_arrays(tmp_path / "all.npz"), load_arrays(tmp_path / "one.npz")
    assert one["source"].tolist() == ["ten.nii.gz"] and one["patient"].tolist() == ["ten"]
    np.testing.assert_allclose(one["z"][0], all_["z"][all_["source"] == "deep/ten.nii.gz"][0], rtol=1e-5, atol=1e-6)
    assert len(list((tmp_path / "store").glob("*.json"))) == 3 and "slice" not in one


@of_slices
def test_what_cannot_be_embedded_ends_in_a_sentence(run, heads, scans, tmp_path):
    def refused(source, output, *more) -> str:
        return embed(run, source, output, *more, status=1)

    output = tmp_path / "z.csv"
    (tmp_path / "empty").mkdir()
    (tmp_path / "scan.png").touch()
    assert "holds no scan" in refused(tmp_path / "empty", output, "--brain=head")
    assert "there is no such file" in refused(tmp_path / "absent", output)
    assert "a folder, a .csv manifest, or a scan" in refused(tmp_path / "scan.png", output)
    assert "ends in one of ['.csv', '.npz', '.parquet']" in refused(heads, tmp_path / "z.xlsx")
    assert "scan.png is a file; a folder is needed" in refused(heads, tmp_path / "scan.png" / "z.csv")
    assert "no scan has a brain mask file" in refused(heads, output)
    assert "data.brain='neck'" in refused(heads, output, "--brain=neck")
    assert "is the input" in refused(scans, scans, "--overwrite")
    assert "none of 1 scans could be used" in refused(heads / "broken.nii", output, "--brain=head")
    assert not output.exists() and len(pd.read_csv(f"{output}.excluded.csv")) == 1
    output.write_text("mine")
    assert "--overwrite replaces it" in refused(heads, output, "--brain=head") and output.read_text() == "mine"
    embed(run, without_labels(scans), output, "--overwrite")
    assert output.read_text().startswith("source,patient") and not Path(f"{output}.excluded.csv").exists()


@of_slices
def test_a_run_that_is_not_finished_is_refused(run, scans, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(run.workdir / "config.json", tmp_path / "run")
    for workdir, sentence in ((tmp_path / "run", "not a finished run"), (tmp_path, "holds no run")):
        done = symnorm("embed", f"--run={workdir}", f"--input={scans}", f"--output={tmp_path / 'z.csv'}")
        assert done.returncode == 1 and sentence in done.stderr


def part(rows: int) -> export.Part:
    return export.Part(pd.DataFrame({"patient": ["é"] * rows}), np.ones((rows, 1001), np.float32), {"s": np.ones(rows)})


@pytest.mark.parametrize("name", ["z.csv", "z.npz", "z.parquet"])
def test_a_table_that_breaks_off_leaves_what_was_there(name, tmp_path):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="Parquet is an extra: pip install -e '.[parquet]'")

    def breaks():
        yield part(2)
        raise ScanError("gone")

    (tmp_path / name).write_text("before")
    with pytest.raises(ScanError, match="gone"):
        export.write(tmp_path / name, breaks())
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "before"


@of_slices
def test_a_table_of_many_parts_is_one_table(tmp_path, monkeypatch, run, scans):
    export.write(tmp_path / "z.csv", iter([part(2), part(3)]))
    read = pd.read_csv(tmp_path / "z.csv")
    assert len(read) == 5 and list(read)[:2] == ["patient", "z0000"] and list(read)[-2:] == ["z1000", "s"]
    embed(run, without_labels(scans), tmp_path / "whole.npz")
    monkeypatch.setattr(export, "ROWS", 8)
    embed(run, without_labels(scans), tmp_path / "parts.npz")
    whole, parts = load_arrays(tmp_path / "whole.npz"), load_arrays(tmp_path / "parts.npz")
    assert list(whole) == list(parts) and all(own(name) for name in whole)
    for name in whole:
        if whole[name].dtype.kind == "f":  # sums over other batches may round otherwise
            np.testing.assert_allclose(whole[name], parts[name], rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(whole[name], parts[name])


@pytest.mark.parametrize(
    ("name", "mask"),
    [("sub-1_T1w", False), ("sub-1_desc-brain_mask", True), ("case_seg", True), ("aparc+aseg", True), ("T1", False)]
    + [("masked_t1", False), ("labels/1", True), ("lesion_study/t1", False), ("consensus/t1-label", True)],
)
def test_masks_are_known_by_their_names(name, mask, tmp_path):
    path = tmp_path / f"{name}.nii.gz"
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert folder.find(tmp_path) == (([], [path]) if mask else ([path], []))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({4: (400, 400, 400)}, "claims 64000000 bytes of voxels"),
        ({4: (2**31 - 1,) * 3}, "at most 134217728 are allowed"),
        ({16: (3,)}, r"shape \(4, 5, 6, 3\); one three-dimensional volume"),
        ({20: (77,)}, "cannot be read"),
    ],
)
def test_the_header_of_a_freesurfer_file_is_not_believed(change, sentence, tmp_path):
    path = tmp_path / "head.mgz"
    nib.save(nib.MGHImage(np.arange(120, dtype=np.uint8).reshape(4, 5, 6), np.eye(4, dtype=np.float32)), path)
    assert read_nifti(path)[0].shape == (4, 5, 6)
    raw = bytearray(gzip.decompress(path.read_bytes()))
    for at, values in change.items():
        struct.pack_into(f">{len(values)}i", raw, at, *values)
    path.write_bytes(gzip.compress(raw))
    with pytest.raises(ScanError, match=sentence):
        read_nifti(path)

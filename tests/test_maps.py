"""Maps carried back lie on the voxels of the scan, and in files that no name can lead astray."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from commands import symnorm
from layouts import write_table
from scipy.spatial.transform import Rotation

from configs.base import base
from configs.table import get_config
from symnorm_jax.cli.scans import carry
from symnorm_jax.data import manifest, samples
from symnorm_jax.data.midline import Midline
from symnorm_jax.data.phantom import people
from symnorm_jax.data.store import SampleSource
from symnorm_jax.errors import RunError
from symnorm_jax.files import save_arrays
from symnorm_jax.run import Run
from symnorm_jax.rundir import open_run
from symnorm_jax.scoring import native

STORED = "LSA"  # how the scans' axes are stored


def store_otherwise(folder: Path) -> None:
    """Turn every file of a table, so that the axes are stored as STORED."""
    for path in folder.rglob("*.nii.gz"):
        image = nib.load(path)
        turn = [nib.orientations.axcodes2ornt(axes) for axes in ("RAS", STORED)]
        nib.save(image.as_reoriented(nib.orientations.ornt_transform(*turn)), path)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Path:
    """A run that was prepared, with embeddings of its test and unlabelled splits whose maps are the slices."""
    folder = tmp_path_factory.mktemp("maps")
    scans = write_table(folder / "table", size=32)
    store_otherwise(folder / "table")
    text = scans.read_text().replace(",person1,healthy", ",../../evil,unlabelled")
    scans.write_text(text.replace(",person0,healthy", ",.._.._evil,unlabelled"))
    config = get_config("tiny")
    changes = {"root": str(scans), "store": str(folder / "store"), "workers": 1, "midline": "centred"}
    config.data.update(changes | {"spacing": 5.0, "slice_spacing": 5.0, "size": (40, 48), "min_brain": 500.0})
    open_run(folder / "run", config.lock(), {})
    run = Run(config, folder / "run")
    run.prepare()
    (run.workdir / "embeddings").mkdir()
    for split in ("test", "unlabelled"):
        source = SampleSource(config.data.store, run.manifest[run.manifest.split == split])
        found = [source[i] for i in range(len(source))]
        arrays = {"index": np.array([one["index"] for one in found]), "z": np.zeros((len(found), 2))}
        arrays["map"] = np.stack([one["image"][..., 0] for one in found]).astype(np.float16)
        save_arrays(run.workdir / "embeddings" / f"{split}.npz", arrays)
    return run.workdir


def test_maps_lie_on_the_voxels_of_the_scan_as_it_is_stored(workdir, tmp_path):
    done = symnorm("score", f"--run={workdir}", "--maps", "-o", str(tmp_path / "out"))
    count = int(done.stdout.splitlines()[-1].removeprefix(f"{tmp_path / 'out'}: ").removesuffix(" maps"))
    listed = pd.read_csv(tmp_path / "out" / "maps.csv", keep_default_na=False)
    judged = manifest.read_manifest(workdir / "manifest.csv").query("split in ('test', 'unlabelled')").patient.unique()
    assert count == len(listed) == len(judged) and set(listed.patient) == set(judged)
    for file, patient in zip(listed.file, listed.patient, strict=True):
        if not patient.startswith("person"):
            continue
        image = nib.load(workdir.parent / "table" / "t1" / f"{patient.removeprefix('person')}.nii.gz")
        map_ = nib.load(tmp_path / "out" / file)
        assert map_.shape == image.shape and "".join(nib.aff2axcodes(map_.affine)) == STORED
        np.testing.assert_allclose(map_.affine, image.affine, atol=1e-4)
        brain = np.asarray(nib.load(str(image.get_filename()).replace("t1", "brain")).dataobj) > 0
        carried, voxels = np.asarray(map_.dataobj), np.asarray(image.dataobj, np.float32)
        right, *wrong = (
            np.corrcoef(turned[brain], voxels[brain])[0, 1]
            for turned in (carried, *(np.flip(carried, i) for i in range(3)))
        )
        assert right > 0.8 and right > max(wrong) + 0.2
        assert map_.get_data_dtype() == np.float32


def test_no_name_leads_out_of_the_folder_or_overwrites_another(workdir, tmp_path):
    carry(workdir, tmp_path / "deep" / "out", ["../../evil", ".._.._evil"])
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"maps.csv", "__.._evil_map.nii.gz", "__.._evil-2_map.nii.gz"}
    assert {path.parent for path in tmp_path.rglob("*.nii.gz")} == {tmp_path / "deep" / "out"}
    listed = pd.read_csv(tmp_path / "deep" / "out" / "maps.csv")
    assert set(listed.patient) == {"../../evil", ".._.._evil"} and listed.file.is_unique


def test_file_names_hold_nothing_but_plain_letters():
    visits = [("a", "b_c"), ("a_b", "c"), ("A_B", "c"), ("x/y", ""), ("x_y", ""), ("", ""), ("é" * 300, ""), ("..", "")]
    names = native.file_names(pd.DataFrame(visits, columns=["patient", "session"])).str.removesuffix(native.ENDING)
    assert names.tolist() == ["a_b_c", "a_b_c-2", "A_B_c-3", "x_y", "x_y-2", "_", "_" * native.LONGEST, "_-2"]


def test_a_map_that_cannot_be_had_is_refused_in_a_sentence(workdir, tmp_path):
    with pytest.raises(RunError, match="--patients='nobody': no map of that patient"):
        carry(workdir, tmp_path / "out", ["nobody"])
    with pytest.raises(RunError, match="holds no run"):
        carry(tmp_path, tmp_path / "out", None)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="is a file; a folder is needed"):
        carry(workdir, tmp_path / "file", None)


def test_a_scan_that_has_changed_since_is_refused(workdir, tmp_path):
    image = workdir.parent / "table" / "t1" / "1.nii.gz"
    before = image.read_bytes()
    nib.save(nib.Nifti1Image(np.random.default_rng(0).random((32, 32, 32)), nib.load(image).affine), image)
    try:
        with pytest.raises(RunError, match="evil: the scan, or what .* is not the one that was prepared"):
            carry(workdir, tmp_path / "out", ["../../evil"])
    finally:
        image.write_bytes(before)


def tilted(voxels, spacing, stack) -> Midline:
    """A plane through the middle of the grid, tilted both ways."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("yz", [7, -5], degrees=True).as_matrix()
    matrix[:3, 3] = np.array(voxels.shape) / 2 * spacing
    return Midline(matrix[:3, 0], float(matrix[:3, 0] @ matrix[:3, 3]), 1.0, 0.0, matrix)


def test_a_lesion_of_a_tilted_head_comes_back_to_where_it_was(monkeypatch):
    monkeypatch.setattr(samples.midline, "find", tilted)  # any tilt will do, and none need be sought
    config = base().data
    config.update({"size": (96, 112), "spacing": 2.0, "slice_spacing": 2.0, "min_brain": 200.0})
    scan = people.records(None, healthy=0, patients=1, seed=1, spacing=2.0, disease="glioma")[0]
    head = scan.load()
    made = samples.cut(head, head.brain, scan.healthy, config)
    assert np.hypot(made.rows[0]["roll"], made.rows[0]["yaw"]) > 8
    about = {"rows": made.rows, "left_out": made.left_out, "to_voxel": made.frame.to_voxel.tolist()}
    rows, lesion = pd.DataFrame(made.rows), made.arrays[..., 2]
    back = native.volume(lesion, rows, about, head.voxels.shape) > 0.5
    assert 2 * (back & head.lesion).sum() / (back.sum() + head.lesion.sum()) > 0.8
    labels = native.volume(lesion, rows, about, head.voxels.shape, order=0)
    assert set(np.unique(labels)) == {0.0, 1.0}

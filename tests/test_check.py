"""A look through a data root finds what is wrong with it, and nothing where nothing is."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import symnorm
from layouts import write_table

from configs.table import get_config
from symnorm_jax.data import check
from symnorm_jax.errors import ConfigError, ScanError


def settings(root, **changes):
    config = get_config("tiny").data
    config.update({"root": str(root), "workers": 1} | changes)
    return config


def command(root: Path, workdir: Path):
    given = [f"--config.data.root={root}", f"--workdir={workdir}", "--config.data.workers=1", "--scans-only"]
    return symnorm("check", "--config=configs/table.py:tiny", *given)


@pytest.fixture
def scans(tmp_path) -> Path:
    return write_table(tmp_path / "table", people=9, size=24)


def spoil(folder: Path) -> None:
    """One scan of NaN, one with a mask of another shape, one that is another's, one cut short."""
    image = nib.load(folder / "t1" / "0.nii.gz")
    voxels = np.asarray(image.dataobj, np.float32)
    voxels[3, 4, 5] = np.nan
    nib.save(nib.Nifti1Image(voxels, image.affine), folder / "t1" / "0.nii.gz")
    mask = nib.load(folder / "lesion" / "2.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj)[1:], mask.affine), folder / "lesion" / "2.nii.gz")
    (folder / "t1" / "4.nii.gz").write_bytes((folder / "t1" / "3.nii.gz").read_bytes())
    whole = (folder / "t1" / "6.nii.gz").read_bytes()
    (folder / "t1" / "6.nii.gz").write_bytes(whole[: len(whole) // 2])


def test_a_clean_root_exits_0(scans, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    done = command(scans, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "RAS" in done.stdout and "24 x 24 x 24" in done.stdout and "8.33 x 8.33 x 8.33" in done.stdout
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["check.csv"]


def test_everything_that_is_wrong_is_found_and_exits_1(scans, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    spoil(scans.parent)
    done = command(scans, tmp_path / "run")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for sentence in ("NaN or infinite", "the mask has shape (23, 24, 24)", "cannot be read as a NIfTI image"):
        assert sentence in done.stdout
    assert "person4" in done.stdout and "unusable" in done.stdout and "repeated" in done.stdout
    assert len((tmp_path / "run" / "check.csv").read_text().splitlines()) == 10


def test_a_row_says_what_a_scan_is(scans):
    spoil(scans.parent)
    table = check.check(settings(scans)).set_index("patient")
    assert list(table.index) == [f"person{i}" for i in range(9)]
    assert set(table.index[table.problem != ""]) == {"person0", "person2", "person6"}
    good = table[table.problem == ""]
    assert set(good.stored_axes) == {"RAS"} and set(good["shape"]) == {"24 x 24 x 24"}
    brain = np.asarray(nib.load(scans.parent / "brain" / "5.nii.gz").dataobj)
    lesion = np.asarray(nib.load(scans.parent / "lesion" / "5.nii.gz").dataobj)
    assert table.brain_share["person5"] == pytest.approx(brain.mean(), abs=1e-4)
    assert table.lesion_ml["person5"] == pytest.approx(lesion.sum() * (200 / 24) ** 3 / 1000, abs=0.01)
    assert table.lesion_ml["person1"] == "" and (table.sha256.str.len() == 64).all()
    assert table.same_as[table.same_as != ""].to_dict() == {"person4": "person3"}


def test_the_same_scan_twice_of_one_person_is_told_and_is_no_leak(scans):
    lines = scans.read_text().splitlines()
    (scans.parent / "t1" / "again.nii.gz").write_bytes((scans.parent / "t1" / "0.nii.gz").read_bytes())
    lines = [f"{line},{'session' if i == 0 else 'first'}" for i, line in enumerate(lines)]
    scans.write_text("\n".join([*lines, lines[1].replace("t1/0", "t1/again").replace("first", "second")]) + "\n")
    table = check.check(settings(scans))
    assert table.same_as.iloc[-1] == "person0/first" and len(check.repeated(table)) == 0
    assert check.tables(table)[0][2][0] == [10, 10, 9, 1, 0]


def test_a_whole_head_is_no_skull_stripped_scan(scans):
    table = check.check(settings(scans, brain="nonzero"))
    assert table.problem.str.contains("are not zero").all()


def test_what_cannot_be_checked_at_all_is_refused(scans, tmp_path):
    with pytest.raises(ConfigError, match="data.brain='skull'"):
        check.check(settings(scans, brain="skull"))
    with pytest.raises(ScanError, match="no such file"):
        check.check(settings(tmp_path / "absent.csv"))

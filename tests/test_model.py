"""A model folder: the run without its people, whole or refused by name."""

import hashlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import symnorm
from safetensors.numpy import load_file, save_file

from symnorm_jax.errors import RunError
from symnorm_jax.inference import distil, model
from symnorm_jax.run import Run


@pytest.fixture(scope="module")
def exported(demo_run: Run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "demo.model"
    done = symnorm("export", f"--run={demo_run.workdir}", "-o", str(folder), "--license=CC-BY-SA-4.0")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def summed(folder: Path) -> None:
    """Make the sums those of the files as they are."""
    names = [line.split("  ")[1] for line in (folder / model.SUMS).read_text().splitlines()]
    lines = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (folder / model.SUMS).write_text("".join(lines))


def test_a_folder_is_the_run_in_every_array_and_number(exported, demo_run):
    here, there = distil.of_run(demo_run.workdir), distil.read(exported)
    assert here.checksum == there.checksum and here[5:] == there[5:]
    assert here.config.to_json() == there.config.to_json()
    for one, other in zip(*(jax.tree.leaves(each[1:4]) for each in (here, there)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert jax.tree.structure(here[1:4]) == jax.tree.structure(there[1:4])


def test_nothing_in_a_folder_names_a_person_a_place_or_shows_a_picture(exported, demo_run):
    files = {path.name: path.read_bytes() for path in exported.iterdir()}
    parts = {"config.json", *(f"{name}.json" for name in model.PARTS)}
    assert set(files) == {model.WEIGHTS, model.SUMS, model.CARD} | parts
    config = demo_run.config
    unwanted = [*demo_run.manifest.patient.unique(), str(demo_run.workdir), config.data.store, "/tmp", "phantom-"]
    for name, content in files.items():
        assert not [text for text in unwanted if text.encode() in content], name
    slices = int((demo_run.manifest.split != "excluded").sum())
    assert max(x.size for x in load_file(exported / model.WEIGHTS).values()) < slices * np.prod(config.data.size)


def test_the_card_has_a_head_that_hubs_read(exported, demo_run):
    _, head, text = (exported / model.CARD).read_text().split("---\n")
    told = {line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in head.splitlines()}
    splits = demo_run.manifest.groupby("split").patient.nunique()
    assert told["license"] == "cc-by-sa-4.0" and told["contrast"] == ["t1 after contrast"]
    assert {name: told["people"][name] for name in splits.index} == splits.to_dict()
    assert "Research use only" in text and "licence was named" not in text
    assert told["results"]["patient"].keys() == {"auroc", "average_precision", "sensitivity", "specificity"}


@pytest.mark.parametrize("name", [model.WEIGHTS, "config.json", "thresholds.json", "reference.json", model.CARD])
def test_a_file_that_was_changed_or_is_missing_is_named(name, copied):
    content = bytearray((copied / name).read_bytes())
    content[-2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(RunError, match=f"{name}: is not the file that was exported"):
        model.of_folder(copied)
    (copied / name).unlink()
    with pytest.raises(RunError, match=f"is no whole model, {name} is missing"):
        model.of_folder(copied)


def test_what_is_summed_rightly_and_cannot_be_used_is_refused(copied):
    arrays = load_file(copied / model.WEIGHTS)
    first = next(name for name in arrays if name.startswith("params."))
    save_file(arrays | {first: arrays[first][..., :1].copy()}, copied / model.WEIGHTS)
    summed(copied)
    with pytest.raises(RunError, match=f"{first} is float32.*, and config.json asks for float32"):
        model.of_folder(copied)
    save_file({name: x for name, x in arrays.items() if name != first}, copied / model.WEIGHTS)
    summed(copied)
    with pytest.raises(RunError, match=f"of another version of symnorm_jax: .*{first}"):
        model.of_folder(copied)
    for text, told in (('{"format": 0}', "its format is 0, and 1 is read here"), ("[]", "of another version")):
        (copied / "config.json").write_text(text)
        summed(copied)
        with pytest.raises(RunError, match=told):
            model.of_folder(copied)


def test_a_folder_of_something_else_is_not_written_to(demo_run, tmp_path):
    (tmp_path / "thesis.txt").touch()
    done = symnorm("export", f"--run={demo_run.workdir}", f"--output={tmp_path}")
    assert done.returncode == 1 and "holds thesis.txt; a folder of its own is needed" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    done = symnorm("export", f"--run={tmp_path}", f"--output={tmp_path / 'model'}")
    assert done.returncode == 1 and "holds no run" in done.stderr

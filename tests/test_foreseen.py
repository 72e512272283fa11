"""What could only fail after hours is refused before the first scan is read: names that are taken, columns, people."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest
from commands import symnorm
from ml_collections import ConfigDict
from test_settings import named

from symnorm_jax import hosts
from symnorm_jax.checks import checked
from symnorm_jax.data import finding, manifest
from symnorm_jax.data.volumes import Scan
from symnorm_jax.errors import ConfigError, RunError, ScanError, reported
from symnorm_jax.scoring.scores import ABOUT, TRIVIAL, ZERO_SHOT, names_of
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.encoder import FINETUNE
from symnorm_jax.training.transfer import FINISHED, check_source

ROOT = Path(__file__).parents[1]


def table(folder: Path, columns: dict[str, list[str]], healthy: int = 8, abnormal: int = 4) -> Path:
    """A table of people whose scans nobody can read: they are not to be opened."""
    lines = [",".join(["path,patient,label", *columns])]
    for number in range(healthy + abnormal):
        (folder / f"{number}.nii.gz").write_bytes(b"")
        cells = [values[number % len(values)] for values in columns.values()]
        label = "healthy" if number < healthy else "abnormal"
        lines.append(",".join([f"{number}.nii.gz,p{number},{label}", *cells]))
    (folder / "people.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "people.csv"


def refused(folder: Path, *settings: str, columns: dict[str, list[str]], config: str = "table:tiny", **people) -> str:
    """What `symnorm check` says as it refuses a table, before it has opened a scan or made a store."""
    root, store = table(folder, columns, **people), folder / "store"
    given = [f"--config={config}", f"--config.data.root={root}", f"--config.data.store={store}", *settings]
    done = symnorm("check", *given, f"--workdir={folder / 'run'}")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and not store.exists(), done.stderr
    return done.stderr


def test_names_of_scores_and_of_later_columns_are_taken_and_others_are_not():
    scores = {name for system in BUILD for name in names_of(system_of(system))}
    assert all(map(manifest.taken, [*scores, *ABOUT, *manifest.COLUMNS, ZERO_SHOT, f"{TRIVIAL}area", "z000", "z1023"]))
    assert not any(map(manifest.taken, ["age", "site", "zone", "z", "Größe", "scanner", "mse_scanner"]))


def system_of(system: str):
    config = named(system)
    if "target" in config:  # a system of volumes
        config.data.size = (64, 64, 64)
    if FINETUNE in config.train:
        config.target.column = "age"
    return checked(config)


@pytest.mark.parametrize("name", ["mse", "mahalanobis", "mse+mahalanobis", "trivial_area", "z000", "positive", "shown"])
def test_a_column_of_a_table_with_a_name_that_is_taken_is_refused(tmp_path, name):
    said = refused(tmp_path, columns={"age": ["40", "50"], name: ["1", "2"]})
    assert f"people.csv: the column {name!r}; these names are taken: " in said and "rename it" in said


def test_a_column_of_participants_is_refused_likewise(tmp_path):
    lines = ["participant_id\tgroup\tmse"]
    for number in range(4):
        folder = tmp_path / f"sub-{number}" / "anat"
        folder.mkdir(parents=True)
        nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.float32), np.eye(4)), folder / f"sub-{number}_T1w.nii.gz")
        lines.append(f"sub-{number}\tcontrol\t1")
    (tmp_path / "participants.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    settings = [f"--config.data.root={tmp_path}", "--config.data.options.group_column=group"]
    done = symnorm("check", "--config=bids:tiny", *settings, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 1 and "the column 'mse'; these names are taken: " in done.stderr


@pytest.mark.parametrize(
    "setting, said",
    [
        ("score.groups=('site',)", "score.groups='site'; one of ['age'] is allowed."),
        ("data.held_out=site=IOP", "data.held_out='site=IOP'; column=value with one of ['age'] is allowed."),
        ("data.held_out=age=7", "data.held_out='age=7': that is nobody; age holds ['40', '50']."),
        ("data.split=0.9,0.08,0.02", "the test split is empty: 8 patients cannot be shared"),
        ("train.patients=50", "train.patients=50; 0 to 5, all those to train on, are allowed."),
        ("train.patients=1", "score.shrinkage='auto' with 1 healthy people to learn from, of whom it holds some out;"),
    ],
)
def test_what_a_config_asks_of_people_is_refused_before_a_scan_is_read(tmp_path, setting, said):
    abnormal = 0 if "split" in setting else 4
    assert said in refused(tmp_path, f"--config.{setting}", columns={"age": ["40", "50"]}, abnormal=abnormal)


@pytest.mark.parametrize(
    "setting, said",
    [
        (["target.column=sex"], "target.column='sex'; one of ['age', 'label'] is allowed."),
        (["target.column=age"], "target.column='age' holds 'old'; a number, "),
        (
            ["target.column=age", "target.kind=class", "target.positive=Old"],
            "'Old' is target.positive, and its letters",
        ),
        (
            ["target.column=label", "target.kind=class"],
            "target.positive=''; one of ['abnormal', 'healthy'] is allowed.",
        ),
        (
            ["target.column=label", "target.kind=class", "target.positive=abnormal"],
            "target.column='label' holds ['healthy'] in the training split, with target.kind='class'; 'abnormal' and "
            "another value, as with data.train_on='everyone', are needed.",
        ),
    ],
)
def test_a_target_that_cannot_be_learned_is_refused_before_a_scan_is_read(tmp_path, setting, said):
    given = [f"--config.{one}" for one in setting] + ["--config.data.source=table", "--config.data.options={}"]
    columns = {"age": ["40", "50", "old"]}
    root = table(tmp_path, columns)
    text = "from configs.simclr import get_config as simclr\ndef get_config():\n    config = simclr('tiny')\n"
    text += "    config.data.source, config.data.options = 'table', {}\n    return config\n"
    (tmp_path / "own.py").write_text(text, encoding="utf-8")
    given = [f"--config={tmp_path / 'own.py'}", f"--config.data.root={root}", *given[: len(setting)]]
    done = symnorm("check", *given, f"--config.data.store={tmp_path / 'store'}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 1 and said in done.stderr and not (tmp_path / "store").exists()


def test_a_name_that_is_not_utf_8_is_refused(monkeypatch):
    scan = Scan(patient=os.fsdecode(b"J\xfcrgen"), session="", load=None, files=("a.nii",), healthy=True, recipe="")
    monkeypatch.setitem(finding.SOURCES, "phantom", lambda root: [scan])
    config = ConfigDict({"source": "phantom", "root": None, "options": {}})
    with pytest.raises(ScanError, match=r"J\\\\xfcrgen.* is not UTF-8; rename it"):
        finding.find_scans(config)


@pytest.mark.parametrize("lost", FINISHED)
def test_a_run_to_start_from_that_lacks_a_file_is_refused_by_its_name(tmp_path, lost):
    for name in {"config.json", *FINISHED} - {lost}:
        (tmp_path / name).write_text("{}", encoding="utf-8")
    config = named("symnorm")
    config.init_from = str(tmp_path)
    with pytest.raises(RunError, match=f"init_from={tmp_path}: not a finished run.*; {lost} is not there"):
        check_source(config, checked(config))


def test_a_setting_that_jax_does_not_know_is_a_sentence_and_other_errors_are_not():
    for said in ("invalid truth value 'maybe' for environment 'JAX_ENABLE_X64'", 'Invalid value "x" for JAX flag a'):
        with pytest.raises(SystemExit, match=f"^error: {said}; unset it"), reported():
            raise ValueError(said)
    with pytest.raises(ValueError, match="^ours$"), reported():
        raise ValueError("ours")


def test_64_bits_and_missing_devices_are_sentences(monkeypatch):
    with jax.enable_x64(True), pytest.raises(ConfigError, match="^JAX_ENABLE_X64=1; networks, .* of 32 bits"):
        hosts.lead()
    for error in (AssertionError(), RuntimeError("Unable to initialize backend 'gpu' (set JAX_PLATFORMS='')")):

        def fail(*_, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(jax, "devices", fail)
            with pytest.raises(ConfigError, match="^JAX_PLATFORMS=.*: JAX finds no such device here .*; unset it"):
                hosts.check_jax()


@pytest.mark.parametrize(
    "name, value", [("JAX_PLATFORMS", "cuda"), ("JAX_PLATFORMS", "nonsense"), ("JAX_ENABLE_X64", "1")]
)
def test_the_command_ends_in_that_sentence_and_leaves_nothing(tmp_path, name, value):
    if value == "cuda" and jax.default_backend() == "gpu":
        pytest.skip("there is such a device here")
    environment = os.environ | {"PYTHONPATH": str(ROOT), name: value}
    command = [sys.executable, "-m", "symnorm_jax.cli", "train", "--config=demo:tiny", f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert len(said) == 1 and said[0].startswith(f"error: {name}={value}") and not (tmp_path / "run").exists()

"""A model folder: the run without its people, whole or refused by name."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import symnorm
from safetensors.numpy import load_file, save_file

from configs import demo
from symnorm_jax.data.manifest import read_table
from symnorm_jax.data.store import SampleSource
from symnorm_jax.errors import RunError
from symnorm_jax.files import load_arrays
from symnorm_jax.inference import distil, model
from symnorm_jax.run import Run
from symnorm_jax.rundir import write_config
from symnorm_jax.scoring.embed import Embedder
from symnorm_jax.standardise import scans_of
from symnorm_jax.training.passes import map_of, raw_maps, scan_of
from symnorm_jax.training.sharding import make_mesh

ALONE = """
import sys
sys.modules.update(dict.fromkeys(("symnorm_jax", "configs", "flax", "ml_collections")))  # None is never imported
import numpy as np
from jax import export

residual, embed = (export.deserialize(bytearray(open(path, "rb").read())) for path in sys.argv[1:3])
given, found = dict(np.load(sys.argv[3])), {}
for size in (3, 5):
    batch = {name: x[:size] for name, x in given.items()}
    answer = embed.call(batch) | residual.call({name: batch[name] for name in ("image", "brain", "index")})
    found |= {f"{name} of {size}": x for name, x in answer.items()}
np.savez(sys.argv[4], **found)
"""


@pytest.fixture(scope="module")
def exported(demo_run: Run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "demo.model"
    (folder.parent / "about.md").write_text("## Of whom\n\nOf phantoms.\n")
    given = ["--license=CC-BY-SA-4.0", "--stablehlo", f"--about={folder.parent / 'about.md'}"]
    done = symnorm("export", f"--run={demo_run.workdir}", "-o", str(folder), *given)
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
    assert set(files) == {model.WEIGHTS, model.SUMS, model.CARD, model.RESIDUAL, model.EMBED} | parts
    config = demo_run.config
    unwanted = [*demo_run.manifest.patient.unique(), str(demo_run.workdir), config.data.store, "/tmp", "phantom-"]
    unwanted += [".py", str(Path(__file__).parents[1])]  # as programs tell where their source lies
    for name, content in files.items():
        assert not [text for text in unwanted if text.encode() in content], name
    slices = int((demo_run.manifest.split != "excluded").sum())
    assert max(x.size for x in load_file(exported / model.WEIGHTS).values()) < slices * np.prod(config.data.size)


def test_no_run_before_is_named_by_its_path_however_long_the_chain(tmp_path):
    """One of them may begin as another does."""
    first, second = tmp_path / "runs", tmp_path / "runs2"
    for folder, before in ((first, None), (second, str(first))):
        folder.mkdir()
        config = demo.get_config("tiny")
        config.init_from = before
        write_config(folder, json.loads(config.to_json()))
    config.init_from = str(second)
    told = distil._without_paths({"origin": f"{second}: {first}: val"}, config)
    assert told == {"origin": "the run it started from: the run it started from: val"}


def test_the_card_has_a_head_that_hubs_read(exported, demo_run):
    _, head, text = (exported / model.CARD).read_text().split("---\n")
    told = {line.partition(": ")[0]: json.loads(line.partition(": ")[2]) for line in head.splitlines()}
    splits = demo_run.manifest.groupby("split").patient.nunique()
    assert told["license"] == "cc-by-sa-4.0" and told["contrast"] == ["t1 after contrast"]
    assert {name: told["people"][name] for name in splits.index} == splits.to_dict()
    assert "Research use only" in text and "licence was named" not in text
    assert text.endswith("\n\n## Of whom\n\nOf phantoms.\n")
    assert told["results"]["patient"].keys() == {"auroc", "average_precision", "sensitivity", "specificity"}


@pytest.mark.parametrize(
    "name", [model.WEIGHTS, "config.json", "thresholds.json", "reference.json", model.CARD, model.EMBED]
)
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
    for text, told in (('{"format": 0}', "its format is 0, and 2 is read here"), ("[]", "of another version")):
        (copied / "config.json").write_text(text)
        summed(copied)
        with pytest.raises(RunError, match=told):
            model.of_folder(copied)


def test_models_are_listed_and_one_that_is_damaged_says_why(exported, copied, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    shutil.copytree(exported, tmp_path / "a" / "b" / "whole")
    (copied / model.WEIGHTS).unlink()
    done = symnorm("models", str(tmp_path))
    lines = {name: line for line in done.stdout.splitlines() for name in ("b/whole", "copy") if name in line}
    assert done.returncode == 1 and "model.safetensors is missing" in lines["copy"]
    told = ("t1 after contrast", "train", "cc-by-sa-4.0", "AUROC of patients 0.", distil.read(exported).checksum)
    assert all(one in lines["b/whole"] for one in told)
    done = symnorm("models", str(tmp_path / "a"))
    assert done.returncode == 0 and "no model is here" not in done.stdout
    (tmp_path / "none").mkdir()
    done = symnorm("models", str(tmp_path / "none"))
    assert done.returncode == 0 and "ixi_t1" in done.stdout and "demo" not in done.stdout
    assert done.stdout.splitlines()[-1] == f"{tmp_path / 'none'}: no model is here, nor up to 3 folders down."
    assert symnorm("models", str(tmp_path / "gone")).returncode == 2


def test_programs_do_without_this_package_what_the_run_did(exported, demo_run, tmp_path):
    """Between the two stands the run's own standardisation of the scan."""
    config, learned = demo_run.config, distil.read(exported)
    rows = demo_run.manifest[demo_run.manifest.split == "test"]
    rows = rows.iloc[scans_of(rows)[0]]
    made = Embedder(learned.system, config, learned.variables, learned.healthy, make_mesh()).whole(rows, "")
    raw = raw_maps(made["raw"], made["image"], made["brain"], config)
    difference = map_of(raw, scan_of(rows, made["brain"]), learned.healthy, config).astype(np.float16)
    source = SampleSource(config.data.store, rows, differences=difference)
    samples, names = [source[i] for i in range(5)], ("image", "brain", "index", "difference")
    np.savez(tmp_path / "given.npz", **{name: np.stack([one[name] for one in samples]) for name in names})
    places = [exported / model.RESIDUAL, exported / model.EMBED, tmp_path / "given.npz", tmp_path / "found.npz"]
    subprocess.run([sys.executable, "-I", "-c", ALONE, *map(str, places)], check=True, cwd=tmp_path)
    scores, found = read_table(demo_run.workdir / "scores.csv").loc[rows.index], load_arrays(tmp_path / "found.npz")
    wanted = {"map": made["raw"], "z": made["z"], "mahalanobis": scores.mahalanobis, "mse": scores.mse}
    assert found.keys() == {f"{name} of {size}" for name in wanted for size in (3, 5)}
    for name, x in found.items():
        name, size = name.split(" of ")
        np.testing.assert_allclose(x, wanted[name][: int(size)], rtol=1e-5, atol=1e-5)


def test_a_folder_of_something_else_is_not_written_to(demo_run, tmp_path):
    (tmp_path / "thesis.txt").touch()
    done = symnorm("export", f"--run={demo_run.workdir}", f"--output={tmp_path}")
    assert done.returncode == 1 and "holds thesis.txt; a folder of its own is needed" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    done = symnorm("export", f"--run={tmp_path}", f"--output={tmp_path / 'model'}")
    assert done.returncode == 1 and "holds no run" in done.stderr

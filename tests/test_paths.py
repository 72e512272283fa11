"""Paths as they are typed: the home folder, and folders in which no checkpoint could be kept."""

import os

import pytest
from commands import symnorm

from symnorm_jax import notebooks
from symnorm_jax.cli import parsed
from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.paths import at_home, check_place


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    return tmp_path / "me"


def test_the_home_folder_is_put_into_every_option_and_setting(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["--config.data.root=~/scans.csv", "--config.data.store", "~/store", "--config.init_from=~"]
    options = {"--workdir": {}, "--runs": {}, "--input": {}}
    args = parsed("x", "", options | {"--config": {}}, ["--workdir=~/x", "--runs=~/a,~/b", "--input", "~/i", *given])
    assert (args.workdir, args.runs, args.input) == (f"{home}/x", f"{home}/a,{home}/b", f"{home}/i")
    config = notebooks.read("table:tiny", args.settings).config
    assert (config.data.root, config.data.store) == (f"{home}/scans.csv", f"{home}/store")
    assert config.init_from == str(home)
    done = symnorm("check", "--config=table:tiny", "--config.data.root=~/nothere.csv", "--workdir=~/runs/x")
    assert done.returncode == 1 and done.stderr.startswith(f"error: {home}/nothere.csv: no such file; ")
    assert not (tmp_path / "~").exists()


def test_a_notebook_of_ones_own_may_name_the_home_folder(home, tmp_path):
    text = "from configs.table import get_config as table\ndef get_config():\n    config = table('tiny')\n"
    (tmp_path / "own.py").write_text(
        text + "    config.data.root = '~/scans.csv'\n    return config\n", encoding="utf-8"
    )
    assert notebooks.read(str(tmp_path / "own.py")).config.data.root == f"{home}/scans.csv"


def test_a_tilde_of_nobody_is_refused_and_one_inside_a_name_is_none(home):
    assert at_home("a~b") == "a~b" and at_home("./~") == "./~"
    with pytest.raises(ConfigError, match="~nobody-of-this-name/x: there is no such home folder"):
        at_home("~nobody-of-this-name/x")


UNFIT = {"ixi [a]": "has [ and ] in it", "a\\b": "has \\ in it", "gs:": "is an address", "x" * 256: "is too long"}


@pytest.mark.parametrize("name, found", [*UNFIT.items(), (os.fsdecode(b"x\xfc"), "has letters that are not UTF-8")])
def test_a_folder_that_could_hold_no_checkpoint_is_refused_before_anything_is_done(tmp_path, name, found):
    done = symnorm("train", "--config=demo:tiny", f"--workdir={tmp_path / name}")
    assert done.returncode == 1 and found in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_above_counts_and_so_does_an_address(tmp_path, monkeypatch):
    (tmp_path / "[here]").mkdir()
    monkeypatch.chdir(tmp_path / "[here]")
    for folder, found in (("runs/x", r"has \[ and \] in it"), ("gs://bucket/x", "has|is an address")):
        with pytest.raises(RunError, match=found):
            check_place(folder)
    done = symnorm("convert", "--input=weights.tar", "--output=weights")
    assert done.returncode == 1 and "has [ and ] in it" in done.stderr
    for sound in ("a b", "a#%20ü", "a*b", "a?b", "a\nb", " a ", "..a", "s3:x", "a:b"):
        check_place(tmp_path / sound)


def test_a_file_in_the_place_of_a_run_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    for name in ("file", "file/below"):
        done = symnorm("train", "--config=demo:tiny", f"--workdir={tmp_path / name}")
        assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1

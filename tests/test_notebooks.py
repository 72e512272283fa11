"""Notebooks are found from any folder, and settings on top of them are what a command line says."""

import json
from pathlib import Path

import pytest

from configs import demo
from symnorm_jax import notebooks
from symnorm_jax.errors import ConfigError

OWN = """from configs import demo


def get_config(size="full"):
    config = demo.get_config(size)
    config.seed = 77
    return config
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("text", ["demo:tiny", "demo.py:tiny", "configs/demo.py:tiny", f"{demo.__file__}:tiny"])
def test_a_packaged_notebook_has_many_names_and_one_record(text):
    found = notebooks.read(text)
    assert found.config.to_json() == demo.get_config("tiny").to_json() and found.config.is_locked
    assert (found.name, found.overrides) == ("demo_tiny", {"config": "configs/demo.py:tiny"})


def test_a_size_and_a_preset_name_the_run():
    assert notebooks.read("demo:full,dae").name == "demo_dae" and notebooks.read("demo").name == "demo"
    assert notebooks.read("demo:full,dae").config.system == "dae"


def test_a_path_that_exists_wins_and_is_recorded_without_the_folders_above(tmp_path):
    for folder in (tmp_path, tmp_path / "configs", tmp_path / "mine"):
        folder.mkdir(exist_ok=True)
        (folder / "demo.py").write_text(OWN)
    for text, record in (
        ("demo.py:tiny", "demo.py:tiny"),
        ("configs/demo.py:tiny", "configs/demo.py:tiny"),
        (f"{tmp_path}/mine/demo.py:tiny", "demo.py:tiny"),
    ):
        found = notebooks.read(text)
        assert found.config.seed == 77 and found.overrides == {"config": record}
    assert notebooks.read("demo:tiny").config.seed == 0


def test_settings_are_read_as_absl_reads_them():
    given = ["--config.data.size", "16", "--config.data.size=32", "--noconfig.mask.mirror_context", "--config.seed=5"]
    found = notebooks.read("demo:tiny", [*given, "--config.init_from=", "--config.seed", "6"])
    assert found.config.data.size == (16, 32) and found.config.mask.mirror_context is False
    changed = {"data.size": (16, 32), "mask.mirror_context": False, "seed": 6, "init_from": ""}
    assert found.overrides == {"config": "configs/demo.py:tiny"} | changed
    assert json.loads(json.dumps(found.overrides))["data.size"] == [16, 32]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("nothing", [], r"--config=nothing: there is no such file; a path or one of \['alz', .*'demo'.* is allowed"),
        ("sweeps", [], "--config=sweeps: there is no such file"),
        ("other/demo.py", [], "--config=other/demo.py: there is no such file"),
        ("demo:huge", [], "--config=demo:huge: ValueError: config size 'huge'"),
        ("broken.py", [], "--config=broken.py: SyntaxError: "),
        ("demo", ["--config.mask.knd=paired"], "no such config key: .*knd"),
        ("demo", ["--config.seed.x=1"], "no such config key: .*seed.x"),
        ("demo", ["--config.seed=x"], "--config.seed=x: invalid literal"),
        ("demo", ["--config.seed"], "Missing value for flag --config.seed"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(text, settings, message, tmp_path):
    (tmp_path / "broken.py").write_text("def get_config(:\n")
    with pytest.raises(ConfigError, match=message) as error:
        notebooks.read(text, settings)
    assert "\n" not in str(error.value)


def test_modules_that_only_help_are_no_notebooks():
    assert Path(notebooks.find("lgg")).name == "lgg.py" and notebooks.sweeps().ablations()[0] == {}

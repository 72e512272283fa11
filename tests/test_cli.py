"""The command `symnorm`: its help, wrong arguments, the ways in, and the verbs that no other test goes through."""

import importlib
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from unittest import mock

import jax
import pytest
from commands import symnorm

from symnorm_jax import cli
from symnorm_jax.cli import compiled, study
from symnorm_jax.cli.study import baselines
from symnorm_jax.errors import ConfigError

ROOT = Path(__file__).parents[1]
PATHS = [[verb] for verb in cli.VERBS] + [["study", verb] for verb in study.VERBS]


def process(*command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    given = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=given)


def test_help_fits_a_screen_and_needs_no_verb(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = symnorm("--help")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and len(lines) <= 24 and max(map(len, lines)) <= 80
    assert all(f"  {verb} " in done.stdout for verb in cli.VERBS) and symnorm().stdout == done.stdout


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_the_help_of_a_verb_has_an_example_that_can_be_parsed(path):
    done = symnorm(*path, "--help")
    assert done.returncode == 0 and f"\n  symnorm {path[0]} " in done.stdout
    module = importlib.import_module(".".join(["symnorm_jax.cli", *path]))
    text = module.__doc__.replace("\\\n", " ")
    begins = f"  symnorm {' '.join(path)} "
    for line in text.splitlines():
        if line.startswith(begins) and hasattr(module, "OPTIONS"):
            assert cli.parsed("symnorm", "", module.OPTIONS, line.removeprefix(begins).split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "invalid choice: 'trian'"),
        (["study", "sweeep"], "invalid choice: 'sweeep'"),
        (["train"], "required: --config"),
        (["train", "--config=demo", "--work=runs/x"], "unrecognized arguments: --work=runs/x"),
        (["compare", "--runs=a", "--config.seed=1"], "unrecognized arguments: --config.seed=1"),
        (["evaluate", "--run=a", "--from=embed"], "invalid choice: 'embed'"),
        (["evaluate", "--run=a", "-i=b.csv"], "--output belong together"),
        (["evaluate", "--run=a", "--brain=head"], "--output belong together"),
        (["evaluate", "--run=a,b", "-i=b.csv", "-o=x"], "allowed with one run"),
        (["evaluate", "--run=a", "-i=b.csv", "-o=x", "--from=cost"], "without --from"),
        (["evaluate", "--run=a", "-i=/nowhere.csv", "-o=x"], "/nowhere.csv: is no .csv file"),
        (["score", "-i=b", "-o=x"], "--input=b: there is no such file or folder"),  # with the model that comes along
        (["score", "--run=a", "--model=b", "-i=b", "-o=x"], "one of them is allowed"),
        (
            ["score", "--run=/nowhere", "-i=b", "-o=x"],
            "a run and a model do; ixi_t1 comes along",
        ),
        (["export", "--run=a", "-o=x", "--license=my own"], "a word of SPDX"),
        (["export", "--run=a", "-o=x", "--about=/nowhere.md"], "--about=/nowhere.md: No such file"),
        (["study", "sweep", "--output=x", "--jobs=0"], "'0'; a whole number of 1 or more"),
    ],
)
def test_wrong_arguments_end_with_status_2(arguments, message):
    done = symnorm(*arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.startswith("usage: symnorm")


def test_settings_are_parted_from_options_wherever_they_stand():
    given = [
        "--config.seed",
        "-5",
        "--workdir",
        "runs/x",
        "--config.a=b c",
        "--pod",
        "--noconfig.b",
        "--config",
        "demo",
    ]
    args = cli.parsed("symnorm", "", importlib.import_module("symnorm_jax.cli.train").OPTIONS, given)
    assert args.settings == ["--config.seed", "-5", "--config.a=b c", "--noconfig.b"]
    assert (args.workdir, args.pod, args.config) == ("runs/x", True, "demo")


def test_the_door_and_the_console_script_work_from_another_folder(tmp_path):
    """Both stop before anything is done, at a sentence; wrong arguments are answered without JAX."""
    module, _, name = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["symnorm"].partition(
        ":"
    )
    console = [sys.executable, "-c", f"import sys; from {module} import {name}; sys.exit({name}())", "train"]
    for command in ([sys.executable, str(ROOT / "launch" / "train.py")], console):
        done = process(*command, "--config=configs/demo.py:tiny", "--config.mask.kind=mirror", cwd=tmp_path)
        assert done.returncode == 1 and "error: mask.kind='mirror'; one of" in done.stderr, done.stderr
    (tmp_path / "jax.py").write_text("raise RuntimeError('JAX was imported')")
    done = process(*console, "--confg=demo", cwd=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 2 and "required: --config" in done.stderr
    done = process(sys.executable, str(ROOT / "launch" / "slurm.py"), "--config=demo", "--nodes=0", cwd=tmp_path)
    assert done.returncode == 1 and "1 or more nodes" in done.stderr


@pytest.mark.long
def test_a_wheel_has_the_command_and_the_notebooks(tmp_path):
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    [wheel] = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    [entry] = (tmp_path / "site").glob("*.dist-info/entry_points.txt")
    assert "symnorm = symnorm_jax.cli:main" in entry.read_text()
    command = [sys.executable, "-m", "symnorm_jax.cli", "train", "--config=demo:tiny", "--config.data.midline=centred"]
    done = process(*command, "--workdir=run", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0 and (tmp_path / "run" / "report.html").exists(), done.stderr


class TestBaselines:
    def test_a_setting_goes_to_every_run_whose_system_has_the_key(self):
        given = ["--config.data.root=/a b", "--config.train.unet.steps=3", "--config.seed=2"]
        with mock.patch.object(baselines, "keys_of", side_effect=_own_keys):
            found = baselines.planned("demo:tiny", given, ["symnorm", "dae"])
        assert found == {
            "symnorm": ["--config=demo:tiny", *given],
            "dae": ["--config=demo:tiny,dae", given[0], given[2]],
        }

    @pytest.mark.parametrize(
        ("config", "setting", "systems", "message"),
        [
            ("demo:tiny", "--config.mask.knd=x", ["symnorm", "dae"], "--config.mask.knd: no such config key in any of"),
            ("demo:tiny", "--config.seed=x", ["symnorm"], "--config.seed=x: invalid literal"),
            ("demo:tiny", "--config.seed", ["symnorm"], "is no setting"),
            ("demo:tiny", "--config.seed=1", ["symnorm", "dea"], "config size 'tiny,dea'"),
            ("demo:tiny,dae", "--config.seed=1", ["symnorm"], "the systems are the presets here"),
        ],
    )
    def test_what_no_run_could_use_is_refused_before_the_first(self, config, setting, systems, message):
        with pytest.raises(ConfigError, match=message):
            baselines.planned(config, [setting], systems)

    def test_every_run_is_trained_timed_and_compared_and_a_failure_ends_it(self, tmp_path):
        given = ["study", "baselines", "--config=demo:tiny", f"--output={tmp_path}", "--systems=symnorm,dae"]
        with (
            mock.patch("subprocess.run", side_effect=lambda *_, **__: mock.Mock(returncode=0)) as ran,
            mock.patch.object(baselines, "main") as called,
        ):
            assert symnorm(*given).returncode == 0
            assert [call.args[0][-2:] for call in ran.call_args_list] == [
                [f"--config=demo:tiny{preset}", f"--workdir={tmp_path / name}"]
                for name, preset in (("symnorm", ""), ("dae", ",dae"))
            ]
            runs = f"{tmp_path / 'symnorm'},{tmp_path / 'dae'}"
            assert [call.args[0][:2] for call in called.call_args_list] == [
                ["evaluate", f"--run={runs}"],
                ["compare", f"--runs={runs}"],
            ]
            assert symnorm(*given, "--folds=3", "--seeds=2").returncode == 0
            later = [call.args[0] for call in ran.call_args_list[2:]]
            assert len({tuple(words) for words in later}) == 12
            assert later[-1][-5:] == [
                *("--config.data.folds=3", "--config.data.fold=2", "--config.seed=1", "--config.data.split_seed=0"),
                f"--workdir={tmp_path / 'dae' / 'fold2_seed1'}",
            ]
            assert called.call_args.args[0][:2] == ["compare", f"--runs={runs}"]
            ran.reset_mock()
            ran.side_effect = lambda *_, **__: mock.Mock(returncode=143)
            assert symnorm(*given).returncode == 143 and len(ran.call_args_list) == 1


@pytest.mark.parametrize("closed", ["", "models", "models/.xla"])
def test_what_is_compiled_is_kept_beside_a_model_where_that_can_be_written(closed, tmp_path, monkeypatch):
    (tmp_path / (closed or "models")).mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / closed)
    monkeypatch.setattr(jax, "config", config := mock.Mock(jax_compilation_cache_dir=None))
    compiled.keep_beside(tmp_path / "models" / "demo")
    kept = mock.call("jax_compilation_cache_dir", str(tmp_path / "models" / ".xla"))
    assert (kept in config.update.mock_calls) == (not closed)


def _own_keys(notebook: str) -> set[str]:
    """Keys as where a config has those of its own system alone."""
    found = {"data.root", "seed"}
    return found if notebook.endswith(",dae") else found | {"train.unet.steps"}

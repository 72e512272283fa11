"""A run that starts from converted weights: it has their networks, its own Gaussian, and says what nobody can audit."""

import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from test_end_to_end import config_of
from test_torch_checkpoint import released, simclr, write

from symnorm_jax import rundir
from symnorm_jax.cli import convert as cli_convert
from symnorm_jax.convert.simclr import PEOPLE, RELEASED
from symnorm_jax.convert.weights import convert, shared_settings
from symnorm_jax.data import manifest
from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.files import load_arrays, write_json
from symnorm_jax.models.encoder3d import ResNet3D
from symnorm_jax.run import Run
from symnorm_jax.rundir import open_run, write_config
from symnorm_jax.systems import BUILD
from symnorm_jax.training import transfer
from symnorm_jax.training.transfer import check_source, restored, schedule

ENCODER = ResNet3D(widths=(4, 8), depths=(1, 1), stem_kernel=3)  # that of simclr.py:tiny, as its projector (8, 4)
VOLUMES = {"data.size": (24, 24, 18), "data.spacing": 8.0, "data.midline": "centred"}
PHANTOMS = {"healthy": 14, "patients": 8, "contrast": "t1", "spacing": 6.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("converted")


@pytest.fixture(scope="module")
def weights(folder):
    """A folder of converted weights, of a file in the release's layout."""
    path, config = write(folder / "a.tar", released(simclr(ENCODER, (8, 4)))), config_of("simclr")
    config.update_from_flattened_dict(VOLUMES)
    convert(path, folder / "weights", config)
    return folder / "weights"


def config_from(source, seed=0, **changes) -> ConfigDict:
    """Phantoms as volumes, from the networks of `source`."""
    config = config_of("simclr")
    config.data.source, config.data.options = "phantom", ConfigDict(PHANTOMS | {"seed": seed})
    common = {"data.store": str(source.parent / "store"), "data.workers": 1} | VOLUMES
    config.update_from_flattened_dict(common | {"init_from": str(source)} | changes)
    return config.lock()


def run_from(source, name, **changes) -> Run:
    config = config_from(source, **changes)
    open_run(source.parent / name, config, {})
    return Run(config, source.parent / name)


def check(config) -> None:
    check_source(config, BUILD[config.system](config))


@pytest.fixture(scope="module")
def run(weights) -> Run:
    run = run_from(weights, "run")
    run.everything()
    return run


def test_it_goes_from_converted_weights_to_its_report(run):
    assert run.finished and not (run.workdir / "pretrain").exists() and not (run.workdir / "embeddings/source").exists()
    assert "zero_shot" not in manifest.read_table(run.workdir / "scores.csv")
    for name in ("thresholds.json", "metrics.json"):
        assert "zero_shot" not in (run.workdir / name).read_text()
    assert "fine-tuned: gaussian" in (run.workdir / "report.html").read_text()


def test_its_networks_are_those_of_the_file(run):
    system, image = BUILD["simclr"](run.config), jnp.zeros((1, *run.config.data.size, 1))
    layout = jax.eval_shape(system.init, jax.random.key(0), {"image": image, "brain": image})
    variables = restored(str(run.workdir), system, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), layout))
    given = simclr(ENCODER, (8, 4))
    for found, name in (
        (variables["params"]["encoder"]["stem"]["conv"]["kernel"], "encoder.conv1.weight"),
        (variables["params"]["projector"]["out"]["kernel"], "projector.2.weight"),
        (variables["stats"]["encoder"]["level2_block0"]["norm1"]["var"], "encoder.layer2.0.bn1.running_var"),
    ):
        np.testing.assert_array_equal(found, given[f"module.{name}"].T)
    z = load_arrays(run.workdir / "embeddings" / "test.npz", "z")["z"]
    assert z.shape[1] == 8 and z.std(0).max() > 1e-3


def test_it_says_that_leakage_cannot_be_audited(run, weights):
    origin = json.loads((weights / "origin.json").read_text())
    (sentence,) = json.loads((run.workdir / "leakage.json").read_text())
    assert origin["sha256"] in sentence and "not the release" in sentence and "cannot be audited" in sentence
    assert sentence in json.loads((run.workdir / "metrics.json").read_text())["notes"]
    for name in ("report.html", "MODEL_CARD.md"):
        assert "cannot be audited" in (run.workdir / name).read_text()


def test_what_is_said_of_the_release_names_its_scans(tmp_path):
    origin = {"sha256": RELEASED, "released": True, "learned_from": PEOPLE}
    write_json(tmp_path / "origin.json", origin)
    with mock.patch.object(rundir.logging, "warning") as warned:
        rundir.note_unaudited(str(tmp_path), tmp_path)
    (sentence,) = json.loads((tmp_path / "leakage.json").read_text())
    assert rundir.unaudited([tmp_path, tmp_path / "audited", tmp_path]) == [sentence]
    assert "44,958" in sentence and "not the release" not in sentence and sentence in warned.call_args.args


def test_a_run_from_that_run_has_a_zero_shot_score_and_the_same_doubt(run):
    later = run_from(run.workdir, "later", seed=1, **{"finetune.kind": "none"})
    for step in (later.prepare, later.train_and_embed, later.fit, later.score):
        step()
    assert "zero_shot" in manifest.read_table(later.workdir / "scores.csv")
    assert (later.workdir / "leakage.json").read_text() == (run.workdir / "leakage.json").read_text()
    assert (later.workdir / "gaussian.npz").read_bytes() == (run.workdir / "gaussian.npz").read_bytes()


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"finetune.kind": "none"}, "finetune.kind='none' with init_from=.*no healthy Gaussian to take over; one of"),
        ({"score.thresholds": "source"}, "score.thresholds='source' with .*no thresholds to take over; 'target' is"),
        ({"resnet.widths": (4, 16)}, r"converted for another resnet.widths \(there \[4, 8\], here \[4, 16\]\)"),
        ({"data.spacing": 6.0}, r"converted for another data.spacing \(there 8.0, here 6.0\)"),
    ],
)
def test_what_the_weights_lack_or_are_not_for_is_refused(weights, changes, sentence):
    for preparation in ({}, {"data.midline": "straight"}, {"data.percentiles": (0.0, 99.0)}):
        check(config_from(weights, **preparation))
    with pytest.raises(ConfigError, match=sentence):
        check(config_from(weights, **changes))


def test_a_folder_that_is_neither_run_nor_weights_is_refused(tmp_path):
    for name in (None, "config.json", "origin.json"):
        if name:
            (tmp_path / name).write_text("{}")
        with pytest.raises(RunError, match="not a finished run, nor converted weights; .*train.*symnorm convert"):
            check(config_from(tmp_path))
        if name:
            (tmp_path / name).unlink()


def test_the_released_size_starts_from_what_the_command_writes(tmp_path, monkeypatch):
    full, config = config_of("simclr", "full"), config_of("simclr", "released")
    assert config.init_from == "runs/neuro_simclr" and f"--output={config.init_from}\n" in cli_convert.__doc__
    config.init_from = str(tmp_path)
    write_config(tmp_path, shared_settings(full, BUILD["simclr"](full)))
    (tmp_path / "origin.json").write_text("{}")
    (tmp_path / "pretrain" / "ckpt" / "0").mkdir(parents=True)
    nets = {"encoder", "head", "projector"}
    monkeypatch.setattr(transfer, "networks_of", lambda _, of="params": nets if of == "params" else {"encoder"})
    check(config)
    assert schedule(config, BUILD["simclr"](config)) == {} and config.finetune.kind == "gaussian"

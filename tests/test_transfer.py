"""A run that starts from another: what it may take over, what it trains, and what it says of it."""

import json
from contextlib import nullcontext

import jax
import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict
from test_end_to_end import config_of

from symnorm_jax.data import manifest
from symnorm_jax.errors import ConfigError, LeakageError, RunError
from symnorm_jax.files import write_json
from symnorm_jax.run import Run
from symnorm_jax.rundir import CHECKPOINTS, open_run, write_config
from symnorm_jax.scoring.scores import thresholds_of
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.contract import System
from symnorm_jax.training import transfer
from symnorm_jax.training.sharding import make_mesh
from symnorm_jax.training.train import initial_variables
from symnorm_jax.training.transfer import FINISHED, check_source, restored, schedule

SMALL = {"data.options.healthy": 14, "data.options.patients": 8, "data.workers": 1, "data.midline": "centred"}
SMALL |= {"evaluation.replicates": 20, "evaluation.interval": "percentile"}
# The rates of the source, so that its compiled steps serve the targets too.
SMALL |= {"finetune.unet.optimizer.learning_rate": 2e-3, "finetune.vae.optimizer.learning_rate": 1e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("transfer")


def run_in(folder, name, **changes) -> Run:
    config = config_of("demo")
    config.update_from_flattened_dict(SMALL | {"data.store": str(folder / "store")} | changes)
    open_run(folder / name, config.lock(), {})
    return Run(config, folder / name)


def seen_through(run: Run) -> Run:
    """The run, finished; what another test has finished is left as it is."""
    if not run.finished:
        run.everything()
    return run


@pytest.fixture(scope="module")
def source(demo_run) -> Run:
    return demo_run


def target(folder, source, kind, **changes) -> Run:
    """Other people, seen in another contrast."""
    other = {"data.options.seed": 1, "data.options.contrast": "flair", "init_from": str(source.workdir)}
    name = "_".join([source.workdir.name, kind, *(str(value) for value in changes.values())])
    return run_in(folder, name, **other | {"finetune.kind": kind} | changes)


def variables_of(run):
    system = BUILD["symnorm"](run.config)
    size = (*run.config.data.size, 1)
    batch = {"image": np.zeros((2, *size), np.float32)}
    return restored(str(run.workdir), system, initial_variables(system, run.config, batch, make_mesh()))


def same(one, other) -> dict[str, bool]:
    """Which networks are equal in every bit."""
    equal = jax.tree.map(lambda a, b: bool((a == b).all()), one["params"], other["params"])
    return {net: all(jax.tree.leaves(tree)) for net, tree in equal.items()}


@pytest.mark.parametrize(
    "kind, kept",
    [
        ("none", {"unet", "vae"}),
        pytest.param("gaussian", {"unet", "vae"}, marks=pytest.mark.long),  # both transfers of the end-to-end tests are
        pytest.param("vae", {"unet"}, marks=pytest.mark.long),
        ("all", set()),
    ],
)
def test_fine_tuning_changes_what_was_asked_for_and_no_more(folder, source, kind, kept):
    run = seen_through(target(folder, source, kind))
    assert {net for net, equal in same(variables_of(run), variables_of(source)).items() if equal} == kept
    gaussians = [(one.workdir / "gaussian.npz").read_bytes() for one in (run, source)]
    assert (gaussians[0] == gaussians[1]) == (kind == "none")
    healthy = [(one.workdir / "maps" / "healthy.npz").read_bytes() for one in (run, source)]
    assert (healthy[0] == healthy[1]) == (kind == "none")  # what maps are measured by goes with the Gaussian
    scores = manifest.read_table(run.workdir / "scores.csv")
    zero_shot, own = scores.zero_shot.to_numpy(), scores.mahalanobis.to_numpy()
    if kind == "none":
        np.testing.assert_allclose(zero_shot, own, rtol=1e-5)
    else:
        assert np.abs(zero_shot - own).max() > 1e-3
    page = (run.workdir / "report.html").read_text()
    assert f"started from {source.workdir}, fine-tuned: {kind}" in page and "zero shot" in page


def test_zero_shot_is_the_same_whatever_is_fine_tuned(folder, source):
    runs = [seen_through(target(folder, source, kind)) for kind in ("none", "vae")]
    one, other = (manifest.read_table(run.workdir / "scores.csv").zero_shot for run in runs)
    np.testing.assert_allclose(one, other, rtol=1e-4)


def test_thresholds_are_the_target_s_or_the_source_s(folder, source):
    theirs = json.loads((source.workdir / "thresholds.json").read_text())["sample"]["mahalanobis"]["healthy_quantile"]
    for choice, run in (
        ("target", target(folder, source, "gaussian")),
        ("source", target(folder, source, "gaussian", **{"score.thresholds": "source"})),
    ):
        seen_through(run)
        fitted = json.loads((run.workdir / "thresholds.json").read_text())["sample"]
        chosen = fitted["mahalanobis"]["healthy_quantile"]
        assert (chosen["value"] == theirs["value"]) == (choice == "source")
        assert chosen["origin"] == ("val" if choice == "target" else f"{source.workdir}: val")
        assert fitted["zero_shot"]["healthy_quantile"]["value"] == theirs["value"]
        assert f"thresholds of the {choice}" in (run.workdir / "report.html").read_text()


def test_few_patients_are_a_part_of_more():
    rows = run_rows(patients=6)
    few = [set(manifest.few(rows, n, 3, "finetune.patients").patient) for n in (2, 4, 0)]
    assert [len(patients) for patients in few] == [2, 4, 6] and few[0] < few[1] < few[2]
    assert set(manifest.few(rows, 2, 4, "finetune.patients").patient) != few[0]
    with pytest.raises(ConfigError, match="finetune.patients=7; 0 to 6"):
        manifest.few(rows, 7, 3, "finetune.patients")


def run_rows(patients):
    return pd.DataFrame({"patient": [f"p{i // 3}" for i in range(3 * patients)]})


def test_only_few_patients_are_trained_on(folder, source):
    run = target(folder, source, "gaussian", **{"finetune.patients": 3})
    run.prepare()
    run.train_and_embed()
    index = np.load(run.workdir / "embeddings" / "train.npz")["index"]
    assert run.manifest.patient.loc[index].nunique() == 3


def built(name: str) -> tuple[ConfigDict, System]:
    volumes = {"simclr": "simclr", "saca": "saca"} | dict.fromkeys(("mae", "supervised", "untrained"), "simclr")
    volumes["segmenter"] = "saca"
    notebook = volumes.get(name, "demo")
    config = config_of(notebook, f"tiny,{'' if name in (*volumes.values(), 'symnorm') else name}")
    if "target" in config:
        config.target.column = "age"
    return config, BUILD[name](config)


@pytest.mark.parametrize("name", BUILD)
def test_every_system_says_what_its_networks_mean_and_scores_what_no_group_may_be_called(name):
    config, system = built(name)
    assert {*system.scores} <= {*manifest.SCORES}
    assert config.system == name and "data.size" in system.meaning + system.fitted


def test_networks_that_mean_something_else_are_refused_key_by_key(folder, source):
    with pytest.raises(ConfigError, match=r"mask.patch \(there 4, here 8\), vae.latent \(there 32, here 16\)"):
        target(folder, source, "gaussian", **{"mask.patch": 8, "vae.latent": 16}).everything()


@pytest.mark.parametrize("taken", [{"finetune.kind": "none"}, {"score.thresholds": "source"}, {}])
def test_a_network_that_never_sees_maps_may_serve_others_unless_what_was_fitted_to_them_stays(
    tmp_path, taken, monkeypatch
):
    config = config_of("demo", "tiny,dae")
    write_config(tmp_path, json.loads(config.to_json()))
    for name in FINISHED:
        write_json(tmp_path / name, {"sample": {"mae": {}}})
    (tmp_path / "baseline" / CHECKPOINTS / "1").mkdir(parents=True)
    monkeypatch.setattr(transfer, "networks_of", lambda _, of="params": {"baseline"} if of == "params" else set())
    changes = {"init_from": str(tmp_path), "finetune.kind": "gaussian", "difference.kind": "negative"} | taken
    config.update_from_flattened_dict(changes)
    expected = pytest.raises(ConfigError, match="another difference.kind") if taken else nullcontext()
    with expected:
        check_source(config, BUILD["dae"](config))
    assert transfer.fitted_otherwise(config, BUILD["dae"](config)) == [
        "difference.kind (there 'signed', here 'negative')"
    ]
    run = Run(config, tmp_path / "new")
    assert not run._zero_shot and not run._source_embeds  # its healthy maps are of the other sign


def test_what_cannot_be_started_from_is_refused(folder, source):
    with pytest.raises(RunError, match="init_from=.*absent: not a finished run"):
        run_in(folder, "from_nothing", init_from=str(folder / "absent")).everything()
    with pytest.raises(ConfigError, match="finetune.kind='some'; one of"):
        target(folder, source, "some")
    with pytest.raises(ConfigError, match="score.thresholds='source'; one of"):
        run_in(folder, "no_source", **{"score.thresholds": "source"})


def test_what_the_source_has_learned_from_is_not_judged(folder, source):
    """The people of the source, shared out anew."""
    people = {"data.options.seed": 0, "data.options.contrast": "t1_gd", "seed": 1}
    with pytest.raises(LeakageError, match="sha256 .* stands in the .* split of init_from"):
        target(folder, source, "gaussian", **people).everything()


def test_a_threshold_for_another_sum_over_slices_is_none_for_patients(folder, source):
    def taken(level, **changes):
        score = source.config.score.copy_and_resolve_references()
        with score.unlocked():
            score.update(changes)
        return thresholds_of(str(source.workdir), level, score)["mahalanobis"]["healthy_quantile"]["value"]

    assert taken("patient") is not None and taken("sample", patient="mean") is not None
    for changes in ({"patient": "mean"}, {"top_k": 3}, {"patient": "calibrated"}):
        assert taken("patient", **changes) is None


def test_stages_have_steps_and_rates_of_their_own(folder, source):
    run = target(folder, source, "all", **{"finetune.unet.steps": 7, "finetune.unet.optimizer.learning_rate": 3e-4})
    found = schedule(run.config, BUILD["symnorm"](run.config))
    assert list(found) == ["unet", "vae"] and found["unet"].steps == 7
    assert found["unet"].optimizer.learning_rate == 3e-4 and found["vae"] == run.config.finetune.vae


def test_a_run_can_start_from_one_that_trained_nothing_itself(folder, source):
    middle = seen_through(target(folder, source, "gaussian"))
    last = seen_through(target(folder, middle, "none"))
    assert all(same(variables_of(last), variables_of(source)).values())

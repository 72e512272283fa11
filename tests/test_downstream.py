"""Probes, what a ruler tells, and the tables of downstream targets; all of it from a pre-trained run to the tables."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from commands import symnorm
from layouts import write_ixi, write_lesion_masks
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_absolute_error
from test_prediction import AGE, SEX, config_of, table

from symnorm_jax import notebooks
from symnorm_jax.checks import checked
from symnorm_jax.compare import downstream
from symnorm_jax.downstream import probe, protocol
from symnorm_jax.downstream.protocol import Outcome, target_settings
from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.rundir import open_run


def outcome(method: str, how: str, fraction: float, found: list[pd.DataFrame]) -> Outcome:
    return Outcome(method, how, fraction, round(20 * fraction), found)


def test_a_probe_is_a_ridge_whose_penalty_validation_has_chosen():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(3, 2, (60, 8)), rng.normal(0, 5, 8)
    y = x @ weight + rng.normal(0, 40, 60)
    train, val, test = (slice(0, 20), slice(20, 40), slice(40, 60))
    scaled = (x - x[train].mean(0)) / x[train].std(0)
    fitted = [Ridge(alpha=penalty).fit(scaled[train], y[train]) for penalty in probe.PENALTIES]
    best = min(fitted, key=lambda model: mean_absolute_error(y[val], model.predict(scaled[val])))
    found = probe.predict((x[train], y[train]), (x[val], y[val]), x[test], "number")
    np.testing.assert_allclose(found, best.predict(scaled[test]), rtol=1e-6)
    assert 0 < list(probe.PENALTIES).index(best.alpha) < len(probe.PENALTIES) - 1


def test_a_probe_of_a_class_gives_probabilities_and_one_class_alone_teaches_its_frequency():
    rng = np.random.default_rng(1)
    x, y = rng.normal(0, 1, (80, 3)), np.arange(80) % 2.0
    x[:, 0] += 4 * y
    found = probe.predict((x[:40], y[:40]), (x[40:60], y[40:60]), x[60:], "class")
    assert ((found > 0.5) == y[60:]).mean() > 0.9 and 0 < found.min() < found.max() < 1
    alone = probe.predict((x[y == 1], y[y == 1]), (x[40:60], y[40:60]), x[60:], "class")
    np.testing.assert_array_equal(alone, np.ones(20))


def test_a_ruler_measures_an_ellipsoid():
    """Semi-axes of 20, 30 and 24 mm in voxels of 2 mm: 4/3 pi abc = 60.3 ml, and sides of 40, 60 and 48 mm."""
    axes = np.array([10, 15, 12])
    grid = np.moveaxis(np.indices((40, 40, 40)), 0, -1) - 19.5
    brain = ((grid / axes) ** 2).sum(-1) < 1
    found = probe.measured([{"brain": brain[..., None]}], 2.0)
    np.testing.assert_allclose(found, [[60.32, 40, 60, 48]], rtol=0.01)


def test_outcomes_are_paired_with_the_one_fine_tuned_on_all():
    rng = np.random.default_rng(2)
    true = table(rng, "number")
    good = true.assign(predicted=true.target + rng.normal(0, 2, len(true)))
    shifted = good.assign(predicted=good.predicted + 1)
    bad = true.assign(predicted=true.target + rng.normal(0, 20, len(true)))
    outcomes = [
        outcome("a", "probe", 0.5, [bad]),
        outcome("a", "probe", 1.0, [bad]),
        outcome("a", "fine-tuned", 1.0, [good, shifted]),
        outcome("b", "from scratch", 1.0, [good, shifted]),
    ]
    half, probed, tuned, equal = lines = downstream.summary(outcomes, config_of(AGE))
    assert "difference" not in half and "difference" not in tuned
    gap = tuned["mean_absolute_error"]["value"] - probed["mean_absolute_error"]["value"]
    assert probed["difference"]["value"] == pytest.approx(gap, abs=1e-5)
    assert probed["difference"]["high"] < 0 and probed["p_value"] < 0.05
    errors = [mean_absolute_error(good.target, good.predicted + aside) for aside in (0, 1)]
    assert [tuned["least"], tuned["most"]] == pytest.approx(sorted(errors))
    assert tuned["mean_absolute_error"]["value"] == pytest.approx(np.mean(errors), abs=1e-5)
    assert equal["difference"]["value"] == 0 and equal["p_value"] == 1.0 and probed["least"] == probed["most"]
    assert probed["p_value_holm"] == pytest.approx(2 * probed["p_value"])
    found = downstream.table(lines, "number")
    assert [row[1] for row in found.rows] == ["a, probe", "a, fine-tuned", "b, from scratch"]
    assert found.header[2] == "mean absolute error" and found.rows[1][3] == "–".join(f"{x:.3f}" for x in sorted(errors))
    shown = downstream.fractions(lines, "age", "number", "same")
    assert shown.header == ["method", "50 %, 10", "100 %, 20"] and shown.rows[1][1] is None


def test_a_population_without_a_class_leaves_what_is_undefined_open(tmp_path):
    one = table(np.random.default_rng(3), "class").assign(population=["same"] * 28 + ["abnormal"] * 2)
    one.loc[one.population == "abnormal", "target"] = 1
    outcomes = [outcome("a", "probe", 1.0, [one]), outcome("b", "probe", 1.0, [one.assign(predicted=0.5)])]
    lines = downstream.summary(outcomes, config_of(SEX))
    assert [line["population"] for line in lines] == ["same", "same", "abnormal", "abnormal"]
    assert lines[2]["auroc"]["value"] is None and lines[3]["p_value"] is None
    paths = downstream.write(lines, ["Not audited."], "sex", "class", tmp_path)
    page = paths[2].read_text()
    assert all(path.stat().st_size for path in paths) and "abnormal, 2" in page and page.startswith("Not audited.\n")
    assert all(f"sex of test people of the {one} population, by" in page for one in ("same", "abnormal"))


def test_outcomes_of_other_people_are_not_paired():
    one = table(np.random.default_rng(3), "number")
    other = one.iloc[::-1].reset_index(drop=True)
    with pytest.raises(RunError, match="b, probe: its test people are not those of a, probe"):
        downstream.summary([outcome("a", "probe", 1.0, [one]), outcome("b", "probe", 1.0, [other])], config_of(AGE))


@pytest.mark.parametrize("preset", protocol.SCRATCH)
def test_rivals_of_a_run_have_its_people_and_a_score_of_their_own(tmp_path, preset):
    """The score of saca, asymmetry, is none of theirs."""
    config = notebooks.read("saca:tiny", ["--config.data.options.patients=9"]).config
    open_run(tmp_path / "run", config.lock(), {"config": "configs/saca.py:tiny"})
    rival = protocol._rival_config(tmp_path / "run", preset)
    target = target_settings("label=abnormal")
    assert checked(protocol.with_settings(rival, target)).scores == () and rival.score.headline == "mahalanobis"
    assert rival.data.train_on == "everyone" and rival.data.options.patients == 9


@pytest.mark.parametrize("text", ["", "sex=", "=F", "../age"])
def test_a_target_without_a_name_is_refused(text):
    with pytest.raises(ConfigError, match="a column, as age, or a column and its class"):
        target_settings(text)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ixi")
    write_lesion_masks(folder / "stroke_masks", 20, spacing=6.0)
    return write_ixi(folder / "ixi", people=20)


@pytest.fixture(scope="module")
def settings(release, tmp_path_factory):
    """Flags of every run, which make it quick."""
    found = [f"--config.data.root={release}", f"--config.data.store={tmp_path_factory.mktemp('store')}"]
    found += ["--config.data.midline=centred", "--config.data.workers=1"]
    return found + [f"--config.{x}.{name}.steps=4" for x in ("train", "finetune") for name in ("pretrain", "finetune")]


def names_of(release) -> list[str]:
    return sorted(path.name.removesuffix("-T1.nii.gz") for path in (release / "IXI-T1").iterdir())


def test_a_run_with_a_target_ends_in_a_report_of_it(settings, release, tmp_path):
    """One site is kept for testing and judged apart; whoever was taught a target is no start for another."""
    run = tmp_path / "cnn"
    own = [flag for flag in settings if ".pretrain." not in flag]  # a stage that it does not have
    command = ["--config=configs/simclr.py:tiny,cnn", *own, "--config.target.column=age"]
    command += ["--config.data.options.lesion_masks="]
    assert symnorm("train", *command, "--config.data.held_out=site=IOP", f"--workdir={run}").returncode == 0
    rows, told = (pd.read_csv(run / name) for name in ("manifest.csv", "predictions.csv"))
    assert set(rows.split[rows.site == "IOP"]) == {"test"} and {"train", "val"} < set(rows.split[rows.site != "IOP"])
    told = told.merge(rows[["patient", "site"]])
    assert set(told.site[told.population == "held out"]) == {"IOP"}
    metrics = json.loads((run / "metrics.json").read_text())
    outside, everybody = (
        told.patient[told.split == "test"][keep].nunique() for keep in (told.site == "IOP", slice(None))
    )
    assert f"{outside} of {everybody} test people are of site=IOP, of whom nobody was trained on" in metrics["notes"][0]
    found = metrics["prediction"]
    tested = told[told.split == "test"].population.value_counts().to_dict()
    assert {name: of["patients"] for name, of in found.items()} == tested
    for name in ("report.html", "MODEL_CARD.md"):
        assert "Predicted of test people: age" in (run / name).read_text()
    listed = [f"IXI-T1/{name}-T1.nii.gz,{name[:6]},DLMUSE/{name}-T1_DLMUSE.nii.gz" for name in names_of(release)]
    (release / "heads.csv").write_text("\n".join(["path,patient,brain_path", *listed]) + "\n")
    embedded = [f"--run={run}", f"--input={release / 'heads.csv'}", f"--output={tmp_path / 'z.csv'}"]
    assert symnorm("embed", *embedded).returncode == 0
    again = told.merge(pd.read_csv(tmp_path / "z.csv"), on="patient", suffixes=("", "_again"))
    assert len(again) == len(told)
    np.testing.assert_allclose(again.predicted_again, again.predicted, rtol=1e-3)
    start = [f"--config.init_from={run}", "--config.finetune.kind=finetune", f"--workdir={tmp_path / 'more'}"]
    again = symnorm("train", *command, *start)
    assert again.returncode == 1 and "was taught a target; start from the run before it" in again.stderr


def test_from_a_pre_trained_run_to_the_tables(settings, tmp_path):
    """Probed, fine-tuned and beside two networks from scratch; again, and nothing is trained again.

    Everybody is there without and with a lesion, which is a target too.
    """
    pairs = ["--config.data.options.planted=1.0", "--config.data.options.pairs=1", "--config.data.train_on=everyone"]
    begin = ["train", "--config=configs/simclr.py:tiny", *settings, *pairs]
    assert symnorm(*begin, f"--workdir={tmp_path / 'simclr'}").returncode == 0
    command = ["study", "downstream", f"--runs={tmp_path / 'simclr'}", f"--output={tmp_path / 'down'}"]
    command += ["--targets=age", "--fractions=0.5,1", "--finetune=1", "--seeds=1", "--draws=2"]
    assert symnorm(*command).returncode == 0
    lines = json.loads((tmp_path / "down" / "age.json").read_text())
    names = [(line["method"], line["how"], line["seeds"]) for line in lines if line["fraction"] == 1]
    rulers = [("brain size", "ruler", 1), ("brain size and fluid", "ruler", 1)]
    trained = [("simclr", "fine-tuned", 1), ("supervised", "from scratch", 1), ("cnn", "from scratch", 1)]
    assert names == [("simclr", "probe", 1), *rulers, *trained]
    assert {line["seeds"] for line in lines if line["fraction"] == 0.5} == {2}
    errors = [line["mean_absolute_error"] for line in lines]
    assert all(one["low"] <= one["value"] <= one["high"] for one in errors)
    told = pd.read_csv(tmp_path / "down" / "age" / "simclr_100_0" / "predictions.csv")
    test = told[told.split == "test"]
    value = next(line["mean_absolute_error"]["value"] for line in lines if line["how"] == "fine-tuned")
    assert value == pytest.approx((test.predicted - test.target).abs().mean(), abs=1e-5)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "down" / "age").rglob("*.npz")}
    assert symnorm(*command).returncode == 0
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "down" / "age").rglob("*.npz")}
    assert not any((tmp_path / "down" / "age").glob("*/finetune/ckpt"))
    probes = ["--targets=label=abnormal", "--fractions=0.1,1", "--finetune="]
    assert symnorm(*command, *probes).returncode == 0
    rows = pd.read_csv(tmp_path / "simclr" / "manifest.csv")
    found = json.loads((tmp_path / "down" / "label.json").read_text())
    judged = rows[(rows.split == "test") & (rows.label != "neither")]
    assert {line["population"] for line in found} == {"same"} and set(judged.label) == {"healthy", "abnormal"}
    assert all(line["tested"] == judged.patient.nunique() and line["auroc"]["value"] is not None for line in found)
    assert [line["patients"] for line in found] == [2, 12] * 3
    other = shutil.copytree(tmp_path / "simclr", tmp_path / "other")
    rows = (other / "manifest.csv").read_text()
    (other / "manifest.csv").write_text(rows.replace(",healthy,", ",neither,", 1))
    for changed, sentence in (
        (["--fractions=2"], "'2' is not a share above 0, up to 1"),
        (["--fractions=", "--finetune="], "there is nothing to do"),
        ([f"--output={other / 'manifest.csv'}"], "is a file; a folder is needed"),
        ([f"--runs={tmp_path / 'simclr'},{other}"], f"{other}: its people, their splits, labels or age are not those"),
    ):
        refused = symnorm(*command, *changed)
        assert refused.returncode == 1 and sentence in refused.stderr and "Traceback" not in refused.stderr

"""Predictions of numbers and classes: the metrics, what is known of targets, and who is kept for testing."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict
from scipy.stats import pearsonr
from sklearn.metrics import balanced_accuracy_score, mean_absolute_error, r2_score, roc_auc_score
from sklearn.metrics import root_mean_squared_error as root_error

from symnorm_jax.data import manifest, targets
from symnorm_jax.errors import ConfigError
from symnorm_jax.evaluation.prediction import known_rows, measures, of_predictions, prediction_table, values_of
from symnorm_jax.report import score_tables

AGE = ConfigDict({"column": "age", "kind": "number", "positive": ""})
SEX = ConfigDict({"column": "sex", "kind": "class", "positive": "F"})


def config_of(section: ConfigDict, held_out: str = "") -> ConfigDict:
    evaluation = {"replicates": 200, "interval": "bca"}
    return ConfigDict(
        {
            "target": section,
            "data": {"held_out": held_out, "train_on": "healthy_people"},
            "evaluation": evaluation,
            "seed": 0,
        }
    )


def table(rng, kind: str, people: int = 30) -> pd.DataFrame:
    target = rng.normal(50, 15, people) if kind == "number" else rng.permutation(np.arange(people) % 2)
    predicted = target + rng.normal(0, 8, people) if kind == "number" else rng.random(people) / 2 + target / 3
    columns = {"patient": [f"p{i}" for i in range(people)], "split": "test", "population": "same"}
    return pd.DataFrame(columns | {"target": target, "predicted": predicted})


def people() -> pd.DataFrame:
    """A manifest before it is split: two scans of the first person, a site that is a number, blanks."""
    rows = pd.DataFrame({"patient": ["a", "a", "b", "c", "d", "e"], "label": "healthy", "healthy_person": True})
    rows = rows.assign(split=["", "", "", "", "", "excluded"], age=["30", "31", "50", "", "seventy", "40"])
    rows = rows.assign(sex=["F", "F", "M", "F", "", "M"], site=["1", "2", "1", "", "3", "2"])
    return rows.assign(**dict.fromkeys(set(manifest.TEXTS) - set(rows), ""))


@pytest.mark.parametrize("kind", ["number", "class"])
def test_metrics_are_those_of_scikit_learn(kind):
    """Of the cohort, and of a replicate in which people count twice or not at all."""
    one = table(np.random.default_rng(0), kind)
    weight = np.random.default_rng(1).integers(0, 3, (1, len(one)))
    again = one.loc[np.repeat(one.index, weight[0])]
    found = measures([one], kind, np.arange(len(one)))
    for rows, weights in ((one, np.ones((1, len(one)))), (again, weight)):
        y, x = rows.target.to_numpy(), rows.predicted.to_numpy()
        if kind == "number":
            expected = {"mean_absolute_error": mean_absolute_error(y, x), "rmse": root_error(y, x)}
            expected |= {"r2": r2_score(y, x), "correlation": pearsonr(y, x).statistic}
        else:
            expected = {"auroc": roc_auc_score(y, x), "balanced_accuracy": balanced_accuracy_score(y, x >= 0.5)}
            expected |= {"accuracy": ((x >= 0.5) == y).mean()}
        for name, value in expected.items():
            np.testing.assert_allclose(found[name](weights), [value], rtol=1e-5, err_msg=name)


def test_seeds_are_averaged_and_people_drawn_again():
    """The interval of two seeds is that of their mean; two equal ones are one."""
    rng = np.random.default_rng(2)
    one = table(rng, "number")
    other, config = one.assign(predicted=one.predicted + rng.normal(0, 5, len(one))), config_of(AGE)
    single, both = values_of([one], config), values_of([one, other], config)
    assert values_of([one, one], config) == single
    expected = np.mean([mean_absolute_error(x.target, x.predicted) for x in (one, other)])
    assert both["mean_absolute_error"]["value"] == pytest.approx(expected, abs=1e-6)
    found = single["mean_absolute_error"]
    assert found["low"] < found["value"] < found["high"]


def test_populations_are_judged_apart():
    one = table(np.random.default_rng(3), "number").assign(population=["same"] * 20 + ["abnormal"] * 10)
    one = pd.concat([one, one.iloc[:5].assign(split="val", predicted=1e6)])
    found = of_predictions(one, config_of(AGE))
    assert list(found) == ["same", "abnormal"]
    assert [part["patients"] for part in found.values()] == [20, 10]
    part = one[(one.split == "test") & (one.population == "abnormal")]
    assert found["abnormal"]["mean_absolute_error"]["value"] == pytest.approx(
        mean_absolute_error(part.target, part.predicted), abs=1e-5
    )


def test_a_report_tells_the_populations_and_metrics_of_a_prediction():
    one = table(np.random.default_rng(4), "class").assign(population=["same"] * 20 + ["held out"] * 10)
    found = of_predictions(one, config_of(SEX))
    told = score_tables.prediction(SimpleNamespace(results={"prediction": found}, config=config_of(SEX)))
    assert told.header[:2] == ["people", "AUROC"] and "sex=F" in told.caption
    assert [row[0] for row in told.rows] == ["like those trained on, 20", "of the group held out, 10"]
    assert told.rows[1][1] == found["held out"]["auroc"] and told.defined
    assert score_tables.prediction(SimpleNamespace(results={})) is None


def test_targets_are_numbers_or_classes_and_unknown_ones_are_nan():
    rows = people()
    np.testing.assert_array_equal(targets.values(rows, AGE), [30, 31, 50, np.nan, np.nan, 40])
    np.testing.assert_array_equal(targets.values(rows, SEX), [1, 1, 0, 1, np.nan, 0])
    scale = targets.scale_of(rows[:3], AGE)
    assert scale == pytest.approx((37, np.std([30, 31, 50])))
    there = targets.restored(targets.standardised(rows, AGE, scale), AGE, scale)
    np.testing.assert_allclose(there, targets.values(rows, AGE), rtol=1e-6)
    np.testing.assert_allclose(targets.restored(np.array([0.0, 2, -1000]), SEX, scale), [0.5, 0.880797, 0], atol=1e-6)


@pytest.mark.parametrize("unknown", ["", " ", "n/a", "NaN", "Unknown"])
def test_what_is_not_known_is_no_answer(unknown):
    rows = people().assign(age=["30", "31", "50", unknown, "60", "40"], sex=["F", "F", "M", unknown, "M", "M"])
    assert [np.isfinite(targets.values(rows, one)).sum() for one in (AGE, SEX)] == [5, 5]


@pytest.mark.parametrize(
    "section, column, sentence",
    [
        (AGE, {"age": ["30", "31", "90+", "1", "2", "3"]}, "target.column='age' holds '90.'; a number, or"),
        (SEX, {"sex": ["F", "f", "M", "M", "M", "M"]}, "target.column='sex' holds 'f'; 'F' is target.positive"),
    ],
)
def test_what_is_not_what_it_seems_is_refused(section, column, sentence):
    rows = people().assign(split="train", **column)
    with pytest.raises(ConfigError, match=sentence):
        targets.check(rows, rows, section)


def test_people_of_whom_it_is_not_known_are_counted(caplog):
    rows = people().assign(split="train", age=["30", "31", "50", "n/a", "", "40"])
    targets.warn_of_unknown(rows, config_of(AGE))
    assert "target.column='age' is not known of 2 of 5 training people" in caplog.text
    caplog.clear()
    targets.warn_of_unknown(rows.assign(age="30"), config_of(AGE))
    assert not caplog.text


def test_a_patient_without_a_visible_lesion_is_not_like_those_trained_on():
    rows = people().assign(split="test", healthy_person=[True, True, False, True, True, True], age="30")
    found = known_rows(rows, {"index": rows.index.to_numpy()}, config_of(AGE))
    assert found.population.tolist() == ["same", "same", "abnormal", "same", "same", "same"]


def test_the_label_is_a_target_of_which_everyone_is_one_population():
    label = ConfigDict({"column": "label", "kind": "class", "positive": "abnormal"})
    rows = people().assign(split="train", label=["healthy", "abnormal", "abnormal", "neither", "unlabelled", "healthy"])
    rows = rows.assign(healthy_person=[True, False, False, False, False, True])
    np.testing.assert_array_equal(targets.values(rows, label), [0, 1, 1, np.nan, np.nan, 0])
    config = config_of(label)
    config.update({"init_from": None, "train": {"patients": 1}})
    config.data.train_on = "everyone"
    found = known_rows(rows, {"index": rows.index.to_numpy()}, config)
    assert found.population.tolist() == ["same"] * 4 and found.target.tolist() == [0, 1, 1, 0]
    config.seed = next(seed for seed in range(9) if manifest.few(found, 1, seed, "").patient.iloc[0] == "a")
    assert targets.training_rows(rows, config).label.tolist() == ["healthy", "abnormal"]  # both sessions of one person
    config.data.train_on = "healthy_people"
    with pytest.raises(ConfigError, match="target.column='label' holds .'healthy'. in the .* data.train_on='everyone'"):
        targets.training_rows(rows, config)


def test_predictions_come_back_in_years_beside_those_of_whom_the_age_is_known():
    rows = people().assign(split=["train", "train", "val", "test", "test", "test"])
    arrays = {"test": {"index": np.array([5, 4]), "predicted": np.array([2.0, 1.0])}}
    found = prediction_table(rows, arrays, rows[:2], config_of(AGE, "site=2"))
    assert found.patient.tolist() == ["e"] and found.population.tolist() == ["held out"]
    np.testing.assert_allclose(found.predicted, 30.5 + 2 * 0.5)


def test_a_population_is_kept_for_testing_with_all_its_scans():
    """Person a was scanned at both sites; who is excluded stays so, and the others are shared as before."""
    kept = manifest.hold_out(people(), "site=2")
    assert kept.split.tolist() == ["test", "test", "", "", "", "excluded"]
    assert manifest.hold_out(people(), "").equals(people())


@pytest.mark.parametrize(
    "held_out, sentence",
    [
        ("scanner=A", "held_out='scanner=A'; column=value with one of .'age', 'sex', 'site'. is allowed"),
        ("site", "held_out='site'; column=value with one of"),
        ("site=", "held_out='site='; column=value with one of"),
        ("site=9", r"held_out='site=9': that is nobody; site holds \['', '1', '2', '3'\]"),
    ],
)
def test_a_population_that_is_not_there_is_refused(held_out, sentence):
    with pytest.raises(ConfigError, match=sentence):
        manifest.hold_out(people(), held_out)


@pytest.mark.parametrize(
    "section, sentence",
    [
        ({"column": "weight"}, "target.column='weight'; one of .'age', 'label', 'sex', 'site'. is allowed"),
        ({"column": "sex", "kind": "class", "positive": "female"}, "'female' and another value are needed"),
        ({"column": "sex"}, "holds .*'F', 'M'.* two numbers or more are needed"),
    ],
)
def test_a_target_that_teaches_nothing_is_refused(section, sentence):
    rows = people()
    with pytest.raises(ConfigError, match=sentence):
        targets.check(rows, rows, ConfigDict(AGE.to_dict() | section))

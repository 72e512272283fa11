"""What cannot be evaluated is said in a sentence, and what can is what the parts say."""

import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict
from sklearn.linear_model import LinearRegression
from sklearn.metrics import roc_auc_score
from test_report import write_run

from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.evaluate import evaluate
from symnorm_jax.files import read_json, write_json
from symnorm_jax.report.page import write_report
from symnorm_jax.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated") / "run"
    return folder, write_run(folder)


def test_rows(folder):
    table = pd.read_csv(folder / "scores.csv")
    return table[table.split == "test"]


test_rows.__test__ = False


def spoiled(folder, change):
    """The score table of a run, changed."""
    path = folder / "scores.csv"
    change(pd.read_csv(path, index_col="index", keep_default_na=False)).to_csv(path)


def test_the_adjusted_area_is_that_of_residuals_from_the_healthy(run):
    folder, _ = run
    rows, found = test_rows(folder), read_json(folder / "metrics.json")["sample"]["mse"]["auroc_adjusted"]["value"]
    place = np.column_stack([rows.position, rows.position**2, rows.brain_mm2])
    healthy = (rows.label == "healthy").to_numpy()
    model = LinearRegression().fit(place[healthy], rows.mse[healthy])
    assert found == pytest.approx(roc_auc_score(~healthy, rows.mse - model.predict(place)), abs=1e-6)


def test_groups_have_their_own_numbers(run):
    folder, _ = run
    results, rows = read_json(folder / "metrics.json"), test_rows(folder)
    sites = results["groups"]["sample"]["site"]
    assert set(sites) == {"here", "there"} and sum(site["cases"] for site in sites.values()) == len(rows)


def test_a_score_that_is_nan_names_file_score_and_row(tmp_path):
    config = write_run(tmp_path / "run")
    spoiled(tmp_path / "run", lambda table: table.assign(mse=table.mse.where(table.index != table.index[3])))
    with pytest.raises(RunError, match=r"scores.csv: the score 'mse' of 1 slices is NaN or infinite, the first in row"):
        evaluate(tmp_path / "run", config)


def test_test_patients_that_are_missing_are_named(tmp_path):
    config = write_run(tmp_path / "run")
    spoiled(tmp_path / "run", lambda table: table[table.patient != "test p3"])
    with pytest.raises(RunError, match="9 slices of the test split are missing, the first of patient test p3"):
        evaluate(tmp_path / "run", config)


def test_without_abnormal_slices_there_is_a_sentence_and_a_false_positive_rate(tmp_path):
    write_run(tmp_path / "run", lesions=False)
    results = read_json(tmp_path / "run" / "metrics.json")
    assert any("no abnormal slice" in note for note in results["notes"])
    assert results["sample"]["mse"]["auroc"]["value"] is None and "pixel" not in results
    delivered = results["thresholds"]["patient"]["healthy_quantile"]["healthy_patients"]
    assert delivered["of"] == 8 and 0 <= delivered["low"] <= delivered["share"] <= delivered["high"] <= 1


def test_without_healthy_slices_there_is_a_sentence(tmp_path):
    config = write_run(tmp_path / "run")

    def all_ill(table):
        ill = (table.split == "test") & (table.label == "healthy")
        return table.assign(label=table.label.mask(ill, "abnormal"), lesion_mm2=table.lesion_mm2.mask(ill, 99.0))

    spoiled(tmp_path / "run", all_ill)
    results = evaluate(tmp_path / "run", config)
    assert any("no healthy slice" in note for note in results["notes"])
    assert results["sample"]["mse"]["specificity"]["value"] is None


def test_one_patient_has_values_without_intervals_and_a_sentence(tmp_path):
    write_run(tmp_path / "run", test_patients=1)
    results = read_json(tmp_path / "run" / "metrics.json")
    assert any("one patient" in note for note in results["notes"])
    found = results["sample"]["mse"]["auroc"]
    assert found["value"] is not None and found["low"] is None


def test_a_split_without_a_judged_slice_says_so_and_has_a_report(tmp_path):
    config = write_run(tmp_path / "run", maps=False)
    spoiled(tmp_path / "run", lambda table: table.assign(label=table.label.where(table.split != "test", "neither")))
    results = evaluate(tmp_path / "run", config)
    assert "The test split has no labelled slice: nothing is defined at slice level." in results["notes"]
    write_json(tmp_path / "run" / "metrics.json", results)
    write_report(tmp_path / "run", config)
    assert "no labelled slice" in (tmp_path / "run" / "report.html").read_text()


def test_a_config_of_another_version_is_named(tmp_path):
    config = write_run(tmp_path / "run").to_dict()
    del config["score"]["calibration"]
    with pytest.raises(RunError, match="run: its config is of another version of symnorm_jax: .*calibration"):
        Run(ConfigDict(config).lock(), tmp_path / "run")

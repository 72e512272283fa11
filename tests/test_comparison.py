"""Runs side by side: paired on the same cases, judged by the margin of the reference, refused where people differ."""

import itertools
import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from test_report import write_run
from test_thresholds import Settings

from symnorm_jax.compare import tables
from symnorm_jax.compare.pairs import compare
from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.evaluation.evaluate import evaluate
from symnorm_jax.files import load_arrays, read_json, save_arrays, write_json
from symnorm_jax.rundir import read_config
from symnorm_jax.scoring.thresholds import fit_thresholds
from symnorm_jax.statistics.significance import holm

TOLD = {"difference", "p_value", "p_value_holm", "verdict", "auroc", "patient", "pixel"}  # of each pair


def run_named(folder, name, score=None, **changes):
    """A finished run whose headline score is a function of the score table."""
    write_run(folder / name, **{"score.headline": "mse", "score.groups": (), **changes})
    if score is not None:
        path = folder / name / "scores.csv"
        table = pd.read_csv(path, index_col="index", keep_default_na=False)
        table["mse"] = score(table)
        table.to_csv(path)
        thresholds = read_json(folder / name / "thresholds.json")
        cases = table[table.split == "val"].assign(positive=table.label == "abnormal")
        thresholds["sample"] |= fit_thresholds(cases, ["mse"], Settings())
        write_json(folder / name / "thresholds.json", thresholds)
    return folder / name


def noisy_truth(noise, seed=0):
    return lambda table: (table.label == "abnormal") + noise * np.random.default_rng(seed).random(len(table))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    seldom_wrong = run_named(folder, "sharp", noisy_truth(1.2))
    return seldom_wrong, run_named(folder, "blunt", noisy_truth(40.0, seed=1))


@pytest.fixture(scope="module")
def compared(runs):
    return compare(list(runs))


def line_of(compared, name):
    return next(line for line in compared["lines"] if line["name"] == name)


def test_the_difference_is_that_of_the_two_areas_within_position(runs, compared):
    def area(run):
        table = pd.read_csv(run / "scores.csv")
        test = table[table.split == "test"].assign(band=lambda t: np.minimum(t.position * 10, 9).astype(int))
        bands = [part for _, part in test.groupby("band") if part.label.nunique() == 2]
        weights = [(part.label == "abnormal").sum() * (part.label == "healthy").sum() for part in bands]
        return np.average([roc_auc_score(part.label == "abnormal", part.mse) for part in bands], weights=weights)

    found = line_of(compared, "blunt")["paired"]["difference"]
    assert found["value"] == pytest.approx(area(runs[0]) - area(runs[1]), abs=1e-6)
    assert found["low"] <= found["value"] <= found["high"]


def test_what_needs_a_threshold_is_judged_at_that_of_its_own_run(runs, compared):
    for run in runs:
        judged = read_json(run / "thresholds.json")["sample"]["mse"]["roc"]["value"]
        table = pd.read_csv(run / "scores.csv")
        ill = table[(table.split == "test") & (table.label == "abnormal")]
        assert line_of(compared, run.name)["sample"]["sensitivity"]["value"] == pytest.approx(
            (ill.mse >= judged).mean()
        )


def test_a_much_better_score_is_superior_and_says_so_in_every_test(compared):
    paired = line_of(compared, "blunt")["paired"]
    assert paired["verdict"] == "superior" and paired["p_value"] < 0.06
    assert paired["auroc"]["p_value"] < 0.05 and paired["auroc"]["value"] > 0.2


def test_a_run_is_not_inferior_to_its_own_copy(runs, tmp_path):
    copy = run_named(tmp_path, "copy", noisy_truth(1.2))
    paired = line_of(compare([runs[0], copy]), "copy")["paired"]
    assert paired["difference"] == paired["pixel"] == {"value": 0, "low": 0, "high": 0}
    assert paired["verdict"] == "non-inferior"
    assert paired["p_value"] == paired["auroc"]["p_value"] == 1


def test_the_margin_is_what_the_reference_stated_when_it_was_begun(runs, tmp_path):
    worse = run_named(tmp_path, "worse", noisy_truth(1.6), **{"evaluation.margin": 0.9})
    here, there = compare([worse, runs[0]]), compare([runs[0], worse])
    assert here["margin"] == 0.9 and there["margin"] == 0.05
    assert line_of(here, "sharp")["paired"]["verdict"] == "non-inferior"


def test_p_values_are_corrected_over_the_whole_table(compared):
    paired = [line["paired"] for line in compared["lines"][1:] if line["paired"]["p_value"] is not None]
    assert len(paired) > 1
    adjusted = holm(np.array([one["p_value"] for one in paired]))
    np.testing.assert_allclose([one["p_value_holm"] for one in paired], adjusted)


def test_the_rival_to_beat_is_chosen_on_validation(runs, tmp_path):
    def only_in_validation(table):
        return np.where(table.split == "val", table.label == "abnormal", table.label == "healthy").astype(float)

    tuned = run_named(tmp_path, "tuned", only_in_validation)
    found = compare([runs[1], tuned, runs[0]])
    assert found["best_on_validation"] == "tuned"
    assert line_of(found, "tuned")["sample"]["auroc"]["value"] == 0


def test_trivial_scores_take_part_and_cost_nothing(compared):
    line = line_of(compared, "position")
    assert line["paired"]["pixel"] is None and line_of(compared, "brightness")["paired"]["pixel"]["value"] is not None
    assert line["cost"]["passes"] == 0 and line["paired"]["verdict"] in ("superior", "non-inferior", "inconclusive")
    assert line_of(compared, "sharp")["cost"]["passes"] == 7


def test_other_patients_are_refused_by_name(runs, tmp_path):
    other = run_named(tmp_path, "other", test_patients=6)
    with pytest.raises(
        RunError, match=r"other: its test patients are not those of .* patient test p6 stands in one of them"
    ):
        compare([runs[0], other])


def test_other_labels_of_the_same_slices_are_refused(runs, tmp_path):
    other = run_named(tmp_path, "relabelled")
    table = pd.read_csv(other / "scores.csv", index_col="index", keep_default_na=False)
    first = table.index[(table.split == "test") & (table.label == "healthy") & (table.patient == "test p2")][0]
    table.loc[first, "label"] = "abnormal"
    table.to_csv(other / "scores.csv")
    with pytest.raises(RunError, match="its test samples are not those of .*test p2"):
        compare([runs[0], other])


def test_unfinished_runs_and_equal_names_are_refused(runs, tmp_path):
    begun = run_named(tmp_path, "begun")
    (begun / "metrics.json").unlink()
    with pytest.raises(RunError, match=r"begun: not a finished run, metrics.json is missing"):
        compare([runs[0], begun])
    with pytest.raises(RunError, match="told apart by their names"):
        compare([runs[0], runs[0]])


def test_every_file_says_the_same(compared, tmp_path):
    paths = {path.suffix: path for path in tables.write(compared, tmp_path)}
    assert read_json(paths[".json"]) == compared and set(line_of(compared, "blunt")["paired"]) == TOLD
    numbers = pd.read_csv(paths[".csv"]).set_index("name")
    value = line_of(compared, "blunt")["paired"]["difference"]["value"]
    assert numbers.loc["blunt", "paired.difference.value"] == pytest.approx(value)
    page, latex = paths[".md"].read_text(), paths[".tex"].read_text()
    assert f"| {value:.3f} (" in page and f"{value:.3f} (" in latex and latex.count("tabular") == 4
    assert "McNemar" not in page and paths[".png"].read_bytes().startswith(b"\x89PNG")


def test_without_abnormal_slices_in_validation_no_rival_is_the_one_to_beat(runs, tmp_path):
    copies = [run_named(tmp_path, "one"), run_named(tmp_path, "other", **{"data.train_on": "everyone"})]
    for copy in copies:
        table = pd.read_csv(copy / "scores.csv", index_col="index", keep_default_na=False)
        table.loc[(table.split == "val") & (table.label == "abnormal"), "label"] = "neither"
        table.to_csv(copy / "scores.csv")
    found = compare(copies)
    assert found["best_on_validation"] is None and "best rival" not in tables.quality(found).markdown()
    assert any(said.startswith("Weakly supervised: other, trained on patients") for said in tables.sentences(found))
    noted = [read_json(copy / "metrics.json")["notes"] for copy in copies]
    assert [any(note.startswith("Weakly supervised: this run") for note in notes) for notes in noted] == [False, True]


def folds_of(folder, run):
    """Two runs whose test people are others, in a folder of one method."""
    for fold in ("fold0", "fold1"):
        shutil.copytree(run, folder / fold)
        for path in (folder / fold / name for name in ("manifest.csv", "scores.csv")):
            table = pd.read_csv(path, index_col="index", keep_default_na=False)
            table["patient"] = table.patient.mask(table.split == "test", f"{fold} " + table.patient)
            table.to_csv(path)
    return folder


def test_folds_are_averaged_and_their_people_drawn_together(runs, compared, tmp_path):
    folds = [folds_of(tmp_path / run.name, run) for run in runs]
    scores = pd.read_csv(folds[0] / "fold1/scores.csv", index_col="index", keep_default_na=False)
    scores["mse"] = np.where(scores.split == "test", -scores.mse, scores.mse)
    scores.to_csv(folds[0] / "fold1/scores.csv")
    found = compare(folds)
    assert found["runs"] == 2 and found["patients"] == 2 * compared["patients"]
    assert found["cases"] == 2 * compared["cases"]
    sharp, blunt = (line_of(found, name)["sample"]["auroc"] for name in ("sharp", "blunt"))
    assert sharp["value"] == pytest.approx(0.5) and sharp["low"] < 0.5 < sharp["high"]
    alone = line_of(compared, "blunt")["sample"]["auroc"]
    assert blunt["value"] == pytest.approx(alone["value"])
    pixel, single = (line_of(one, "brightness")["pixel"]["average_precision"] for one in (found, compared))
    assert pixel["value"] == pytest.approx(single["value"]) and pixel["low"] != single["low"]
    assert "means over 2 runs" in tables.sentences(found)[0]


def test_folds_without_one_of_them_are_refused(runs, tmp_path):
    folds = [folds_of(tmp_path / run.name, run) for run in runs]
    for method in folds:
        shutil.copytree(runs[0], method / "other")
    shutil.rmtree(folds[0] / "other")
    shutil.rmtree(folds[1] / "fold1")
    with pytest.raises(RunError, match="blunt: its test patients are not those of .*sharp"):
        compare(folds)
    (folds[1] / "fold0/cost.json").unlink()
    with pytest.raises(RunError, match="fold0: not a finished run, cost.json is missing"):
        compare(folds)


def set_keys(run, **values):
    config = read_json(run / "config.json")
    config["data"] |= values
    write_json(run / "config.json", config)


def test_a_folder_of_other_runs_is_no_method(runs, tmp_path):
    folds = [folds_of(tmp_path / run.name, run) for run in runs]
    set_keys(folds[1] / "fold1", spacing=9.0)
    with pytest.raises(
        RunError, match="blunt: fold1 has another data.spacing than fold0; the runs in a folder are folds"
    ):
        compare(folds)


def test_seeds_may_start_from_seeds_and_not_from_strangers(runs, tmp_path):
    """As a transfer that is made from each seed of its source."""
    folds = [folds_of(tmp_path / run.name, run) for run in runs]
    for number in range(2):
        source = tmp_path / f"source{number}"
        source.mkdir()
        shutil.copy(runs[1] / "config.json", source)
        fold = folds[1] / f"fold{number}" / "config.json"
        write_json(fold, read_json(fold) | {"init_from": str(source)})
    compare(folds)
    set_keys(tmp_path / "source1", spacing=9.0)
    with pytest.raises(RunError, match="blunt: fold1 has another init_from than fold0"):
        compare(folds)
    (tmp_path / "source1" / "config.json").unlink()  # nobody can know
    with pytest.raises(RunError, match="blunt: fold1 has another init_from than fold0"):
        compare(folds)


def test_a_fold_that_all_methods_lack_is_missed(runs, tmp_path):
    folds = [folds_of(tmp_path / run.name, run) for run in runs]
    for number, method in itertools.product(range(2), folds):
        set_keys(method / f"fold{number}", folds=3, fold=number)
    with pytest.raises(RunError, match="sharp: fold 2 of 3 is missing"):
        compare(folds)
    for number, method in itertools.product(range(2), folds):
        set_keys(method / f"fold{number}", folds=3, fold=1)
    compare(folds)  # two seeds of one fold: nobody else was to be judged
    for method in folds:
        shutil.rmtree(method / "fold1")
    with pytest.raises(RunError, match="sharp: fold 0 of 3 is missing"):
        compare(folds)


def test_every_method_has_as_many_trainings(runs, tmp_path):
    folds = [folds_of(tmp_path / run.name, run) for run in runs]
    shutil.copytree(folds[0] / "fold0", folds[0] / "again")
    with pytest.raises(RunError, match="blunt: has 2 runs and .*sharp 3; methods are compared by as many trainings"):
        compare(folds)


def test_a_measure_that_one_fold_lacks_is_left_out(runs, tmp_path):
    folds = [folds_of(tmp_path / run.name, run) for run in runs]
    path = folds[0] / "fold1/embeddings/val.npz"
    arrays = load_arrays(path)
    save_arrays(path, arrays | {"lesion": np.zeros_like(arrays["lesion"])})
    found = line_of(compare(folds), "sharp")["pixel"]
    assert "dice" not in found and found["average_precision"]["value"] is not None


def test_whoever_has_a_map_and_no_case_is_drawn_with_a_weight_of_their_own(runs, tmp_path):
    """Of the person whose name is last all samples are neither; each map has the interval of its own run's report."""
    copies = [shutil.copytree(run, tmp_path / run.name) for run in runs]
    for copy in copies:
        for name in ("manifest.csv", "scores.csv"):
            rows = pd.read_csv(copy / name, index_col="index", keep_default_na=False)
            last = rows.patient[rows.split == "test"].max()
            rows.assign(label=rows.label.mask(rows.patient == last, "neither")).to_csv(copy / name)
    line = line_of(compare(copies), "sharp")
    own = evaluate(copies[0], read_config(copies[0]))["pixel"]["raw_map"]
    assert line["pixel"]["average_precision"] == own["average_precision"]


def test_maps_are_post_processed_alike_where_that_is_asked_for(runs, compared):
    found = compare(list(runs), steps=("erode",))
    before, after = (line_of(one, "brightness")["pixel"]["average_precision"]["value"] for one in (compared, found))
    assert before != after and line_of(found, "brightness")["sample"] == line_of(compared, "brightness")["sample"]
    assert "Maps are post-processed: erode." in tables.sentences(found)
    with pytest.raises(ConfigError, match="post-processing steps are"):
        compare(list(runs), steps=("blur",))

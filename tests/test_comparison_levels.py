"""Runs of slices beside runs of whole volumes: paired by patients, with nothing said of slices."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from test_comparison import line_of, noisy_truth, run_named

from symnorm_jax.compare import figures, tables
from symnorm_jax.compare.pairs import compare
from symnorm_jax.errors import RunError
from symnorm_jax.statistics.significance import holm


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levels")
    return run_named(folder, "cut"), run_named(folder, "whole", noisy_truth(1.5), volumes=True, maps=False)


@pytest.fixture(scope="module")
def compared(runs):
    return compare(list(runs), "patient")


def people(run, score="mse"):
    """The highest score of each test patient, and whether it is ill."""
    table = pd.read_csv(run / "scores.csv")
    found = table[table.split == "test"].groupby("patient").agg({score: "max", "healthy_person": "first"})
    return found[score].to_numpy(), ~found.healthy_person.to_numpy()


def test_slices_beside_volumes_are_refused_with_the_way_out(runs, tmp_path):
    with pytest.raises(RunError, match=r"test samples are not those of .*, and --level=patient would pair them\.$"):
        compare(list(runs))
    fewer = run_named(tmp_path, "fewer", volumes=True, maps=False, test_patients=6)
    for level in ("sample", "patient"):
        with pytest.raises(
            RunError, match=r"test patients are not those of .* only runs that judge the same people can be paired"
        ):
            compare([runs[0], fewer], level)


def test_all_that_is_paired_is_of_patients(runs, compared):
    (ours, ill), (theirs, _) = map(people, runs)
    paired, gap = line_of(compared, "whole")["paired"], roc_auc_score(ill, ours) - roc_auc_score(ill, theirs)
    for found in (paired["difference"], paired["auroc"]):
        assert found["value"] == pytest.approx(gap, abs=1e-6) and found["low"] <= found["value"] <= found["high"]
    pairs = [line["paired"] for line in compared["lines"][1:]]
    assert [one["p_value_holm"] for one in pairs] == pytest.approx(holm(np.array([one["p_value"] for one in pairs])))
    assert compared["metric"] == "auroc" and line_of(compared, "cut")["patient"]["auroc"]["value"] == pytest.approx(
        roc_auc_score(ill, ours), abs=1e-6
    )


def test_trivial_scores_are_those_of_the_first_run(runs, compared):
    score, ill = people(runs[0], "trivial_brightness")
    found = line_of(compared, "brightness")["patient"]["auroc"]["value"]
    assert found == pytest.approx(roc_auc_score(ill, score), abs=1e-6)


def test_pixels_are_paired_where_both_have_maps(runs, compared, tmp_path):
    assert line_of(compared, "whole")["paired"]["pixel"] is None
    assert line_of(compared, "brightness")["paired"]["pixel"]["value"] is not None
    assert "pixels, average precision" in tables.pairs(compared).header
    bare = compare([runs[1], run_named(tmp_path, "bare", volumes=True, maps=False)], "patient")
    for table in (tables.quality(bare), tables.pairs(bare)):
        assert not [name for name in table.header if name.startswith("pixels")] and table.rows


def test_a_patient_costs_what_all_its_samples_cost(compared):
    quality = tables.quality(compared)
    passes, ms = (quality.header.index(name) for name in ("passes a patient", "ms a patient"))
    cut, whole = line_of(compared, "cut")["cost"], line_of(compared, "whole")["cost"]
    assert cut["passes_per_patient"] == 63 and cut["seconds_per_patient"] == pytest.approx(9 * 0.0123)
    assert whole["passes_per_patient"] == 7 and whole["seconds_per_patient"] == pytest.approx(0.0123)
    assert [(row[passes], row[ms]) for row in quality.rows if row[0] == "cut, mse"] == [("63", "110.7")]
    first, second = tables.brief(compared)
    assert (
        first.header == ["method", "AUROC", "passes a patient", "ms a patient"]
        and len(first.rows) == len(second.rows) + 1
    )
    assert second.header == ["cut minus", "difference", "p, Holm", "verdict"]


def test_the_rival_to_beat_is_chosen_on_validation_patients(runs, tmp_path):
    def of_slices(table):  # every slice is told from those of its height, no patient from another
        return (table.label == "abnormal") + 2.0 * (table.healthy_person & (table.slice == 0))

    def of_patients(table):  # by a slice that shows no lesion
        return (~table.healthy_person & (table.slice == 0)) + 0.1 * np.random.default_rng(0).random(len(table))

    rivals = [run_named(tmp_path, one.__name__, one) for one in (of_slices, of_patients)]
    assert compare([runs[0], *rivals])["best_on_validation"] == "of_slices"
    assert compare([runs[0], *rivals], "patient")["best_on_validation"] == "of_patients"


def test_every_file_says_the_level_and_none_speaks_of_slices(compared, tmp_path):
    paths = {path.suffix: path for path in tables.write(compared, tmp_path)}
    for suffix in (".md", ".tex"):
        page = paths[suffix].read_text()
        assert "Patient level: 8 test patients" in page and "AUROC, DeLong" in page
    numbers = pd.read_csv(paths[".csv"])
    assert (numbers.level == "patient").all() and "patient.auroc.value" in numbers
    for suffix in (".md", ".tex", ".csv", ".json"):
        text = paths[suffix].read_text()
        assert "slice" not in text and "within" not in text
    assert "Patient level" in figures.forest(compared, tables.judged(compared)).get_suptitle()


def test_at_slice_level_the_level_is_said_too(runs, tmp_path):
    slices = compare([runs[0]])
    assert (
        figures.forest(slices, tables.judged(slices))
        .get_suptitle()
        .startswith("Slice level: 72 test slices of 8 patients")
    )
    assert set(tables.numbers(slices).level) == {"sample"}
    assert tables.quality(slices).header[:2] == ["method", "AUROC within position"]


def test_volumes_at_their_own_level_are_called_so(runs):
    volumes = compare([runs[1]])
    header = tables.quality(volumes).header
    assert header[1] == "AUROC" and "ms a volume" in header and "AUROC within position" not in header
    assert (
        figures.forest(volumes, tables.judged(volumes))
        .get_suptitle()
        .startswith("Volume level: 8 test volumes of 8 patients")
    )

"""Patients are made of their slices, and of nothing that the test split could tell."""

import numpy as np
import pandas as pd
import pytest
from test_thresholds import Settings

from symnorm_jax.errors import ConfigError, InputError
from symnorm_jax.evaluation.cases import (
    AGGREGATES,
    BANDS,
    ENOUGH,
    cases_at,
    p_values,
    patient_cases,
    position_edges,
    sample_cases,
)
from symnorm_jax.scoring.thresholds import fit_thresholds, realised

COUNTS = {"val": 12, "test": 9}  # patients


def table_of(rng, counts=None, slices=16, ill=lambda i: i % 3 == 2):
    """A score table; of ill patients the slices of the upper half are abnormal, and one of the lower is neither."""
    parts = []
    for split, patients in (counts or COUNTS).items():
        for i in range(patients):
            position = np.sort(rng.random(slices))
            label = np.where(ill(i) & (position > 0.5), "abnormal", "healthy").astype(object)
            label[0] = "neither" if ill(i) else "healthy"
            rows = {"patient": f"{split}{i}", "session": "", "slice": range(slices), "position": position}
            rows |= {"brain_mm2": 9000.0, "lesion_mm2": 0.0, "healthy_person": not ill(i), "label": label}
            score = rng.normal(size=(2, slices)) + 3 * position + 2 * (label == "abnormal")
            parts.append(pd.DataFrame(rows | {"split": split, "mse": score[0], "trivial_area": score[1]}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def table(rng):
    return table_of(rng)


def test_slices_that_are_neither_are_left_out(table):
    slices = cases_at("sample", table, "test")
    pd.testing.assert_frame_equal(slices, sample_cases(table, "test"))
    assert set(slices.label) == {"healthy", "abnormal"} and (slices.positive == (slices.label == "abnormal")).all()
    assert len(slices) == 9 * 16 - 3 and set(slices.split) == {"test"}


@pytest.mark.parametrize(
    ("aggregate", "by_hand"),
    [
        ("max", lambda s: max(s)),
        ("mean", lambda s: sum(s) / len(s)),
        ("top_k", lambda s: sum(sorted(s)[-3:]) / min(3, len(s))),
    ],
)
def test_patients_by_hand(table, aggregate, by_hand):
    table = table.drop(table.index[table.patient == "test1"][2:])  # leaves fewer slices than k
    found = cases_at("patient", table.sample(frac=1, random_state=0), "test", aggregate, k=3)
    assert list(found) == ["patient", "mse", "trivial_area", "positive"]
    assert found.patient.tolist() == [f"test{i}" for i in range(9)]
    assert found.positive.tolist() == [i % 3 == 2 for i in range(9)]
    for row in found.itertuples():
        own = table[table.patient == row.patient]
        assert (row.mse, row.trivial_area) == pytest.approx((by_hand(own.mse), by_hand(own.trivial_area)))


def test_top_k_lies_between_the_mean_and_the_worst_slice(table):
    scores = {k: patient_cases(table, "test", "top_k", k).mse for k in (1, 5, 16)}
    np.testing.assert_allclose(scores[1], patient_cases(table, "test", "max").mse)
    np.testing.assert_allclose(scores[16], patient_cases(table, "test", "mean").mse)
    assert (scores[1] > scores[5]).all() and (scores[5] > scores[16]).all()
    pd.testing.assert_series_equal(patient_cases(table, "test", "top_k").mse, scores[5])


def test_a_p_value_counts_what_is_as_high_among_others_of_the_same_height(table):
    healthy = table[(table.split == "val") & (table.label == "healthy")]
    edges = [-1, *position_edges(healthy.position.to_numpy()), 2]
    table.loc[::5, "mse"] = 1.5  # ties
    healthy = table.loc[healthy.index]
    rows = table[table.split.isin(["val", "test"])]
    found = p_values(table, rows, ["trivial_area", "mse"])
    for value, row in zip(found[:, 1], rows.itertuples(), strict=True):
        low, high = next((a, b) for a, b in zip(edges, edges[1:], strict=False) if a <= row.position < b)
        band = healthy[(healthy.position >= low) & (healthy.position < high) & (healthy.patient != row.patient)]
        assert value == pytest.approx((1 + sum(band.mse >= row.mse)) / (1 + len(band)))
    score = patient_cases(table, "test", "calibrated").set_index("patient").mse
    assert score["test4"] == pytest.approx(-np.log(found[(rows.patient == "test4").to_numpy(), 1]).mean())


def test_bands_are_merged_until_they_hold_enough(rng):
    position = np.concatenate([rng.uniform(0, 0.1, 25), rng.uniform(0.1, 0.4, 15), rng.uniform(0.4, 0.5, 100)])
    # 25 | 15 more do not do, so 115 together; what follows is empty and stays with them.
    assert position_edges(position) == pytest.approx([0.1])
    assert position_edges(rng.uniform(0, 1, 2 * ENOUGH - 1)).size == 0 and position_edges(np.zeros(0)).size == 0
    for n in (40, 150, 400, 5000):
        position = rng.beta(2, 2, n)
        edges = position_edges(position)
        assert np.bincount(np.digitize(position, edges)).min() >= ENOUGH
        assert set(np.round(edges * BANDS, 9)) <= set(range(1, BANDS))
    assert len(edges) == BANDS - 1


def test_calibrated_takes_out_the_height_of_a_slice(rng):
    """Scores that are position alone: a patient scanned only at the top is the worst by `max`, and no other by p."""
    table = table_of(rng, {"val": 60, "test": 30}, ill=lambda i: False)
    table["mse"] = table.position + 0.02 * rng.normal(size=len(table))
    upper = table[(table.split != "test") | (table.patient < "test2") | (table.position > 0.6)]  # test2 to test9
    high = upper[upper.split == "test"].groupby("patient").position.min().to_numpy() > 0.6
    ranks = {one: patient_cases(upper, "test", one).mse.to_numpy() for one in ("mean", "calibrated")}
    assert ranks["mean"][high].min() > ranks["mean"][~high].max()
    assert abs(ranks["calibrated"][high].mean() - ranks["calibrated"][~high].mean()) < 0.35
    p = p_values(table, table[table.split == "test"], ["mse"])[:, 0]
    assert -np.log(p).mean() == pytest.approx(1, abs=0.15)  # the mean of -log of a uniform number


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_a_patient_s_score_does_not_know_the_other_test_patients(table, aggregate):
    alone = table[(table.split != "test") | (table.patient == "test3")]
    changed = table.assign(mse=table.mse.where((table.split != "test") | (table.patient == "test3"), 1e3))
    first = patient_cases(table, "test", aggregate).set_index("patient").loc["test3"]
    for other in (alone, changed, changed.assign(label=table.label.where(table.split != "test", "healthy"))):
        found = patient_cases(other, "test", aggregate).set_index("patient").loc["test3"]
        assert found.mse == first.mse and found.positive == first.positive
        pd.testing.assert_frame_equal(patient_cases(other, "val", aggregate), patient_cases(table, "val", aggregate))


def test_a_validation_patient_is_not_compared_with_itself(rng):
    """Validation and test patients from one distribution have one distribution of scores; thresholds rest on it."""
    shift, rates = [], []
    for _ in range(20):
        table = table_of(rng, {"val": 15, "test": 15}, slices=10, ill=lambda i: False)
        table["mse"] += 2 * table.patient.map(dict(zip(table.patient.unique(), rng.normal(size=30), strict=True)))
        val, test = (patient_cases(table, split, "calibrated")[["patient", "mse", "positive"]] for split in COUNTS)
        shift.append(test.mse.mean() - val.mse.mean())
        fit = fit_thresholds(val, ["mse"], Settings(alpha=0.25))["mse"]["conformal"]
        rates.append(realised(fit, test, "mse")["healthy_patients"]["share"])
    assert abs(np.mean(shift)) < 3 * np.std(shift) / np.sqrt(20)
    assert np.mean(rates) == pytest.approx(0.25, abs=3 * np.std(rates) / np.sqrt(20))


def test_one_healthy_validation_patient_tells_its_own_slices_nothing(rng):
    table = table_of(rng, {"val": 1, "test": 2}, ill=lambda i: False)
    assert (patient_cases(table, "val", "calibrated").mse == 0).all()  # p = 1: there is nobody else
    assert (patient_cases(table, "test", "calibrated").mse > 0).all()


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_groups_stay_with_the_cases_at_both_levels(table, aggregate):
    table["site"] = table.patient.str[-1].map(lambda digit: f"site {digit}")
    table["age"] = np.where(table.slice == 0, 40.5, 41.5)  # the second visit is a year later
    about = ("site", "age")
    patients = cases_at("patient", table, "test", aggregate, about=about)
    assert patients.site.tolist() == [f"site {i}" for i in range(9)] and (patients.age == 40.5).all()
    assert list(patients) == ["patient", "mse", "trivial_area", "site", "age", "positive"]
    slices = cases_at("sample", table, "test", aggregate, about=about)
    assert set(about) <= set(slices) and (slices.site == "site " + slices.patient.str[-1]).all()


def test_bad_input_ends_in_a_sentence(table):
    with pytest.raises(ConfigError, match="score.patient='median'; one of .'calibrated', 'max', 'mean', 'top_k'."):
        patient_cases(table, "test", "median")
    with pytest.raises(ConfigError, match="made of its 0 highest slices"):
        patient_cases(table, "test", "top_k", 0)
    with pytest.raises(ConfigError, match="The group 'site' is no column of the scores; one of .'brain_mm2'"):
        patient_cases(table, "test", about=("site",))
    with pytest.raises(ConfigError, match="The column 'site' is text and no score"):
        patient_cases(table.assign(site="a"), "test")
    with pytest.raises(ConfigError, match="'calibrated' needs healthy validation slices, and there are none"):
        patient_cases(table[(table.split == "test") | (table.label != "healthy")], "test", "calibrated")
    broken = table.assign(mse=table.mse.where(table.slice != 3))
    for aggregate in AGGREGATES:
        with pytest.raises(InputError, match=r"9 of 144 scores 'mse' are NaN|12 of \d+ scores 'mse' are NaN"):
            patient_cases(broken, "test", aggregate)


def test_a_split_without_patients_has_no_cases(table):
    for aggregate in AGGREGATES:
        assert patient_cases(table, "train", aggregate).empty

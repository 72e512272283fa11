"""Scores and thresholds: nothing about the test split decides how it is judged."""

import numpy as np
import pandas as pd
import pytest

from symnorm_jax.evaluation.cases import patient_cases, slice_cases
from symnorm_jax.scoring import mahalanobis
from symnorm_jax.scoring.scores import score_names, score_table
from symnorm_jax.scoring.thresholds import RULES, fit_thresholds, healthy_quantile, max_accuracy, roc


def manifest_of(count, split, start=0):
    label = np.array(["healthy", "abnormal", "neither", "healthy"])[np.arange(count) % 4]
    rows = {
        "patient": [f"{split}{i // 4}" for i in range(count)],
        "session": "",
        "slice": np.arange(count),
        "position": np.linspace(0, 1, count),
        "brain_mm2": 9000.0 - np.arange(count),
        "lesion_mm2": np.where(label == "abnormal", 99.0, 0.0),
        "healthy_person": False,
        "label": label,
        "split": split,
    }
    return pd.DataFrame(rows, index=np.arange(start, start + count))


@pytest.fixture
def scored(rng):
    manifest = pd.concat([manifest_of(40, "val"), manifest_of(60, "test", start=40)])
    gaussian = mahalanobis.estimate(rng.normal(size=(200, 5)), np.arange(200).astype(str), 0.1)

    def arrays(split):
        rows = manifest[manifest.split == split]
        names = ("mse", "baseline_brightness", "baseline_fluid", "baseline_mirror")
        scores = {f"score.{name}": rng.random(len(rows)) for name in names}
        return {"index": rows.index.to_numpy(), "z": rng.normal(size=(len(rows), 5)), **scores}

    embedded = {split: arrays(split) for split in ("val", "test")}
    return manifest, embedded, gaussian


def test_the_table_has_every_score_and_baseline(scored):
    manifest, embedded, gaussian = scored
    table = score_table(manifest, embedded, gaussian)
    assert score_names(table) == ["mse", "mahalanobis", "mse+mahalanobis"]
    baselines = {f"baseline_{name}" for name in ("area", "brightness", "fluid", "mirror", "position")}
    assert set(score_names(table, baselines=True)) == baselines
    expected = mahalanobis.distance(gaussian, embedded["test"]["z"])
    np.testing.assert_allclose(table[table.split == "test"].mahalanobis, expected, rtol=1e-5)


def test_the_sum_is_in_deviations_of_healthy_validation_slices(scored):
    manifest, embedded, gaussian = scored
    table = score_table(manifest, embedded, gaussian)
    healthy = table[(table.split == "val") & (table.label == "healthy")]
    parts = [(table[name] - healthy[name].mean()) / healthy[name].std() for name in ("mse", "mahalanobis")]
    np.testing.assert_allclose(table["mse+mahalanobis"], sum(parts), rtol=1e-5)


def test_the_test_split_has_no_say_in_any_score_or_threshold(scored):
    """Scores of validation, and all thresholds, are the same whatever the test split holds."""
    manifest, embedded, gaussian = scored
    other = embedded | {"test": {name: x[::-1] * (1 if name == "index" else 5) for name, x in embedded["test"].items()}}
    tables = [score_table(manifest, arrays, gaussian) for arrays in (embedded, other)]
    val = [table[table.split == "val"].sort_index() for table in tables]
    pd.testing.assert_frame_equal(*val)
    fitted = [fit_thresholds(slice_cases(table, "val"), score_names(table), 0.95) for table in tables]
    assert fitted[0] == fitted[1]


def test_position_baseline_is_centred_where_validation_lesions_are(scored):
    manifest, embedded, gaussian = scored
    table = score_table(manifest, embedded, gaussian)
    centre = table[(table.split == "val") & (table.label == "abnormal")].position.median()
    assert table.loc[table.baseline_position.idxmax()].position == pytest.approx(centre, abs=0.02)


def test_cases_leave_out_what_is_neither_and_patients_take_their_worst_slice(scored):
    table = score_table(*scored)
    slices, patients = slice_cases(table, "test"), patient_cases(table, "test")
    assert "neither" not in set(slices.label) and (slices.positive == (slices.label == "abnormal")).all()
    assert len(patients) == 15 and patients.positive.all()
    for _, patient in patients.iterrows():
        assert patient.mahalanobis == table[table.patient == patient.patient].mahalanobis.max()


def everywhere(score):
    return np.concatenate([score, (np.sort(score)[1:] + np.sort(score)[:-1]) / 2, [score.min() - 1, score.max() + 1]])


def test_rules_are_optimal_by_brute_force(rng):
    score, positive = np.round(rng.normal(size=80), 1), rng.random(80) < 0.3
    score[positive] += 1
    youden = lambda t: (score[positive] >= t).mean() - (score[~positive] >= t).mean()  # noqa: E731
    accuracy = lambda t: ((score >= t) == positive).mean()  # noqa: E731
    for rule, quality in ((roc, youden), (max_accuracy, accuracy)):
        best = max(quality(t) for t in everywhere(score))
        assert quality(rule(score, positive, 0.95)) == pytest.approx(best)


def test_max_accuracy_may_call_nothing_abnormal():
    score, positive = np.array([0.0, 1.0, 2.0, 3.0]), np.array([True, False, False, False])
    assert max_accuracy(score, positive, 0.95) > 3 and np.isfinite(max_accuracy(score, positive, 0.95))


def test_healthy_quantile_keeps_its_share_of_the_healthy_below(rng):
    score, positive = rng.normal(size=1000), np.arange(1000) >= 900
    threshold = healthy_quantile(score, positive, 0.95)
    assert (score[~positive] < threshold).mean() == pytest.approx(0.95, abs=0.002)


def test_thresholds_tell_where_they_come_from_and_what_is_undefined():
    cases = pd.DataFrame({"a": [0.1, 0.2, 0.9], "positive": [False, False, False]})
    fitted = fit_thresholds(cases, ["a"], 0.9)["a"]
    assert set(fitted) == set(RULES) and fitted["roc"]["value"] is None
    assert fitted["healthy_quantile"] == {"value": 0.9, "origin": "val", "healthy": 3, "abnormal": 0, "quantile": 0.9}

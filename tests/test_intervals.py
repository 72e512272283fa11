"""Intervals come from drawing whole patients, cover the truth, and know when they cannot be given."""

from functools import partial

import numpy as np
import pytest
from scipy.stats import norm

from symnorm_jax.evaluation.intervals import Interval, difference, interval, patient_weights
from symnorm_jax.evaluation.metrics import accuracy, auroc, auroc_within, average_precision


def width(found: Interval) -> float:
    return found.high - found.low


def mean_of(x):
    return lambda weight: (weight @ x) / weight.sum(-1)


def cohort(rng, patients=40, slices=5, effect=1.0, shared=0.9):
    """Scores, labels and patients; half of the patients are abnormal, `shared` of the variance is the patient's."""
    positive = np.arange(patients) % 2 == 0
    level = np.sqrt(shared) * rng.standard_normal(patients) + effect * positive
    score = np.repeat(level, slices) + np.sqrt(1 - shared) * rng.standard_normal(patients * slices)
    names = [f"p{i}" for i in range(patients)]
    return score, np.repeat(positive, slices), np.repeat(names, slices)


def test_whole_patients_are_drawn():
    patients = np.random.default_rng(0).choice(["b", "a", "c", "d"], 50)
    drawn = patient_weights(patients, replicates=200, seed=3)
    assert drawn.patients.tolist() == ["a", "b", "c", "d"]
    assert drawn.weight.shape == (200, 50) and drawn.patient_weight.shape == (200, 4)
    assert (drawn.patient_weight.sum(1) == 4).all()
    for column, patient in enumerate(drawn.patients):
        assert (drawn.weight[:, patients == patient] == drawn.patient_weight[:, [column]]).all()
    assert np.abs(drawn.patient_weight.mean(0) - 1).max() < 0.2
    assert drawn.patient_weight.var(0) == pytest.approx(0.75, abs=0.25)  # binomial, 4 draws at 1/4


def test_replicates_follow_the_seed():
    patients = np.array(["a", "b", "c", "a"])
    first, again, other = (patient_weights(patients, 20, seed).weight for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_copies_of_a_slice_do_not_narrow_the_interval():
    x = np.random.default_rng(0).standard_normal(5)
    names = np.array(["a", "b", "c", "d", "e"])
    once = interval(mean_of(x), patient_weights(names).weight)
    copied = interval(mean_of(np.repeat(x, 100)), patient_weights(np.repeat(names, 100)).weight)
    assert copied == pytest.approx(once)
    as_slices = interval(mean_of(np.repeat(x, 100)), patient_weights(np.arange(500).astype(str)).weight)
    assert width(as_slices) < width(copied) / 5


def test_an_interval_is_made_of_percentiles():
    weights = np.arange(1, 1002)[:, None] * np.ones((1, 4))
    for level, low, high in ((0.95, 26, 976), (0.5, 251, 751)):
        assert interval(lambda w: w.sum(-1) / 4, weights, level) == pytest.approx((1, low, high))


def test_intervals_by_patient_cover_the_truth_and_intervals_by_slice_do_not():
    rng = np.random.default_rng(0)
    truth = norm.cdf(1 / np.sqrt(2))
    covered = {"patient": 0, "slice": 0}
    for seed in range(200):
        score, positive, patients = cohort(rng)
        for unit, names in (("patient", patients), ("slice", np.arange(len(score)).astype(str))):
            found = interval(partial(auroc, score, positive), patient_weights(names, 200, seed).weight)
            covered[unit] += found.low <= truth <= found.high
    assert 0.89 <= covered["patient"] / 200 <= 0.99
    assert covered["slice"] / 200 < 0.8


@pytest.mark.parametrize(("share", "given"), [(0.3, True), (0.49, True), (0.5, False), (0.7, False), (1.0, False)])
def test_undefined_replicates_are_left_out_up_to_half(share, given):
    weights = np.ones((100, 3))
    weights[: int(100 * share)] = 0
    found = interval(lambda w: np.where(w.sum(-1) > 0, 2.0, np.nan), weights)
    assert found.value == 2
    assert (found.low, found.high) == ((2, 2) if given else pytest.approx((np.nan, np.nan), nan_ok=True))


def test_a_single_patient_has_no_interval():
    drawn = patient_weights(np.array(["a"] * 6))
    assert drawn.weight.shape == (0, 6)
    found = interval(mean_of(np.arange(6.0)), drawn.weight)
    assert found.value == 2.5 and np.isnan([found.low, found.high]).all()


def test_a_score_does_not_differ_from_itself():
    score, positive, patients = cohort(np.random.default_rng(0))
    metric = partial(auroc, score, positive)
    assert difference(metric, metric, patient_weights(patients).weight) == (0, 0, 0)


def test_differences_are_paired():
    rng = np.random.default_rng(0)
    score, positive, patients = cohort(rng)
    better = partial(auroc, score + 0.2 * positive, positive)
    plain = partial(auroc, score, positive)
    weights = patient_weights(patients).weight
    found = difference(better, plain, weights)
    assert found.value == pytest.approx(better(None) - plain(None)) and found.low > 0
    assert width(found) < width(interval(plain, weights)) / 2
    swapped = difference(plain, better, weights)
    assert swapped == pytest.approx((-found.value, -found.high, -found.low))


def test_every_metric_can_be_given_an_interval():
    score, positive, patients = cohort(np.random.default_rng(0))
    stratum = np.arange(len(score)) % 5
    weights = patient_weights(patients).weight
    for metric in (
        partial(auroc, score, positive),
        partial(auroc_within, score, positive, stratum),
        partial(average_precision, score, positive),
        partial(accuracy, score, positive, 0.5),
    ):
        found = interval(metric, weights)
        assert found.value == metric(None)
        assert found.low < found.value < found.high
        assert {type(number) for number in found} == {float}

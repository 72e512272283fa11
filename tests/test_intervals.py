"""Intervals come from drawing whole patients, cover the truth, and know when they cannot be given."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom, bootstrap, norm

from symnorm_jax.errors import InputError
from symnorm_jax.statistics.intervals import Interval, as_json, difference, interval, patient_weights
from symnorm_jax.statistics.metrics import accuracy, auroc, auroc_within, average_precision

COHORTS = 1000  # simulated for a coverage


def by_sample(drawn):
    return drawn.patient_weight[:, drawn.index]


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
    assert by_sample(drawn).shape == (200, 50) and drawn.patient_weight.shape == (200, 4)
    assert (drawn.patient_weight.sum(1) == 4).all() and (drawn.patients[drawn.index] == patients).all()
    for column, patient in enumerate(drawn.patients):
        assert (by_sample(drawn)[:, patients == patient] == drawn.patient_weight[:, [column]]).all()
    assert np.abs(drawn.patient_weight.mean(0) - 1).max() < 0.2
    assert drawn.patient_weight.var(0) == pytest.approx(0.75, abs=0.25)  # binomial, 4 draws at 1/4


def test_replicates_follow_the_seed():
    patients = np.array(["a", "b", "c", "a"])
    first, again, other = (by_sample(patient_weights(patients, 20, seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_copies_of_a_slice_do_not_narrow_the_interval():
    x = np.random.default_rng(0).standard_normal(5)
    names = np.array(["a", "b", "c", "d", "e"])
    once = interval(mean_of(x), by_sample(patient_weights(names)))
    copied = interval(mean_of(np.repeat(x, 100)), by_sample(patient_weights(np.repeat(names, 100))))
    assert copied == pytest.approx(once)
    as_slices = interval(mean_of(np.repeat(x, 100)), by_sample(patient_weights(np.arange(500).astype(str))))
    assert width(as_slices) < width(copied) / 5


def test_an_interval_is_made_of_percentiles():
    weights = np.arange(1, 1002)[:, None] * np.ones((1, 4))
    for level, low, high in ((0.95, 26, 976), (0.5, 251, 751)):
        assert interval(lambda w: w.sum(-1) / 4, weights, level) == pytest.approx((1, low, high))


def bounds(coverage: float, trials: int = COHORTS) -> tuple[float, float]:
    """What share of the trials may lie within intervals of this coverage: all but 1 in 1,000 times."""
    return tuple(binom.interval(0.999, trials, coverage) / np.float64(trials))


@pytest.mark.parametrize(
    ("patients", "slices", "coverage"),
    [
        (80, 5, {"percentile": 0.94}),
        (20, 40, {"percentile": 0.92, "bca": 0.94}),  # below their nominal 0.95: twenty patients are few
    ],
)
def test_intervals_by_patient_cover_the_truth(patients, slices, coverage):
    rng, truth, covered = np.random.default_rng(0), norm.cdf(1 / np.sqrt(2)), dict.fromkeys(coverage, 0)
    drawn = patient_weights(cohort(rng, patients, slices)[2], 400)
    for _ in range(COHORTS):
        score, positive, _ = cohort(rng, patients, slices, shared=0.5)
        metric = partial(auroc, score, positive, patient=drawn.index)
        for kind in coverage:
            found = interval(metric, drawn.patient_weight, kind=kind)
            covered[kind] += found.low <= truth <= found.high
    for kind, stated in coverage.items():
        low, high = bounds(stated)
        assert low <= covered[kind] / COHORTS <= high


def test_intervals_by_slice_do_not_cover_the_truth():
    rng, truth, covered = np.random.default_rng(0), norm.cdf(1 / np.sqrt(2)), 0
    drawn = patient_weights(np.arange(200), 100)
    for _ in range(200):
        score, positive, _ = cohort(rng)
        found = interval(partial(auroc, score, positive), by_sample(drawn))
        covered += found.low <= truth <= found.high
    assert covered / 200 < 0.8


@pytest.mark.parametrize(("level", "digits"), [(0.5, 9), (0.95, 9), (0.5, 0)])
def test_bca_equals_scipy_on_the_same_replicates(level, digits):
    x = np.random.default_rng(0).lognormal(size=25).round(digits)  # whole numbers: many replicates equal the value
    drawn = patient_weights(np.arange(25), 2000)
    found = interval(mean_of(x), drawn.patient_weight, level, "bca")
    same = SimpleNamespace(bootstrap_distribution=mean_of(x)(drawn.patient_weight))
    expected = bootstrap((x,), np.mean, n_resamples=0, bootstrap_result=same, confidence_level=level, method="BCa")
    assert found == pytest.approx((x.mean(), *expected.confidence_interval), abs=1e-12)
    cut = interval(mean_of(x), drawn.patient_weight, level)
    assert digits == 0 or found.low > cut.low and found.high > cut.high  # a long tail to the right


def test_bca_can_be_given_where_replicates_do_not_spread_or_lie_to_one_side():
    weights = patient_weights(np.arange(6), 200).patient_weight
    assert interval(lambda w: np.ones(len(w)), weights, kind="bca") == (1, 1, 1)
    found = interval(lambda w: -w.max(-1), weights, kind="bca")  # no replicate reaches the cohort's own -1
    assert found.value == -1 and -6 <= found.low <= found.high <= -1
    first_alone = interval(lambda w: np.where(w[:, 0] > 0, w @ np.arange(6.0), np.nan), weights, kind="bca")
    assert first_alone.low < first_alone.value < first_alone.high  # undefined without the first patient


def test_another_kind_or_level_raises_a_sentence():
    weights = np.ones((3, 2))
    with pytest.raises(InputError, match=r"kind='basic', level=0.95; one of \['percentile', 'bca'\]"):
        interval(mean_of(np.ones(2)), weights, kind="basic")
    with pytest.raises(InputError, match="level=95"):
        interval(mean_of(np.ones(2)), weights, 95)


@pytest.mark.parametrize(("share", "given"), [(0.3, True), (0.49, True), (0.5, False), (0.7, False), (1.0, False)])
def test_undefined_replicates_are_left_out_up_to_half(share, given):
    weights = np.ones((100, 3))
    weights[: int(100 * share)] = 0
    found = interval(lambda w: np.where(w.sum(-1) > 0, 2.0, np.nan), weights)
    assert found.value == 2
    assert (found.low, found.high) == ((2, 2) if given else pytest.approx((np.nan, np.nan), nan_ok=True))


def test_a_single_patient_has_no_interval():
    drawn = patient_weights(np.array(["a"] * 6))
    assert by_sample(drawn).shape == (0, 6)
    found = interval(mean_of(np.arange(6.0)), by_sample(drawn))
    assert found.value == 2.5 and np.isnan([found.low, found.high]).all()


def test_a_score_does_not_differ_from_itself():
    score, positive, patients = cohort(np.random.default_rng(0))
    metric = partial(auroc, score, positive)
    assert difference(metric, metric, by_sample(patient_weights(patients))) == (0, 0, 0)


def test_an_interval_is_written_without_nan():
    assert as_json(Interval(0.12345678, np.nan, 1.0)) == {"value": 0.123457, "low": None, "high": 1.0}
    empty = Interval(np.nan, np.nan, np.nan)
    assert as_json(empty) == {"value": None, "low": None, "high": None}
    assert as_json(empty, "why")["reason"] == "why" and "reason" not in as_json(Interval(1, 1, 1), "why")


def test_differences_are_paired():
    rng = np.random.default_rng(0)
    score, positive, patients = cohort(rng)
    better = partial(auroc, score + 0.2 * positive, positive)
    alone = partial(auroc, score, positive)
    weights = by_sample(patient_weights(patients))
    found = difference(better, alone, weights)
    assert found.value == pytest.approx(better(None) - alone(None)) and found.low > 0
    assert width(found) < width(interval(alone, weights)) / 2
    swapped = difference(alone, better, weights)
    assert swapped == pytest.approx((-found.value, -found.high, -found.low))


def test_every_metric_can_be_given_an_interval():
    score, positive, patients = cohort(np.random.default_rng(0))
    stratum = np.arange(len(score)) % 5
    drawn = patient_weights(patients)
    for metric in (
        partial(auroc, score, positive),
        partial(auroc_within, score, positive, stratum),
        partial(average_precision, score, positive),
        partial(accuracy, score >= 0.5, positive),
    ):
        found = interval(partial(metric, patient=drawn.index), drawn.patient_weight)
        assert found == pytest.approx(interval(metric, by_sample(drawn)), abs=1e-12)
        assert found.value == pytest.approx(metric(None), abs=1e-12)
        corrected = interval(partial(metric, patient=drawn.index), drawn.patient_weight, kind="bca")
        assert corrected.low < corrected.value < corrected.high
        assert found.low < found.value < found.high
        assert {type(number) for number in found} == {float}

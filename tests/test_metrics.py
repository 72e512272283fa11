"""Metrics equal what counting by hand gives, with ties, weights and replicates."""

import time
from functools import partial
from itertools import product

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LinearRegression
from sklearn.metrics import average_precision_score, f1_score, precision_score, roc_auc_score

from symnorm_jax.errors import InputError
from symnorm_jax.statistics import metrics

N = 60
RNG = np.random.default_rng(0)
SCORE = RNG.integers(0, 12, N) / 4  # many ties
POSITIVE = RNG.random(N) < 0.4
STRATUM = RNG.integers(0, 5, N)
WEIGHT = RNG.integers(0, 4, (7, N))
COVARIATES = np.column_stack([RNG.random(N), 1e4 * RNG.random(N)])
PATIENT = RNG.integers(0, 9, N)
AT_THRESHOLD = (
    "sensitivity",
    "specificity",
    "positive_predictive_value",
    "negative_predictive_value",
    "f1",
    "accuracy",
    "balanced_accuracy",
)


def at_threshold(name):
    return lambda s, p, *weight: getattr(metrics, name)(s >= 1.5, p, *weight)


METRICS = {
    "auroc": metrics.auroc,
    "auroc_within": lambda s, p, *weight: metrics.auroc_within(s, p, STRATUM, *weight),
    "partial_auroc": metrics.partial_auroc,
    "average_precision": metrics.average_precision,
    "prevalence": lambda s, p, *weight: metrics.prevalence(p, *weight),
} | {name: at_threshold(name) for name in AT_THRESHOLD}
ADJUSTED = {"auroc_adjusted": lambda s, p, *weight: metrics.auroc_adjusted(s, p, COVARIATES, *weight)}


def pair_count(score, positive, stratum):
    """Concordant share of positive-negative pairs in one stratum, ties half, by visiting each."""
    pairs = [
        (a > b) + 0.5 * (a == b)
        for a, p, s in zip(score, positive, stratum, strict=True)
        for b, q, t in zip(score, positive, stratum, strict=True)
        if p and not q and s == t
    ]
    return np.mean(pairs)


def test_auroc_within_person_is_of_the_pairs_of_each_who_counts_as_often_as_drawn():
    once, found = np.ones((1, 9)), metrics.auroc_within_person
    assert found(SCORE, POSITIVE, once, PATIENT) == pytest.approx(pair_count(SCORE, POSITIVE, PATIENT))
    drawn = np.array([[2, 0, 3, 1, 1, 0, 1, 1, 0]])
    copies = np.repeat(np.arange(9), drawn[0])  # of a person, who are people of their own
    rows = [np.flatnonzero(of == PATIENT) for of in copies]
    strata, rows = np.repeat(np.arange(len(copies)), list(map(len, rows))), np.concatenate(rows)
    expected = pair_count(SCORE[rows], POSITIVE[rows], strata)
    np.testing.assert_allclose(found(SCORE, POSITIVE, np.concatenate([drawn, once]), PATIENT)[0], expected)
    assert np.isnan(found(SCORE, PATIENT < 4, once, PATIENT))


def test_auroc_is_the_share_of_concordant_pairs():
    assert metrics.auroc(SCORE, POSITIVE) == pytest.approx(pair_count(SCORE, POSITIVE, np.zeros(N)))
    assert metrics.auroc(-SCORE, POSITIVE) == pytest.approx(1 - metrics.auroc(SCORE, POSITIVE))
    assert metrics.auroc(np.array([0.0, 1.0, np.inf, np.inf]), np.array([0, 0, 0, 1])) == pytest.approx(2.5 / 3)


def test_auroc_within_counts_pairs_of_one_stratum_only():
    expected = pair_count(SCORE, POSITIVE, STRATUM)
    assert metrics.auroc_within(SCORE, POSITIVE, STRATUM) == pytest.approx(expected)
    assert expected != pytest.approx(metrics.auroc(SCORE, POSITIVE), abs=1e-3)


def test_auroc_within_gives_nothing_for_telling_strata_apart():
    stratum = np.repeat([0, 1, 2], 100)
    positive = np.random.default_rng(1).random(300) < np.array([0.1, 0.5, 0.9])[stratum]
    assert metrics.auroc(stratum.astype(float), positive) > 0.8
    assert metrics.auroc_within(stratum.astype(float), positive, stratum) == pytest.approx(0.5)


def test_auroc_within_passes_over_strata_of_one_class():
    stratum = np.where(POSITIVE, 7, STRATUM)
    assert np.isnan(metrics.auroc_within(SCORE, POSITIVE, stratum))
    stratum[:30] = 9
    expected = metrics.auroc(SCORE[:30], POSITIVE[:30])
    assert metrics.auroc_within(SCORE, POSITIVE, stratum) == pytest.approx(expected)


def test_average_precision_equals_scikit_learn():
    assert metrics.average_precision(SCORE, POSITIVE) == pytest.approx(average_precision_score(POSITIVE, SCORE))
    expected = average_precision_score(POSITIVE, SCORE, sample_weight=WEIGHT[0])
    assert metrics.average_precision(SCORE, POSITIVE, WEIGHT[0]) == pytest.approx(expected)


def test_a_table_peers_get_wrong():
    positive = np.array([1] * 5 + [0] * 9, bool)
    called = np.array([1, 1, 1, 0, 0] + [1] + [0] * 8, bool)  # 3 true and 1 false positive of 5 and 9
    assert metrics.sensitivity(called, positive) == pytest.approx(3 / 5)
    assert metrics.specificity(called, positive) == pytest.approx(8 / 9)
    assert metrics.accuracy(called, positive) == pytest.approx(11 / 14)
    assert 1 - metrics.specificity(called, positive) == pytest.approx(1 / 9)  # of the negatives, not of the called
    assert metrics.positive_predictive_value(called, positive) == pytest.approx(3 / 4)
    assert metrics.negative_predictive_value(called, positive) == pytest.approx(8 / 10)
    assert metrics.balanced_accuracy(called, positive) == pytest.approx((3 / 5 + 8 / 9) / 2)
    assert metrics.f1(called, positive) == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))
    assert metrics.prevalence(positive) == pytest.approx(5 / 14)


def test_metrics_at_a_threshold_equal_scikit_learn():
    called, weight = SCORE >= 1.5, WEIGHT[0]
    for found, of, positive, chosen in (
        ("positive_predictive_value", precision_score, POSITIVE, called),
        ("negative_predictive_value", precision_score, ~POSITIVE, ~called),
        ("f1", f1_score, POSITIVE, called),
    ):
        assert METRICS[found](SCORE, POSITIVE) == pytest.approx(of(positive, chosen), abs=1e-12)
        expected = of(positive, chosen, sample_weight=weight)
        assert METRICS[found](SCORE, POSITIVE, weight) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("most_false", [0.03, 0.1, 0.5, 1.0])
def test_partial_auroc_equals_scikit_learn(most_false):
    for score in (SCORE, -SCORE, RNG.random(N)):
        for weight in (np.ones(N), WEIGHT[0]):
            found = metrics.partial_auroc(score, POSITIVE, weight, most_false=most_false)
            expected = roc_auc_score(POSITIVE, score, sample_weight=weight, max_fpr=most_false)
            assert found == pytest.approx(expected, abs=1e-12)
    with pytest.raises(InputError, match=r"most_false=0; a rate above 0 and at most 1"):
        metrics.partial_auroc(SCORE, POSITIVE, most_false=0)


def test_partial_auroc_is_one_half_by_chance_and_one_if_perfect():
    assert metrics.partial_auroc(np.zeros(N), POSITIVE) == pytest.approx(0.5)
    assert metrics.partial_auroc(POSITIVE.astype(float), POSITIVE) == pytest.approx(1)


def test_auroc_adjusted_is_that_of_residuals_of_the_negatives_regression():
    line = LinearRegression().fit(COVARIATES[~POSITIVE], SCORE[~POSITIVE])
    expected = roc_auc_score(POSITIVE, SCORE - line.predict(COVARIATES))
    assert metrics.auroc_adjusted(SCORE, POSITIVE, COVARIATES) == pytest.approx(expected, abs=1e-12)
    everyone = LinearRegression().fit(COVARIATES, SCORE)
    assert roc_auc_score(POSITIVE, SCORE - everyone.predict(COVARIATES)) != pytest.approx(expected, abs=1e-3)


def test_auroc_adjusted_gives_nothing_for_the_covariates_themselves():
    rng = np.random.default_rng(0)
    area = rng.random(4000) * 1e4
    positive = rng.random(4000) < area / 1e4
    assert metrics.auroc(area, positive) > 0.8
    assert metrics.auroc_adjusted(3 * area + 7, positive, area[:, None]) == pytest.approx(0.5)
    lesion = area + 2e3 * positive + 1e3 * rng.standard_normal(4000)  # what the lesion adds stays: Phi(2 / sqrt(2))
    assert metrics.auroc_adjusted(lesion, positive, area[:, None]) == pytest.approx(norm.cdf(2**0.5), abs=0.015)


def test_auroc_adjusted_needs_finite_covariates_and_negatives():
    with pytest.raises(InputError, match=r"Covariates have shape \(60, 2\) for 60 scores; finite"):
        metrics.auroc_adjusted(SCORE, POSITIVE, np.where(np.arange(N)[:, None] == 3, np.inf, COVARIATES))
    with pytest.raises(InputError, match=r"shape \(60,\) for 60 scores"):
        metrics.auroc_adjusted(SCORE, POSITIVE, COVARIATES[:, 0])
    few = np.flatnonzero(~POSITIVE)[3:]
    assert np.isnan(metrics.auroc_adjusted(SCORE, POSITIVE | np.isin(np.arange(N), few), COVARIATES))


@pytest.mark.parametrize("name", METRICS)
def test_weights_equal_repeated_rows(name):
    found = METRICS[name](SCORE, POSITIVE, WEIGHT)
    assert found.shape == (7,)
    for value, weight in zip(found[:3], WEIGHT[:3], strict=True):
        rows = np.repeat(np.arange(N), weight)
        metric = partial(metrics.auroc_within, stratum=STRATUM[rows]) if name == "auroc_within" else METRICS[name]
        assert value == pytest.approx(metric(SCORE[rows], POSITIVE[rows]))
        assert value == pytest.approx(METRICS[name](SCORE, POSITIVE, weight))


@pytest.mark.parametrize("name", METRICS | ADJUSTED)
def test_weights_of_patients_equal_weights_of_their_samples(name):
    metric = (METRICS | ADJUSTED)[name]
    by_patient = np.random.default_rng(0).integers(0, 4, (2, 3, 10))  # the tenth patient has no sample
    found = metric(SCORE, POSITIVE, by_patient, PATIENT)
    assert found.shape == (2, 3) and found.dtype == np.float64
    assert found == pytest.approx(metric(SCORE, POSITIVE, by_patient[..., PATIENT]), abs=1e-12)
    assert metric(SCORE, POSITIVE, None, PATIENT) == pytest.approx(metric(SCORE, POSITIVE), abs=1e-12)
    assert np.ptp(found) > 0.01


def test_values_stay_exact_in_large_cohorts():
    rng = np.random.default_rng(0)
    positive, patient = rng.random(20_000) < 0.3, rng.integers(0, 50, 20_000)
    score = rng.standard_normal(20_000).round(3) + positive
    for metric, expected in (
        (metrics.auroc, roc_auc_score(positive, score)),
        (metrics.average_precision, average_precision_score(positive, score)),
        (metrics.partial_auroc, roc_auc_score(positive, score, max_fpr=0.1)),
    ):
        assert metric(score, positive, np.ones((1, 50)), patient) == pytest.approx([expected], abs=1e-9)


def test_pair_counts_visit_each_pair():
    concordant, pairs = metrics.pair_counts(SCORE, POSITIVE, PATIENT, 10, STRATUM)
    expected = np.zeros((2, 10, 10))
    for a, b in product(np.flatnonzero(POSITIVE), np.flatnonzero(~POSITIVE)):
        if STRATUM[a] == STRATUM[b]:
            agrees = (SCORE[a] > SCORE[b]) + 0.5 * (SCORE[a] == SCORE[b])
            expected[:, PATIENT[a], PATIENT[b]] += agrees, 1
    assert (concordant == expected[0]).all() and (pairs == expected[1]).all()


def test_patients_that_cannot_be_weighed_raise_a_sentence():
    for patient in (PATIENT + 1, PATIENT - 1, PATIENT[:-1]):
        with pytest.raises(InputError, match=r"for 60 scores and 9 weights; \[N\] indices below"):
            metrics.auroc(SCORE, POSITIVE, np.ones(9), patient)


def test_undefined_is_nan():
    none, every = np.zeros(N, bool), np.ones(N, bool)
    for metric in (metrics.auroc, metrics.average_precision, metrics.partial_auroc, METRICS["auroc_within"]):
        assert np.isnan([metric(SCORE, none), metric(SCORE, every)]).all()
    assert np.isnan([METRICS["sensitivity"](SCORE, none), METRICS["specificity"](SCORE, every)]).all()
    no_positive = np.stack([np.ones(N), ~POSITIVE])
    for metric in (metrics.auroc, metrics.average_precision, metrics.partial_auroc, METRICS["sensitivity"]):
        assert np.isnan(metric(SCORE, POSITIVE, no_positive)).tolist() == [False, True]
    assert np.isnan(metrics.positive_predictive_value(none, POSITIVE))
    assert np.isnan(metrics.negative_predictive_value(every, POSITIVE))
    assert all(np.isnan(metric(SCORE, POSITIVE, np.zeros(N))) for metric in METRICS.values())


@pytest.mark.parametrize("name", sorted((METRICS | ADJUSTED).keys() - {"prevalence", *AT_THRESHOLD}))
def test_unusable_scores_raise_a_sentence(name):
    with pytest.raises(InputError, match="1 of 60 scores are NaN"):
        (METRICS | ADJUSTED)[name](np.where(np.arange(N) == 3, np.nan, SCORE), POSITIVE)
    with pytest.raises(InputError, match=r"shapes \(60,\), \(60,\) and \(7, 59\)"):
        (METRICS | ADJUSTED)[name](SCORE, POSITIVE, WEIGHT[:, 1:])


def test_thousands_of_replicates_take_seconds():
    rng = np.random.default_rng(0)
    score, positive, patient = rng.random(10_000), rng.random(10_000) < 0.3, rng.integers(0, 200, 10_000)
    weight = rng.multinomial(200, np.full(200, 1 / 200), 2000)
    start = time.process_time()
    for metric in (metrics.auroc, metrics.average_precision, metrics.partial_auroc):
        metric(score, positive, weight, patient)
    assert time.process_time() - start < 30  # of the processor; one second of it on an idle machine

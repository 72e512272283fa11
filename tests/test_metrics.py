"""Metrics equal what counting by hand gives, with ties, weights and replicates."""

import time
from functools import partial

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from symnorm_jax.evaluation import metrics

N = 60
RNG = np.random.default_rng(0)
SCORE = RNG.integers(0, 12, N) / 4  # many ties
POSITIVE = RNG.random(N) < 0.4
STRATUM = RNG.integers(0, 5, N)
WEIGHT = RNG.integers(0, 4, (7, N))
METRICS = {
    "auroc": metrics.auroc,
    "auroc_within": lambda s, p, w=None: metrics.auroc_within(s, p, STRATUM, w),
    "average_precision": metrics.average_precision,
    "sensitivity": lambda s, p, w=None: metrics.sensitivity(s, p, 1.5, w),
    "specificity": lambda s, p, w=None: metrics.specificity(s, p, 1.5, w),
    "accuracy": lambda s, p, w=None: metrics.accuracy(s, p, 1.5, w),
    "prevalence": lambda s, p, w=None: metrics.prevalence(p, w),
}


def pair_count(score, positive, stratum):
    """Concordant share of positive-negative pairs in one stratum, ties half, by visiting each."""
    pairs = [
        (a > b) + 0.5 * (a == b)
        for a, p, s in zip(score, positive, stratum, strict=True)
        for b, q, t in zip(score, positive, stratum, strict=True)
        if p and not q and s == t
    ]
    return np.mean(pairs)


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
    assert metrics.auroc_within(stratum.astype(float), positive, stratum) == 0.5


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
    called = np.array([1, 1, 1, 0, 0] + [1] + [0] * 8, float)  # 3 true and 1 false positive of 5 and 9
    assert metrics.sensitivity(called, positive, 1) == pytest.approx(3 / 5)
    assert metrics.specificity(called, positive, 1) == pytest.approx(8 / 9)
    assert metrics.accuracy(called, positive, 1) == pytest.approx(11 / 14)
    assert metrics.prevalence(positive) == pytest.approx(5 / 14)


def test_a_score_at_the_threshold_is_abnormal():
    score, positive = np.array([1.0, 2.0, 2.0, 3.0]), np.array([0, 0, 1, 1], bool)
    assert metrics.sensitivity(score, positive, 2.0) == 1
    assert metrics.specificity(score, positive, 2.0) == 0.5
    assert metrics.sensitivity(score, positive, 3.0) == 0.5


@pytest.mark.parametrize("name", METRICS)
def test_weights_equal_repeated_rows(name):
    found = METRICS[name](SCORE, POSITIVE, WEIGHT)
    assert found.shape == (7,)
    for value, weight in zip(found, WEIGHT, strict=True):
        rows = np.repeat(np.arange(N), weight)
        metric = partial(metrics.auroc_within, stratum=STRATUM[rows]) if name == "auroc_within" else METRICS[name]
        assert value == pytest.approx(metric(SCORE[rows], POSITIVE[rows]))
        assert value == pytest.approx(METRICS[name](SCORE, POSITIVE, weight))


def test_undefined_is_nan():
    none, every = np.zeros(N, bool), np.ones(N, bool)
    for metric in (metrics.auroc, metrics.average_precision, METRICS["auroc_within"]):
        assert np.isnan([metric(SCORE, none), metric(SCORE, every)]).all()
    assert np.isnan([METRICS["sensitivity"](SCORE, none), METRICS["specificity"](SCORE, every)]).all()
    no_positive = np.stack([np.ones(N), ~POSITIVE])
    assert np.isnan(metrics.auroc(SCORE, POSITIVE, no_positive)).tolist() == [False, True]
    assert all(np.isnan(metric(SCORE, POSITIVE, np.zeros(N))) for metric in METRICS.values())


@pytest.mark.parametrize("name", sorted(METRICS.keys() - {"prevalence"}))
def test_unusable_scores_raise_a_sentence(name):
    with pytest.raises(ValueError, match="1 of 60 scores are NaN"):
        METRICS[name](np.where(np.arange(N) == 3, np.nan, SCORE), POSITIVE)
    with pytest.raises(ValueError, match=r"shapes \(60,\), \(60,\) and \(7, 59\)"):
        METRICS[name](SCORE, POSITIVE, WEIGHT[:, 1:])


def test_a_thousand_replicates_take_seconds():
    rng = np.random.default_rng(0)
    score, positive, weight = rng.random(3000), rng.random(3000) < 0.3, rng.integers(0, 3, (1000, 3000))
    start = time.perf_counter()
    metrics.auroc(score, positive, weight)
    metrics.average_precision(score, positive, weight)
    assert time.perf_counter() - start < 4


def pixels(patients=20, size=5000):
    """Map values and lesions `[P, M]`: rare lesions, brighter in the mean, in patients of different brightness."""
    rng = np.random.default_rng(0)
    values = rng.gamma(2, rng.uniform(0.1, 0.3, (patients, 1)), (patients, size)).astype(np.float32)
    lesion = rng.random(values.shape) < 0.02 * rng.random((patients, 1))
    values[lesion] += rng.gamma(2, 0.5, lesion.sum())
    values[:, :200] = 0  # ties
    return values, lesion


def test_pixel_histograms_keep_the_average_precision():
    values, lesion = pixels()
    for sample in (values, values[:, ::7]):
        edges = metrics.pixel_edges(sample)
        counts = np.stack([metrics.pixel_counts(*patient, edges) for patient in zip(values, lesion, strict=True)])
        assert counts.shape == (20, 2, len(edges) + 1) and counts.sum() == values.size
        weights = np.stack([np.ones(20, int), np.random.default_rng(1).integers(0, 3, 20)])
        found = metrics.average_precision_from_counts(counts, weights)
        assert found[0] == pytest.approx(metrics.average_precision_from_counts(counts))
        for value, weight in zip(found, weights, strict=True):
            by_pixel = np.repeat(weight, values.shape[1])
            expected = average_precision_score(lesion.ravel(), values.ravel(), sample_weight=by_pixel)
            assert 0.2 < expected < 0.8
            assert value == pytest.approx(expected, abs=1e-3)


def test_pixel_histograms_resolve_the_top_where_even_bins_do_not():
    values, lesion = pixels()
    values[0, 1000:1010], lesion[0, 1000:1010] = np.linspace(90, 100, 10), np.arange(10) % 2 == 0
    counts = metrics.pixel_counts(values, lesion, metrics.pixel_edges(values))
    even = metrics.pixel_counts(values, lesion, np.unique(np.quantile(values, np.linspace(0, 1, 256))))
    top = average_precision_score(lesion.ravel(), values.ravel())
    assert abs(metrics.average_precision_from_counts(counts[None]) - top) < 1e-3
    assert abs(metrics.average_precision_from_counts(even[None]) - top) > 1e-2


def test_pixel_histograms_without_lesions_or_with_nan():
    edges = np.array([0.5])
    counts = metrics.pixel_counts(np.array([0.1, 0.5, 0.9]), np.array([False, False, True]), edges)
    assert counts.tolist() == [[1, 1], [0, 1]]  # a value on an edge lies above it
    assert np.isnan(metrics.average_precision_from_counts(counts[None], np.zeros((3, 1)))).all()
    with pytest.raises(ValueError, match="1 of 2 map pixels are NaN"):
        metrics.pixel_counts(np.array([0.1, np.nan]), np.array([False, True]), edges)

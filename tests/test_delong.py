"""Variances of AUROCs equal sums written out by hand, agree with the bootstrap, and give intervals that cover."""

from functools import partial
from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, norm, t

from symnorm_jax.errors import InputError
from symnorm_jax.statistics.intervals import difference, interval, patient_weights
from symnorm_jax.statistics.metrics import auroc
from symnorm_jax.statistics.significance import auroc_covariance, auroc_difference, auroc_interval, placements

COHORTS = 1000  # simulated for a coverage
TRUTH = norm.cdf(1 / np.sqrt(2))  # of two unit normals, one apart


def study(rng, patients=60, slices=10):
    """Two scores `[2, N]` that share their noise, labels and patients; both classes in most patients."""
    patient = np.repeat(np.arange(patients), slices)
    positive = rng.random(patients * slices) < rng.choice([0.0, 0.2, 0.5], patients)[patient]
    level, effect = rng.standard_normal((2, patients))
    noise = rng.standard_normal((3, patients * slices))
    shared = level[patient] + noise[0] + (1 + effect[patient]) * positive
    return shared + noise[1:] * [[0.5], [1.0]], positive, patient


def test_a_worked_example():
    score, positive = np.array([[3.0, 2, 5, 1, 2, 4]]), np.array([1, 1, 1, 0, 0, 0], bool)
    of_positives, of_negatives = placements(score, positive)
    assert of_positives[0] == pytest.approx([2 / 3, 1.5 / 3, 1])  # 3 lies above 1 and 2; 2 above 1 and level with 2
    assert of_negatives[0] == pytest.approx([1, 2.5 / 3, 1 / 3])
    value, variance = auroc_covariance(score, positive)
    assert value == pytest.approx([13 / 18])
    # deviations, in eighteenths: -1, -4, 5 and 5, 2, -7; sums of squares 42 and 78, over 324 and 3 - 1
    assert variance == pytest.approx(np.array([[(42 / 648) / 3 + (78 / 648) / 3]]))
    # logit ln(13 / 5), its deviation that of the AUROC over 13/18 * 5/18; 2.5706 is t with 5 degrees of freedom
    reach = 2.570582 * (5 / 81) ** 0.5 / (65 / 324)
    low, high = (1 / (1 + 5 / 13 * np.exp(sign * reach)) for sign in (1, -1))
    assert auroc_interval(score[0], positive) == pytest.approx((13 / 18, low, high), abs=1e-6)


def by_hand(scores, positive, patient):
    """Covariance of two AUROCs: placements by visiting every pair, sums by visiting every patient (Obuchowski 1997)."""
    ones, zeros = np.flatnonzero(positive), np.flatnonzero(~positive)
    agrees = [np.array([[(s[a] > s[b]) + 0.5 * (s[a] == s[b]) for b in zeros] for a in ones]) for s in scores]
    area = [pairs.mean() for pairs in agrees]
    s10, s01, s11, count = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)), len(set(patient))
    for one in set(patient):
        mine, other = patient[ones] == one, patient[zeros] == one
        x = [pairs.mean(1)[mine].sum() - mine.sum() * a for pairs, a in zip(agrees, area, strict=True)]
        y = [pairs.mean(0)[other].sum() - other.sum() * a for pairs, a in zip(agrees, area, strict=True)]
        for r, s in product(range(2), range(2)):
            s10[r, s] += x[r] * x[s]
            s01[r, s] += y[r] * y[s]
            s11[r, s] += x[r] * y[s]
    i10, i01, m, n = len(set(patient[ones])), len(set(patient[zeros])), len(ones), len(zeros)
    crossed = count / (count - 1) * (s11 + s11.T) / (m * n)
    return area, i10 / (i10 - 1) * s10 / m**2 + i01 / (i01 - 1) * s01 / n**2 + crossed


def test_covariances_equal_sums_by_hand(rng):
    scores, positive, patient = study(rng, 8, 6)
    scores = scores.round(0)  # ties
    for names in (patient, np.arange(len(patient))):
        area, covariance = by_hand(scores, positive, names)
        found = auroc_covariance(scores, positive, np.char.add("p", names.astype(str)))
        assert found[0] == pytest.approx(area) and found[1] == pytest.approx(covariance)
    assert auroc_covariance(scores, positive)[1] == pytest.approx(covariance)  # every case its own patient


def test_copies_of_a_slice_add_nothing(rng):
    scores, positive, patient = study(rng, 20, 5)
    _, once = auroc_covariance(scores, positive, patient)
    copied = np.repeat(scores, 9, 1), np.repeat(positive, 9), np.repeat(patient, 9)
    assert auroc_covariance(*copied)[1] == pytest.approx(once)
    assert auroc_covariance(*copied[:2])[1][0, 0] < once[0, 0] / 5


def test_variances_are_those_of_the_bootstrap(rng):
    scores, positive, patient = study(rng, 200)
    drawn = patient_weights(patient, 4000)
    values = np.stack([auroc(s, positive, drawn.patient_weight, drawn.index) for s in scores])
    assert auroc_covariance(scores, positive, patient)[1] == pytest.approx(np.cov(values), rel=0.1)
    first, second = (partial(auroc, s, positive, patient=drawn.index) for s in scores)
    found = auroc_difference(*scores, positive, patient)
    assert found[:3] == pytest.approx(difference(first, second, drawn.patient_weight), abs=0.003)
    found = auroc_interval(scores[0], positive, patient)
    assert found == pytest.approx(interval(first, drawn.patient_weight), abs=0.004)


def test_independent_variances_are_those_of_the_bootstrap(rng):
    scores, positive, _ = study(rng, 40)
    values = auroc(scores[0], positive, patient_weights(np.arange(400), 4000).patient_weight)
    assert auroc_covariance(scores, positive)[1][0, 0] == pytest.approx(values.var(), rel=0.1)


def test_a_p_value_and_its_interval_agree(rng):
    scores, positive, patient = study(rng)
    found = auroc_difference(*scores, positive, patient)
    deviation = (found.high - found.value) / t.ppf(0.975, 59)
    assert found.p_value == pytest.approx(2 * t.sf(abs(found.value) / deviation, 59))
    edge = auroc_difference(*scores, positive, patient, level=1 - found.p_value)
    assert min(abs(edge.low), abs(edge.high)) == pytest.approx(0, abs=1e-9)
    swapped = auroc_difference(*scores[::-1], positive, patient)
    assert swapped == pytest.approx((-found.value, -found.high, -found.low, found.p_value))


def test_scores_that_order_alike_do_not_differ(rng):
    scores, positive, patient = study(rng)
    assert auroc_difference(scores[0], np.exp(scores[0]), positive, patient) == pytest.approx((0, 0, 0, 1), abs=1e-7)


def by_patient(rng, patients=20, slices=40, shared=0.5):
    """Scores `[COHORTS, N]`: patients are abnormal or not, and `shared` of the variance is theirs."""
    positive = np.repeat(np.arange(patients) % 2 == 0, slices)
    level = np.repeat(rng.standard_normal((COHORTS, patients)), slices, 1)
    noise = rng.standard_normal((COHORTS, patients * slices))
    return np.sqrt(shared) * level + np.sqrt(1 - shared) * noise + positive, positive


def covered(scores, positive, patient) -> float:
    """Share of cohorts `[C, N]` whose 95 % interval contains the truth."""
    found = [auroc_interval(score, positive, patient) for score in scores]
    return np.mean([one.low <= TRUTH <= one.high for one in found])


def bounds(coverage: float, cohorts: int = COHORTS) -> tuple[float, float]:
    """What share of the cohorts may be covered: all but 1 in 1,000 times."""
    return tuple(binom.interval(0.999, cohorts, coverage) / np.float64(cohorts))


def test_clustered_intervals_cover_the_truth_and_naive_ones_do_not(rng):
    scores, positive = by_patient(rng)
    low, high = bounds(0.95)
    assert low <= covered(scores, positive, np.repeat(np.arange(20), 40)) <= high
    assert covered(scores[:200], positive, None) < 0.5


def test_independent_intervals_cover_the_truth(rng):
    low, high = bounds(0.95)
    assert low <= covered(*by_patient(rng, 100, 1), None) <= high


def test_the_test_of_a_difference_keeps_its_size(rng):
    """Two scores of one AUROC on slices of twenty patients: the clustered test rejects 5 %, the naive one far more."""
    first, positive = by_patient(rng)
    second, _ = by_patient(rng)
    patient = np.repeat(np.arange(20), 40)
    pairs = list(zip(first, second, strict=True))[:500]
    clustered = np.mean([auroc_difference(*pair, positive, patient).p_value <= 0.05 for pair in pairs])
    naive = np.mean([auroc_difference(*pair, positive).p_value <= 0.05 for pair in pairs[:200]])
    low, high = bounds(0.05, len(pairs))
    assert low <= clustered <= high and naive > 0.4


def test_undefined_is_nan(rng):
    scores, positive, patient = study(rng, 5, 4)
    for labels in (np.ones(20, bool), np.zeros(20, bool)):
        assert np.isnan(np.ravel(auroc_interval(scores[0], labels))).all()
    alone = patient == 0  # one patient has every positive
    value, low, high, p_value = auroc_difference(*scores, alone, patient)
    assert np.isfinite(value) and np.isnan([low, high, p_value]).all()
    perfect = auroc_interval(positive.astype(float), positive, patient)  # no spread between patients to judge by
    assert perfect.value == 1 and np.isnan(perfect[1:]).all()


def test_unusable_scores_raise_a_sentence():
    with pytest.raises(InputError, match=r"shapes \(2, 3\), \(4,\) and \(4,\); \[S, N\], \[N\] and \[N\]"):
        auroc_covariance(np.zeros((2, 3)), np.zeros(4))
    with pytest.raises(InputError, match="1 of 3 scores are NaN"):
        auroc_covariance(np.array([[0, 1, np.nan]]), np.array([0, 1, 1]))

"""Paired tests equal counting by hand, keep their level, and give a verdict on a margin no more often than they say."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import binom, norm, t

from symnorm_jax.errors import InputError
from symnorm_jax.evaluation.intervals import Interval
from symnorm_jax.evaluation.paired import (
    holm,
    mcnemar,
    non_inferiority,
    proportion_difference,
    proportion_interval,
)

TRIALS = 1000


def table(both, first, second, neither):
    """Two methods on as many cases: both right, the first alone, the second alone, neither."""
    cells = [(1, 1)] * both + [(1, 0)] * first + [(0, 1)] * second + [(0, 0)] * neither
    return np.array(cells, bool).T


def test_exact_mcnemar_is_a_toss_of_coins():
    # 1 and 7 of 8 discordant cases: as far or further from 4 are 0, 1, 7 and 8, (1 + 8 + 8 + 1) / 256
    assert mcnemar(*table(20, 1, 7, 4)) == pytest.approx(18 / 256)
    assert mcnemar(*table(20, 7, 1, 4)) == pytest.approx(18 / 256)
    assert mcnemar(*table(0, 1, 7, 900)) == pytest.approx(18 / 256)  # the concordant say nothing
    assert mcnemar(*table(5, 3, 3, 5)) == mcnemar(*table(5, 0, 0, 5)) == 1


def test_clustered_mcnemar_by_hand():
    # gaps of the slices: a 1 1 0 0, b -1 0 0, c 1; means 1/2, -1/3, 1: chi-squared (7/6)^2 / (1/4 + 1/9 + 1) = 1
    first, second = np.array([1, 1, 0, 1, 0, 0, 1, 1], bool), np.array([0, 0, 0, 1, 1, 0, 1, 0], bool)
    patient = np.array(list("aaaabbbc"))
    assert mcnemar(first, second, patient) == pytest.approx(2 * norm.sf(1))
    copied = (np.repeat(x, 30) for x in (first, second, patient))
    assert mcnemar(*copied) == pytest.approx(mcnemar(first, second, patient))
    assert mcnemar(first, first, patient) == 1


def test_the_difference_of_independent_proportions():
    first, second = table(40, 15, 6, 39)
    gap = np.array([0] * 79 + [1] * 15 + [-1] * 6)
    reach = t.ppf(0.975, 99) * gap.std(ddof=1) / 10
    assert proportion_difference(first, second) == pytest.approx((0.09, 0.09 - reach, 0.09 + reach))


def test_the_difference_of_clustered_proportions_by_hand():
    # gaps of the slices: a 1 1 0 0, b -1 0, c 1; difference 2/7; sums less their share 2 - 8/7, -1 - 4/7, 1 - 2/7
    first, second = np.array([1, 1, 0, 1, 0, 0, 1], bool), np.array([0, 0, 0, 1, 1, 0, 0], bool)
    patient = np.array(list("aaaabbc"))
    variance = 3 / 2 * ((6 / 7) ** 2 + (11 / 7) ** 2 + (5 / 7) ** 2) / 49
    reach = t.ppf(0.95, 2) * variance**0.5
    found = proportion_difference(first, second, patient, 0.9)
    assert found == pytest.approx((2 / 7, 2 / 7 - reach, 2 / 7 + reach))
    copied = (np.repeat(x, 30) for x in (first, second, patient))
    assert proportion_difference(*copied, 0.9) == pytest.approx(found)


def test_one_patient_gives_a_difference_without_an_interval():
    found = proportion_difference(*table(4, 2, 1, 0), np.zeros(7))
    assert found.value == pytest.approx(1 / 7) and np.isnan(found[1:]).all()


@pytest.mark.parametrize(("successes", "trials"), [(3, 11), (0, 10), (10, 10), (50, 200)])
def test_exact_intervals_of_proportions(successes, trials):
    value, low, high = proportion_interval(successes, trials)
    assert value == successes / trials
    assert low == 0 if successes == 0 else binom.sf(successes - 1, trials, low) == pytest.approx(0.025)
    assert high == 1 if successes == trials else binom.cdf(successes, trials, high) == pytest.approx(0.025)


def test_exact_intervals_never_cover_less_than_they_say():
    found = [proportion_interval(k, 20) for k in range(21)]
    for truth in np.linspace(0.01, 0.99, 99):
        covers = np.array([one.low <= truth <= one.high for one in found])
        assert binom.pmf(np.arange(21), 20, truth) @ covers >= 0.95


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.20, "superior"),
        (0.00, 0.20, "non-inferior"),
        (-0.04, 0.03, "non-inferior"),
        (-0.04, -0.01, "non-inferior"),  # worse, by less than the margin
        (-0.05, 0.03, "inconclusive"),
        (-0.20, -0.05, "inconclusive"),
        (-0.20, -0.06, "inferior"),
        (np.nan, np.nan, "inconclusive"),
    ],
)
def test_a_verdict_comes_from_the_bounds(low, high, verdict):
    assert non_inferiority(Interval((low + high) / 2, low, high), 0.05) == verdict


def trials(rng, loss, patients=40, slices=20):
    """Two methods `[TRIALS, 2, N]`, the first right in 0.8 - loss of slices, the second in 0.8, by patient 0.2 less or
    more; and the patients.
    """
    own = 0.2 * rng.choice([-1, 1], (TRIALS, 2, patients))
    share = np.repeat(np.array([[0.75 - loss], [0.75]]) + own, slices, 2)
    return rng.random(share.shape) < share, np.repeat(np.arange(patients), slices)


def passed(right, patient, margin) -> float:
    """Share of trials in which the first method is no worse."""
    verdicts = [non_inferiority(proportion_difference(*one, patient), margin) for one in right]
    return np.mean([verdict in ("non-inferior", "superior") for verdict in verdicts])


def test_a_loss_of_the_margin_passes_as_often_as_stated(rng):
    most = binom.ppf(0.999, TRIALS, 0.025) / TRIALS
    right, patient = trials(rng, 0.1)
    assert 0.005 < passed(right, patient, 0.1) <= most
    assert passed(right, None, 0.1) > 2 * most  # slices taken for independent
    assert passed(trials(rng, 0.0, 100)[0], np.repeat(np.arange(100), 20), 0.1) > 0.8


def test_mcnemar_keeps_its_size_on_slices_only_if_clustered(rng):
    right, patient = trials(rng, 0.0)
    low, high = binom.interval(0.999, TRIALS, 0.05)
    rejected = [sum(mcnemar(*one, names) <= 0.05 for one in right) for names in (patient, None)]
    assert low <= rejected[0] <= high < rejected[1] / 2


def closed(p_values):
    """Holm's p-values as what they are: of every set of hypotheses with this one, the worst Bonferroni p-value."""
    every = range(len(p_values))
    sets = [s for size in every for s in combinations(every, size + 1)]
    worst = [max(len(s) * min(p_values[j] for j in s) for s in sets if i in s) for i in every]
    return np.minimum(worst, 1)


def test_holm_is_closed_testing_by_bonferroni(rng):
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 * 0.01, 2 * 0.03, and no less than that
    for size in (1, 2, 5, 7):
        p_values = rng.random(size) ** 3
        p_values[-1] = p_values[0]  # a tie
        assert holm(p_values) == pytest.approx(closed(p_values))
    assert len(holm([])) == 0


def test_bad_input_raises_a_sentence():
    for margin in (0, -0.1, np.nan, np.inf):
        with pytest.raises(InputError, match=f"margin={margin}; a positive, finite loss"):
            non_inferiority(Interval(0, -1, 1), margin)
    with pytest.raises(InputError, match=r"p-values \[0.1, nan\]; a list of numbers from 0 to 1"):
        holm([0.1, np.nan])
    with pytest.raises(InputError, match="5 successes of 4 trials"):
        proportion_interval(5, 4)
    assert np.isnan(proportion_interval(0, 0)).all()
    with pytest.raises(InputError, match=r"shapes \(3,\), \(2,\) and \(3,\); \[N\] each"):
        mcnemar([1, 0, 1], [1, 0])

"""Paired tests equal counting by hand, keep their level, and give a verdict on a margin no more often than they say."""

import numpy as np
import pytest
from scipy.stats import norm, t

from symnorm_jax.errors import InputError
from symnorm_jax.statistics.intervals import Interval
from symnorm_jax.statistics.paired import holm, mcnemar, non_inferiority, proportion_difference

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


def test_bad_input_raises_a_sentence():
    for margin in (0, -0.1, np.nan, np.inf):
        with pytest.raises(InputError, match=f"margin={margin}; a positive, finite loss"):
            non_inferiority(Interval(0, -1, 1), margin)
    with pytest.raises(InputError, match=r"p-values \[0.1, nan\]; a list of numbers from 0 to 1"):
        holm([0.1, np.nan])
    with pytest.raises(InputError, match=r"shapes \(3,\), \(2,\) and \(3,\); \[N\] each"):
        mcnemar([1, 0, 1], [1, 0])

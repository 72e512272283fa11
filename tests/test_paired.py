"""Tests of paired differences equal counting by hand, and give a verdict on a margin as it was stated."""

import numpy as np
import pytest

from symnorm_jax.errors import InputError
from symnorm_jax.statistics.intervals import Interval
from symnorm_jax.statistics.significance import bootstrap_p_value, holm, non_inferiority


def test_a_p_value_is_twice_the_share_on_the_far_side():
    gaps = np.concatenate([np.full(97, 0.1), np.full(2, -0.1)])
    assert bootstrap_p_value(gaps) == bootstrap_p_value(-gaps) == pytest.approx(2 * 3 / 100)
    assert bootstrap_p_value(np.append(gaps, [np.nan] * 98)) == pytest.approx(2 * 3 / 100)
    assert bootstrap_p_value(np.append(gaps, [np.nan] * 99)) is None
    assert bootstrap_p_value(np.ones(99)) == pytest.approx(2 / 100) and bootstrap_p_value(np.zeros(99)) == 1


def test_holm_by_hand():
    # in order 0.01, 0.02, 0.03, 0.6 times 4, 3, 2, 1, none below the one before it
    assert holm([0.03, 0.01, 0.6, 0.02]) == pytest.approx([0.06, 0.04, 0.6, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1]) and holm([]).size == 0


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.2, "superior"),
        (-0.04, 0.2, "non-inferior"),
        (-0.2, -0.06, "inferior"),
        (-0.2, 0.2, "inconclusive"),
        (np.nan, np.nan, "inconclusive"),
    ],
)
def test_the_verdict_is_where_the_interval_lies(low, high, verdict):
    assert non_inferiority(Interval(0.0, low, high), 0.05) == verdict


def test_bad_input_raises_a_sentence():
    for margin in (0, -0.1, np.nan, np.inf):
        with pytest.raises(InputError, match=f"margin={margin}; a positive, finite loss"):
            non_inferiority(Interval(0, -1, 1), margin)
    with pytest.raises(InputError, match=r"p-values \[0.1, nan\]; a list of numbers from 0 to 1"):
        holm([0.1, np.nan])

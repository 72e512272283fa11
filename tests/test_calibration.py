"""Probabilities are fitted by patient and measured as scikit-learn and counting by hand do."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import beta
from sklearn.calibration import calibration_curve
from sklearn.isotonic import isotonic_regression
from sklearn.metrics import brier_score_loss

from symnorm_jax.errors import InputError
from symnorm_jax.scoring.calibration import (
    METHODS,
    apply,
    brier,
    expected_calibration_error,
    fit_calibration,
    patient_weight,
    platt,
    reliability,
)
from symnorm_jax.statistics.intervals import interval, patient_weights

N = 200


@pytest.fixture
def cases(rng):
    """200 slices of 30 patients; the chance of an abnormal slice is the logistic curve 3 (s - 11)."""
    score = rng.normal(10, 1, N)
    names = np.array([f"p{i}" for i in rng.integers(0, 30, N)])
    return pd.DataFrame({"patient": names, "positive": rng.random(N) < expit(3 * (score - 11)), "s": score})


@pytest.fixture
def judged(rng):
    """Probabilities with ties, too low below one half and too high above it."""
    probability = np.round(rng.beta(1, 2, N), 2)
    return probability, rng.random(N) < np.where(probability < 0.5, probability + 0.2, probability - 0.3)


def fitted(cases, method):
    return fit_calibration(cases, ["s"])["s"][method]


def test_platt_minimises_the_likelihood_of_platt_s_targets(cases):
    fit, weight = fitted(cases, "platt"), patient_weight(cases.patient.to_numpy())
    ill = cases.positive.to_numpy()
    n1, n0 = weight[ill].sum(), weight[~ill].sum()
    assert n1 + n0 == pytest.approx(cases.patient.nunique())
    target = np.where(ill, (n1 + 1) / (n1 + 2), 1 / (n0 + 2))
    x = (cases.s - 10).to_numpy()
    loss = lambda p: weight @ (np.logaddexp(0, p[0] * x + p[1]) - target * (p[0] * x + p[1]))  # noqa: E731
    best = minimize(loss, [0.0, 0.0], tol=1e-10).x
    np.testing.assert_allclose(logit(apply(fit, cases.s)), best[0] * x + best[1], atol=1e-4)


def test_platt_finds_the_curve_that_made_the_labels(rng):
    score = rng.normal(10, 1, 20000)
    positive = rng.random(20000) < expit(3 * (score - 11))
    found = platt(score, positive, np.ones(20000))
    assert found["slope"] / found["scale"] == pytest.approx(3, abs=0.15)
    assert found["centre"] - found["intercept"] * found["scale"] / found["slope"] == pytest.approx(11, abs=0.05)


def test_platt_stays_finite_where_the_classes_separate():
    """Four patients a class, worked by hand: at two distinct scores the best probabilities are the targets."""
    cases = pd.DataFrame(
        {"patient": list("abcdefgh"), "positive": [False] * 4 + [True] * 4, "s": [0.0] * 4 + [1.0] * 4}
    )
    assert apply(fitted(cases, "platt"), [0, 1]) == pytest.approx([1 / 6, 5 / 6], abs=1e-6)
    copies = pd.concat([cases] * 50)  # slices that say the same are no more patients
    assert apply(fitted(copies, "platt"), [0, 1]) == pytest.approx([1 / 6, 5 / 6], abs=1e-6)


def test_isotonic_is_the_weighted_pooled_regression(cases):
    fit, weight = fitted(cases, "isotonic"), patient_weight(cases.patient.to_numpy())
    order = np.argsort(cases.s)
    expected = isotonic_regression(cases.positive.to_numpy(float)[order], sample_weight=weight[order])
    np.testing.assert_allclose(apply(fit, cases.s.to_numpy()[order]), expected, atol=1e-12)
    assert apply(fit, [-1e9, 1e9]) == pytest.approx(expected[[0, -1]])
    assert (np.diff(expected) >= 0).all() and 0 <= expected[0] < expected[-1] <= 1


@pytest.mark.parametrize("method", METHODS)
def test_every_patient_counts_as_much_as_any_other(cases, method):
    """A patient whose slices are all there ten times changes nothing, one of other slices does."""
    often = pd.concat([cases, *[cases[cases.patient == "p3"]] * 9])
    grid = np.linspace(7, 13, 50)
    first = apply(fitted(cases, method), grid)
    np.testing.assert_allclose(apply(fitted(often, method), grid), first, atol=1e-6)
    as_others = often.assign(
        patient=often.patient.where(~often.index.duplicated(), [f"q{i}" for i in range(len(often))])
    )
    assert np.abs(apply(fitted(as_others, method), grid) - first).max() > 0.01


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_is_json_and_says_where_it_comes_from(cases, method):
    fit = fitted(cases, method)
    read = json.loads(json.dumps(fit, allow_nan=False))
    assert read == fit and np.array_equal(apply(read, cases.s), apply(fit, cases.s))
    counts = {"healthy": int((~cases.positive).sum()), "abnormal": int(cases.positive.sum())}
    expected = {"method": method, "origin": "val", **counts, "patients": 30}
    assert {name: fit[name] for name in fit if name != "parameters"} == expected


@pytest.mark.parametrize("method", METHODS)
def test_probabilities_beat_knowing_only_the_prevalence(cases, rng, method):
    score = rng.normal(10, 1, 5000)
    positive = rng.random(5000) < expit(3 * (score - 11))
    found = brier(apply(fitted(cases, method), score), positive)
    assert found < 0.7 * brier(np.full(5000, positive.mean()), positive)


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_fitted_has_a_reason(method):
    one_class = pd.DataFrame({"patient": ["a", "b"], "positive": False, "s": [1.0, 2.0]})
    fit = fitted(one_class, method)
    assert fit["parameters"] is None and np.isnan(apply(fit, [1.0, 2.0])).all()
    assert fit["reason"] == "validation has 2 healthy and 0 abnormal cases; both are needed"
    flat = fitted(one_class.assign(positive=[True, False], s=3.0), method)
    assert flat["parameters"] is None and flat["reason"] == "all 2 scores are 3; they must vary"
    assert fitted(one_class[:0], method)["parameters"] is None
    one_patient = one_class.assign(positive=[False, True], patient="a")
    assert np.isfinite(apply(fitted(one_patient, method), [0.0, 9.0])).all()


def test_brier_equals_scikit_learn(judged, rng):
    weight = rng.integers(0, 4, (5, N))
    assert brier(*judged) == pytest.approx(brier_score_loss(judged[1], judged[0]))
    expected = [brier_score_loss(judged[1], judged[0], sample_weight=one) for one in weight]
    assert brier(*judged, weight) == pytest.approx(expected)
    assert np.isnan(brier(*judged, np.zeros(N))) and np.isnan(brier(np.zeros(0), np.zeros(0, bool)))


@pytest.mark.parametrize("bins", [1, 5, 10])
def test_the_calibration_error_equals_scikit_learn_s_curve(judged, bins):
    probability, positive = judged
    observed, predicted = calibration_curve(positive, probability, n_bins=bins, strategy="quantile")
    table = reliability(probability, positive, bins)
    assert [row["predicted"] for row in table] == pytest.approx(predicted)
    assert [row["observed"] for row in table] == pytest.approx(observed)
    sizes = [row["cases"] for row in table]
    assert sum(sizes) == N and max(sizes) < 2 * N / bins
    expected = np.average(np.abs(observed - predicted), weights=sizes)
    assert expected_calibration_error(probability, positive, bins=bins) == pytest.approx(expected)


def test_a_calibration_error_by_hand():
    """Bins 0.1, 0.1 and 0.6, 0.8: gaps |0.1 - 0.5| and |0.7 - 1|, so 0.35; weights 3, 1, 1, 1 then count the first."""
    probability, positive = np.array([0.8, 0.1, 0.6, 0.1]), np.array([True, True, True, False])
    assert expected_calibration_error(probability, positive, bins=2) == pytest.approx(0.35)
    # 3 (0.1 - 1) + 0.1 = -2.6 in the first bin, 0.6 - 1 + 0.8 - 1 = -0.6 in the second, of a weight of 6.
    assert expected_calibration_error(probability, positive, np.array([1, 3, 1, 1]), 2) == pytest.approx(3.2 / 6)
    assert np.isnan(expected_calibration_error(np.zeros(0), np.zeros(0, bool)))


def test_equal_probabilities_stay_together_in_any_order(judged, rng):
    probability, positive = np.repeat([0.2, 0.7], [150, 50]), judged[1]
    order = rng.permutation(N)
    gaps = abs(0.2 * 150 - positive[:150].sum()) + abs(0.7 * 50 - positive[150:].sum())
    for rows in (np.arange(N), order):
        assert [row["cases"] for row in reliability(probability[rows], positive[rows])] == [150, 50]
        assert expected_calibration_error(probability[rows], positive[rows]) == pytest.approx(gaps / N)


def test_a_row_of_the_diagram():
    table = reliability(np.repeat([0.1, 0.9], [10, 20]), np.arange(30) % 2 == 0)
    assert table[1] | {"low": 0, "high": 0} == {
        **{"from": 0.9, "to": 0.9, "predicted": pytest.approx(0.9), "cases": 20, "positive": 10, "observed": 0.5},
        **{"low": 0, "high": 0},
    }
    bounds = beta(10, 11).ppf(0.025), beta(11, 10).ppf(0.975)
    assert (table[1]["low"], table[1]["high"]) == pytest.approx(bounds)
    assert reliability(np.zeros(0), np.zeros(0, bool)) == [] and json.dumps(table)


def test_the_metrics_can_be_given_intervals_over_patients(cases):
    drawn = patient_weights(cases.patient.to_numpy(), 100)
    weights = drawn.patient_weight[:, drawn.index]
    probability = apply(fitted(cases, "platt"), cases.s)
    for metric in (brier, expected_calibration_error):
        found = interval(partial(metric, probability, cases.positive.to_numpy()), weights)
        assert found.value == pytest.approx(float(metric(probability, cases.positive))) and found.low < found.high


def test_bad_input_ends_in_a_sentence(cases):
    with pytest.raises(InputError, match="1 of 200 scores 's' are NaN or infinite"):
        fit_calibration(cases.assign(s=cases.s.where(cases.index != 4)), ["s"])
    with pytest.raises(InputError, match="1 of 2 scores are NaN or infinite"):
        apply(fitted(cases, "platt"), [1.0, np.inf])
    for metric in (brier, expected_calibration_error, reliability):
        with pytest.raises(InputError, match="1 of 2 probabilities lie outside 0 to 1"):
            metric(np.array([0.5, 1.5]), np.array([True, False]))
        with pytest.raises(InputError, match=r"shapes \(2,\), \(1,\) and \(2,\)"):
            metric(np.array([0.5, 0.5]), np.array([True]))

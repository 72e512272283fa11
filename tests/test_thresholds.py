"""Thresholds are what brute force finds, and the conformal ones keep their promise to new patients."""

import json
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta, binom, gamma, norm

from symnorm_jax.errors import ConfigError, InputError
from symnorm_jax.scoring.conformal import age_band, conformal, group_labels, patients_needed
from symnorm_jax.scoring.thresholds import (
    RULES,
    called,
    fit_thresholds,
    healthy_quantile,
    max_accuracy,
    mean_plus_k_sd,
    proportion,
    realised,
    roc,
    threshold_of,
)

COHORTS = 1000


class Settings(NamedTuple):
    """The keys of the section score that the rules read."""

    quantile: float = 0.95  # of healthy cases, for healthy_quantile
    k: float = 2.0  # standard deviations, for mean_plus_k_sd
    alpha: float = 0.1  # share of healthy patients that may be called abnormal, for conformal
    groups: tuple[str, ...] = ()  # columns whose values, together, have conformal thresholds of their own


def cases_of(scores, positive=None, **columns):
    """A table of cases from scores `[P, M]` of P patients with M cases each; columns are by patient."""
    scores = np.asarray(scores)
    patients, each = scores.shape
    positive = np.zeros(scores.shape, bool) if positive is None else np.asarray(positive)
    columns = {name: np.repeat(values, each) for name, values in columns.items()}
    names = np.repeat([f"p{i:04}" for i in range(patients)], each)
    return pd.DataFrame({"patient": names, "positive": positive.ravel(), "s": scores.ravel(), **columns})


def conformal_fit(cases, **settings):
    return fit_thresholds(cases, ["s"], Settings(**settings))["s"]["conformal"]


def within_chance(count, of, probability):
    """Whether a count is one that a binomial of this probability brings 999 times in 1,000."""
    low, high = binom.ppf([0.0005, 0.9995], of, probability)
    return low <= count <= high


def standard_error(values):
    return np.std(values) / np.sqrt(len(values))


def every_cut(score):
    ordered = np.sort(score)
    return np.concatenate([ordered, (ordered[1:] + ordered[:-1]) / 2, [ordered[0] - 1, ordered[-1] + 1]])


@pytest.mark.parametrize("effect", [-1.0, 0.0, 1.0, 9.0])
def test_rules_are_optimal_over_all_cut_points(rng, effect):
    score, positive = np.round(rng.normal(size=80), 1), rng.random(80) < 0.3
    score[positive] += effect
    youden = lambda t: (score[positive] >= t).mean() - (score[~positive] >= t).mean()  # noqa: E731
    accuracy = lambda t: ((score >= t) == positive).mean()  # noqa: E731
    for rule, quality in ((roc, youden), (max_accuracy, accuracy)):
        best = max(quality(t) for t in every_cut(score))
        assert quality(rule(score, positive)) == pytest.approx(best)


def test_max_accuracy_may_call_nothing_abnormal():
    score, positive = np.array([0.0, 1.0, 2.0, 3.0]), np.array([True, False, False, False])
    assert 3 < max_accuracy(score, positive) < np.inf


def test_rules_of_the_healthy_leave_the_diseased_alone(rng):
    score, positive = rng.normal(size=1000), np.arange(1000) >= 900
    assert (score[~positive] < healthy_quantile(score, positive, 0.95)).mean() == pytest.approx(0.95, abs=0.002)
    healthy = np.array([1.0, 2.0, 6.0])  # mean 3, deviations -2, -1 and 3, so variance (4 + 1 + 9) / 2 = 7
    both = np.append(healthy, 1e6), np.array([False, False, False, True])
    assert mean_plus_k_sd(*both, 2.0) == pytest.approx(3 + 2 * np.sqrt(7))
    assert healthy_quantile(*both, 0.5) == 2


def test_the_conformal_rank_is_exact():
    for alpha in ("0.01", "0.05", "0.1", "0.15", "0.2", "0.3", "0.7"):
        exact = Fraction(alpha)
        needed = patients_needed(float(alpha))
        assert needed / Fraction(needed + 1) >= 1 - exact > (needed - 1) / Fraction(needed)
        assert needed == 1 or conformal(np.arange(needed - 1.0), float(alpha)) is None
        for n in range(needed, 200):
            called = sum(np.arange(n) >= conformal(np.arange(float(n)), float(alpha)))
            # The largest number of n + 1 that may be called abnormal, less the new patient itself.
            assert called == (n + 1) * exact // 1 - 1
    assert [patients_needed(alpha) for alpha in (0.1, 0.05, 0.01)] == [9, 19, 99]


@pytest.mark.parametrize(("n", "alpha"), [(9, 0.1), (19, 0.1), (33, 0.1), (50, 0.05), (20, 0.3)])
def test_new_patients_are_called_as_often_as_the_finite_sample_law_says(rng, n, alpha):
    """P = floor((n + 1) alpha) / (n + 1), which lies above alpha - 1 / (n + 1), for scores that do not tie."""
    law = ((n + 1) * Fraction(str(alpha)) // 1) / Fraction(n + 1)
    assert Fraction(str(alpha)) - Fraction(1, n + 1) < law <= Fraction(str(alpha))
    scores = rng.gamma(2, 1, (COHORTS, n + 1)) * rng.lognormal(size=(COHORTS, 1))
    called = sum(one[-1] >= conformal(one[:-1], alpha) for one in scores)
    assert within_chance(called, COHORTS, float(law))
    fit = conformal_fit(cases_of(scores[0, :-1, None]), alpha=alpha)
    assert fit["expected_rate"] == pytest.approx(float(law))


def test_the_rate_of_one_threshold_spreads_as_it_says(rng):
    n, alpha = 29, 0.1  # rank 27, so Beta(3, 27)
    fit = conformal_fit(cases_of(rng.random((n, 1))), alpha=alpha)
    assert fit["rate_95"] == pytest.approx(beta(3, 27).ppf([0.025, 0.975]))
    rates = [1 - conformal(rng.random(n), alpha) for _ in range(COHORTS)]  # uniform scores: the rate itself
    inside = sum(fit["rate_95"][0] <= rate <= fit["rate_95"][1] for rate in rates)
    assert within_chance(inside, COHORTS, 0.95)


def test_few_patients_with_many_slices_keep_the_promise_by_patient_and_not_by_slice(rng):
    """Slices that share most of their variance: 12 patients of 40 slices are 12 observations, not 480."""
    alpha, n, by_patient, by_slice = 0.1, 12, 0, 0
    for _ in range(COHORTS):
        scores = 2 * rng.normal(size=(n + 1, 1)) + rng.normal(size=(n + 1, 40))
        by_slice += (scores[-1] >= conformal(scores[:-1].ravel(), alpha)).any()
        by_patient += (scores[-1] >= conformal(scores[:-1].max(1), alpha)).any()
    assert within_chance(by_patient, COHORTS, 1 / 13)
    assert by_slice > 1.5 * alpha * COHORTS
    fit = conformal_fit(cases_of(scores[:-1]), alpha=alpha)
    assert fit["value"] == conformal(scores[:-1].max(1), alpha) and fit["calibration_patients"] == n


def test_ties_are_normal(rng):
    """Scores of a few values: a case at the highest calibration value is not called, a higher one is."""
    assert conformal(np.ones(9), 0.1) == np.nextafter(1.0, 2)
    for levels in (1, 2, 5):
        scores = rng.integers(0, levels, (COHORTS, 20)).astype(float)
        called = sum(one[-1] >= conformal(one[:-1], 0.1) for one in scores)
        assert called <= binom.ppf(0.9995, COHORTS, 0.1)
        assert levels > 2 or called == 0


def test_a_tie_survives_writing_and_reading_single_precision(tmp_path, rng):
    cases = cases_of(rng.random((9, 1)).astype(np.float32))
    cases.to_csv(tmp_path / "cases.csv")
    read = pd.read_csv(tmp_path / "cases.csv")
    assert (read.s.to_numpy() > cases.s.to_numpy(float)).any()  # decimal digits are not the binary number
    assert not (read.s >= threshold_of(conformal_fit(cases), read)).any()


def test_a_new_healthy_patient_is_not_judged_by_the_few_healthy_slices_of_the_ill(rng):
    """Two thirds are ill, with 4 healthy slices of 20; a threshold from all of them calls too many healthy people."""
    alpha, found, naive = 0.1, [], []
    positive = (np.arange(60)[:, None] % 3 > 0) & (np.arange(20) >= 4)
    for _ in range(60):
        scores = rng.normal(size=(60, 20))
        fit = conformal_fit(cases_of(scores, positive), alpha=alpha)
        found.append(1 - norm.cdf(fit["value"]) ** 20)  # the chance that a new patient of 20 slices is called
        naive.append(1 - norm.cdf(conformal(np.where(positive, -np.inf, scores).max(1), alpha)) ** 20)
    assert fit["calibrated_on"] == "healthy patients" and fit["calibration_patients"] == 20
    assert np.mean(found) == pytest.approx(2 / 21, abs=4 * standard_error(found))
    assert np.mean(naive) > 1.5 * alpha


def test_where_nobody_is_healthy_the_healthy_slices_of_the_ill_stand_in(rng):
    scores = rng.normal(size=(12, 5))
    positive = np.broadcast_to(np.arange(5) == 4, scores.shape)
    fit = conformal_fit(cases_of(scores, positive))
    assert fit["calibrated_on"] == "patients with healthy cases" in fit["promise"]
    assert fit["value"] == conformal(scores[:, :4].max(1), 0.1)
    assert (fit["healthy"], fit["abnormal"], fit["patients"]) == (48, 12, 12)


def test_groups_of_different_scale_each_keep_their_promise(rng):
    """The chance that a new patient of a site is called, by its own threshold and by everybody's."""
    alpha, site, scale = 0.2, np.repeat(["loud", "quiet"], [15, 45]), np.array([5, 1])
    new, found, marginal = cases_of(np.zeros((2, 1)), site=["loud", "quiet"]), [], []
    for _ in range(60):
        scores = rng.gamma(2, 1, (60, 1)) * np.where(site == "loud", *scale)[:, None]
        fit = conformal_fit(cases_of(scores, site=site), alpha=alpha, groups=("site",))
        found.append(gamma.sf(threshold_of(fit, new) / scale, 2))
        marginal.append(gamma.sf(fit["value"] / scale, 2))
    assert fit["group_patients"] == {"loud": 15, "quiet": 45} and fit["group_reasons"] == {}
    for one, law in zip(np.transpose(found), (3 / 16, 9 / 46), strict=True):
        assert one.mean() == pytest.approx(law, abs=4 * standard_error(one))
    assert np.mean(marginal, 0)[0] > 2 * alpha and np.mean(marginal, 0)[1] < alpha / 2


def test_a_group_too_small_or_unknown_takes_the_overall_threshold_and_says_so(rng):
    site = np.repeat(["a", "b", ""], [20, 8, 9])
    cases = cases_of(rng.random((37, 1)), site=site)
    fit = conformal_fit(cases, groups=("site",))
    assert fit["by_group"]["b"] is None and set(fit["group_reasons"]) == {"b"}
    assert fit["group_reasons"]["b"].startswith("8 calibration patients; alpha=0.1 needs 9; the overall threshold")
    assert fit["by_group"]["a"] == conformal(cases.s[:20].to_numpy(), 0.1)
    new = cases_of(np.zeros((4, 1)), site=["b", "elsewhere", "a", None])
    expected = [fit["value"], fit["value"], fit["by_group"]["a"], fit["by_group"]["unknown"]]
    assert threshold_of(json.loads(json.dumps(fit)), new).tolist() == expected
    assert (threshold_of(fit | {"value": None}, new) != threshold_of(fit | {"value": None}, new)).all()  # NaN


def test_groups_cross_and_a_patient_has_one():
    assert [age_band(age) for age in ("0", "19.9", 20, "59", 60.0, "101")] == [
        *("0-19", "0-19", "20-39", "40-59", "60-79", "100-119")
    ]
    assert {age_band(age) for age in ("", "n/a", None, np.nan, -1, "inf", pd.NA)} == {"unknown"}
    visits = pd.DataFrame({"patient": ["b", "a", "b"], "age": ["59", "61", "60"], "sex": ["F", "", "F"]})
    assert group_labels(visits, ("age", "sex")) == ["40-59 / F", "60-79 / unknown", "40-59 / F"]
    assert group_labels(visits.iloc[[2, 1]], ("age",)) == ["60-79", "60-79"]


def test_what_a_threshold_does_is_counted_by_patient_and_by_case():
    scores = [[1, 2, 9], [1, 2, 3], [9, 9, 1], [1, 5, 9], [1, 1, 9]]
    positive = [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 1]]
    found = realised({"value": 5.0}, cases_of(np.array(scores, float), np.array(positive, bool)), "s")
    # Of the healthy, p0 to p2, p0 and p2 are called; of the ill, p3 for a healthy case at the threshold, p4 rightly.
    counts = {name: (of["called"], of["of"]) for name, of in found.items()}
    assert counts == {
        "healthy_patients": (2, 3),
        "patients_with_healthy_cases": (3, 5),
        "healthy_cases": (4, 13),
        "abnormal_cases": (2, 2),
    }
    assert found["healthy_cases"]["share"] == 4 / 13 and "low" not in found["healthy_cases"]
    assert realised({"value": None}, cases_of(np.zeros((1, 1))), "s") is None


def test_a_score_at_its_threshold_is_called_and_nobody_without_one():
    cases = cases_of(np.array([[1.0, 2.0], [2.0, 3.0]]), site=["a", "b"])
    assert called({"value": 2.0}, cases, "s").tolist() == [False, True, True, True]
    by_group = {"value": 2.0, "groups": ["site"], "by_group": {"a": 1.0, "b": None}}
    assert called(by_group, cases, "s").tolist() == [True, True, True, True]
    assert not called({"value": None}, cases, "s").any()


def test_the_interval_of_a_proportion_is_exact():
    found = proportion(np.arange(20) < 3)  # Clopper-Pearson by Beta quantiles
    assert (found["low"], found["high"]) == pytest.approx((beta(3, 18).ppf(0.025), beta(4, 17).ppf(0.975)))
    assert proportion(np.zeros(10, bool))["high"] == pytest.approx(1 - 0.025 ** (1 / 10))
    assert proportion(np.zeros(0, bool)) == {"called": 0, "of": 0, "share": None, "low": None, "high": None}


def test_a_fit_tells_where_it_comes_from_and_is_json(rng):
    fitted = fit_thresholds(cases_of(rng.random((3, 4)), np.eye(3, 4) > 0), ["s"], Settings(0.9, 3.0, 0.4))["s"]
    assert set(fitted) == set(RULES) and json.loads(json.dumps(fitted, allow_nan=False)) == fitted
    for rule, own in (("roc", {}), ("healthy_quantile", {"quantile": 0.9}), ("mean_plus_k_sd", {"k": 3.0})):
        assert fitted[rule] == {
            **{"value": fitted[rule]["value"], "origin": "val", "healthy": 9, "abnormal": 3, "patients": 3},
            **own,
        }
    assert fitted["conformal"]["alpha"] == 0.4


@pytest.mark.parametrize(
    ("patients", "positive", "reasons"),
    [
        (3, False, {"roc": "validation has 0 abnormal cases; 1 healthy and 1 abnormal needed", "max_accuracy": ...}),
        (1, False, {"roc": ..., "max_accuracy": ..., "mean_plus_k_sd": "1 healthy cases; 2 healthy needed"}),
        (2, True, dict.fromkeys(("roc", "max_accuracy", "healthy_quantile", "mean_plus_k_sd"), "0 healthy")),
        (0, False, dict.fromkeys(("roc", "max_accuracy", "healthy_quantile", "mean_plus_k_sd"), "0 healthy")),
    ],
)
def test_what_cannot_be_fitted_is_none_with_a_reason(patients, positive, reasons):
    cases = cases_of(np.arange(float(patients))[:, None], np.full((patients, 1), positive))
    fitted = fit_thresholds(cases, ["s"], Settings())["s"]
    of = 0 if positive else patients
    reasons = reasons | {"conformal": f"{of} calibration patients; alpha=0.1 needs 9"}
    assert {rule for rule, fit in fitted.items() if fit["value"] is None} == set(reasons)
    assert {rule for rule, fit in fitted.items() if "reason" in fit} == set(reasons)
    for rule, reason in reasons.items():
        assert reason is ... or reason in fitted[rule]["reason"]
    assert fitted["conformal"]["promise"] is None


def test_bad_input_ends_in_a_sentence():
    cases = cases_of(np.array([[1.0, np.nan], [np.inf, 2.0]]))
    with pytest.raises(InputError, match="2 of 4 scores 's' are NaN or infinite; every case needs a finite score"):
        fit_thresholds(cases, ["s"], Settings())
    with pytest.raises(InputError, match="2 of 4 scores 's'"):
        realised({"value": 1.0}, cases, "s")
    with pytest.raises(ConfigError, match="The group 'site' is no column of the cases; one of .'patient'"):
        fit_thresholds(cases_of(np.ones((2, 2))), ["s"], Settings(groups=("site",)))
    for wrong, said in (({"quantile": 1.1}, "quantile is 1.1"), ({"k": np.nan}, "k is nan"), ({"alpha": 0}, "is 0; a")):
        with pytest.raises(ConfigError, match=said):
            fit_thresholds(cases_of(np.ones((2, 2))), ["s"], Settings(**wrong))


def test_exact_intervals_never_cover_less_than_they_say():
    found = [proportion(np.arange(20) < k) for k in range(21)]
    for truth in np.linspace(0.01, 0.99, 99):
        covers = np.array([one["low"] <= truth <= one["high"] for one in found])
        assert binom.pmf(np.arange(21), 20, truth) @ covers >= 0.95

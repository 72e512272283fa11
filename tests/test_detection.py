"""Lesions are found, missed and invented as a walk through the voxels says, and FROC cannot be led astray."""

import json

import numpy as np
import pytest
from test_postprocess import flood

from symnorm_jax.evaluation.detection import Sums, detect, froc, of_lesions, summed
from symnorm_jax.evaluation.pixels import NO_LESION, cuts
from symnorm_jax.evaluation.postprocess import MapStack, PostProcessing, processed
from symnorm_jax.statistics.intervals import Resamples, patient_weights

NONE = PostProcessing((), erosion=0.0, median=1, smallest=2, spacing=3.0)
PATIENTS = np.array(["a", "b", "c"])
ALONE = patient_weights(PATIENTS[:1])
NOBODY_AGAIN = Resamples(PATIENTS, np.arange(3), np.zeros((0, 3), int))


def scan(values, lesion, patient="a", brain=None) -> MapStack:
    values = np.asarray(values, np.float16)
    brain = np.ones(values.shape, bool) if brain is None else brain
    flags = np.ones(len(values), bool), np.zeros(len(values), bool)
    return processed(MapStack(patient, values, brain, np.asarray(lesion, bool), *flags), NONE)


def empty(shape=(3, 9, 9)):
    return np.zeros(shape), np.zeros(shape, bool)


def cohort(seed=0, shape=(4, 9, 9)) -> list[MapStack]:
    """Scans of three patients, the last without lesions; `a` has two."""
    rng = np.random.default_rng(seed)
    found = []
    for patient, share in zip("abca", (0.04, 0.06, 0.0, 0.05), strict=True):
        lesion = rng.random(shape) < share
        values = np.round(rng.standard_normal(shape) + lesion, 1)
        found.append(scan(values, lesion, patient, rng.random(shape) < 0.9))
    return found


def by_hand(volume, threshold, smallest, smallest_called=0):
    """Sizes of a scan's lesions, whether each is found, and the numbers of false and of true components."""
    truth = flood(volume.lesion & volume.brain)
    lesions = [part for part in truth if len(part) >= smallest]
    parts = [part for part in flood(volume.values >= threshold) if len(part) >= smallest_called]
    shown, drawn = set().union(*parts), set().union(*truth)
    found = [len(part & shown) >= 0.1 * len(part) for part in lesions]
    false = sum(not part & drawn for part in parts)
    return [len(x) for x in lesions], found, false, sum(bool(part & set().union(*lesions)) for part in parts)


@pytest.mark.parametrize("smallest", [1, 3])
@pytest.mark.parametrize("settings", [NONE, NONE._replace(steps=("components",))])
def test_what_is_found_is_what_a_walk_finds(smallest, settings):
    thresholds, dropped = np.array([2.5, 1.5, 0.8]), 2 if settings.steps else 0
    for volume in cohort():
        found = detect([volume], thresholds, settings, smallest)
        for place, threshold in enumerate(thresholds):
            size, hit, false, true = by_hand(volume, threshold, smallest, dropped)
            pairs = sorted(zip(found.size.tolist(), found.found[:, place].tolist(), strict=True))
            assert pairs == sorted(zip(size, hit, strict=True))
            assert (found.false[0, place], found.true[0, place]) == (false, true)


def test_a_lesion_is_found_from_a_tenth_of_its_voxels_on():
    for size, hit in ((20, True), (21, False)):
        values, lesion = empty((1, 3, 30))
        lesion[0, 1, :size] = True
        values[0, 1, :2] = 1.0
        found = detect([scan(values, lesion)], np.array([2.0, 1.0]), NONE, 1)
        assert found.size.tolist() == [size] and found.found.tolist() == [[False, hit]]
        assert found.true.tolist() == [[0, 1]] and found.false.tolist() == [[0, 0]]  # it touches one all the same


def test_corners_join_and_gaps_part():
    values, lesion = empty()
    lesion[0, 0, 0] = lesion[1, 1, 1] = lesion[2, 2, 2] = True
    lesion[0, 6, 6] = lesion[2, 6, 6] = True
    values[0, 3, 3] = values[1, 4, 4] = values[0, 0, 8] = 1.0
    found = detect([scan(values, lesion)], np.array([1.0]), NONE, 1)
    assert sorted(found.size) == [1, 1, 3] and found.false.tolist() == [[2]]


def test_how_thick_slices_are_plays_no_part():
    test, threshold = cohort(), {"value": 1.5}
    found = [of_lesions(test, threshold, NONE._replace(spacing=x), 1, NOBODY_AGAIN) for x in (1.0, 7.0)]
    assert found[0] == found[1]
    turned = [
        x._replace(
            values=x.values.T, brain=x.brain.T, lesion=x.lesion.T, known=np.ones(9, bool), healthy=np.zeros(9, bool)
        )
        for x in test
    ]
    assert of_lesions(turned, threshold, NONE, 1, NOBODY_AGAIN)["metrics"] == found[0]["metrics"]


def test_a_lesion_below_the_smallest_is_neither_found_nor_missed_nor_false():
    values, lesion = empty()
    lesion[0, 0, :2], lesion[0, 4, :4] = True, True
    values[0, 0, 1], values[0, 8, 8] = 1.0, 1.0
    found = detect([scan(values, lesion)], np.array([1.0]), NONE, 3)
    assert found.size.tolist() == [4] and found.found.tolist() == [[False]]
    assert found.false.tolist() == [[1]] and found.true.tolist() == [[0]]
    both = detect([scan(values, lesion)], np.array([1.0]), NONE, 2)
    assert sorted(both.found.ravel()) == [False, True] and both.true.tolist() == [[1]]


def test_nothing_outside_the_brain_counts():
    values, lesion = empty()
    brain = np.ones(values.shape, bool)
    brain[:, :, 5:] = False
    values[0, 0, 7], lesion[1, 3, 7] = 1.0, True
    found = detect([scan(values, lesion, brain=brain)], np.array([1.0]), NONE, 1)
    assert len(found.size) == 0 and found.false.tolist() == [[0]]
    assert len(detect([scan(values, lesion, brain=brain & False)], np.array([1.0]), NONE, 1).scan_owner) == 0


def test_operation_at_the_threshold_is_what_counting_gives():
    test = cohort()
    counted = [by_hand(volume, 1.5, 2) for volume in test]
    sizes, hits = (np.concatenate([x[place] for x in counted]) for place in (0, 1))
    false, true = (sum(x[place] for x in counted) for place in (2, 3))
    found = of_lesions(test, {"value": 1.5}, NONE, 2, NOBODY_AGAIN)
    metrics = {name: x["value"] for name, x in found["metrics"].items()}
    assert metrics["sensitivity"] == pytest.approx(hits.mean(), abs=1e-6) and 0 < hits.mean() < 1
    assert metrics["precision"] == pytest.approx(true / (true + false), abs=1e-6)
    assert metrics["false_positives"] == false / 4  # a scan without lesions is one of the four
    assert (found["lesions"], found["scans"]) == (len(sizes), 4)
    first, second = np.quantile(sizes, [1 / 3, 2 / 3])
    parts = {"small": sizes < first, "middle": (sizes >= first) & (sizes < second), "large": sizes >= second}
    for name, part in parts.items():
        expected = hits[part].mean() if part.any() else None
        assert metrics[f"sensitivity_{name}"] == (expected if expected is None else pytest.approx(expected, abs=1e-6))
    assert found["thirds"] == [first, second]


def test_froc_reads_the_last_threshold_before_false_positives_exceed_the_point():
    false = np.array([[0, 1, 3, 5, 4, 9, 2]])  # of 1 scan; after 9 the components grow together
    found = np.array([[1, 2, 3, 4, 5, 6, 10]])  # of 10 lesions
    sums = Sums(np.array([10]), found, np.array([1]), false, false)
    # at most 1: 2 of 10; 2: the same; 4: 3 of 10, for the 4 comes after a 5; 8: 5 of 10; never the 10 at the end
    assert froc(sums, np.ones((1, 1))).tolist() == [[0.2, 0.2, 0.3, 0.5]]
    fewer = sums._replace(false=np.array([[0, 1, 3, 3, 2, 1, 0]]))  # the most is 3, reached with 4 of 10 found
    assert froc(fewer, np.ones((1, 1))).tolist() == [[0.2, 0.2, 0.4, 0.4]]


def test_froc_equals_a_walk_and_never_falls():
    test = cohort()
    thresholds = cuts(test, 0.1)
    counted = [[by_hand(volume, threshold, 1) for volume in test] for threshold in thresholds]
    rate = [np.mean([x[2] for x in one]) for one in counted]
    found = [np.concatenate([x[1] for x in one]).mean() for one in counted]
    metrics = of_lesions(test, {"value": 1.0}, NONE, 1, NOBODY_AGAIN)["metrics"]
    expected = []
    for point in (1, 2, 4, 8):
        best = 0.0
        for place in range(1 + max(i for i, x in enumerate(rate) if x == max(rate))):
            if max(rate[: place + 1]) <= point:
                best = found[place]
        expected.append(best)
        assert metrics[f"froc_{point}"]["value"] == pytest.approx(best, abs=1e-6)
    assert metrics["froc_mean"]["value"] == pytest.approx(np.mean(expected), abs=1e-6)
    assert expected == sorted(expected) and 0 < expected[0] < expected[-1]


def test_the_curve_only_rises_in_sensitivity():
    found = of_lesions(cohort(), {"value": 1.0}, NONE, 1, NOBODY_AGAIN)["curve"]
    assert (np.diff(found["sensitivity"]) >= 0).all() and (np.diff(found["threshold"]) < 0).all()
    assert len(found["threshold"]) == len(found["false_positives"]) == len(found["sensitivity"])


def test_calling_the_whole_brain_finds_nothing():
    """One component that covers everything would find every lesion and be false in none."""
    _, lesion = empty()
    lesion[1, 4, 4] = True
    for values in (np.ones(lesion.shape), np.where(np.arange(9) < 8, 1.0, 0.0) * np.ones(lesion.shape)):
        found = of_lesions([scan(values, lesion)], {"value": 1.0}, NONE, 1, ALONE)
        assert found["metrics"]["froc_8"]["value"] == 0 and found["curve"]["threshold"] == []


def test_a_perfect_map_finds_all_at_no_false_positive():
    _, lesion = empty()
    lesion[0, 0, 0] = lesion[1, 5, 5] = True
    found = of_lesions([scan(lesion, lesion)], {"value": 1.0}, NONE, 1, ALONE)
    assert found["metrics"]["froc_1"]["value"] == 1 and found["metrics"]["false_positives"]["value"] == 0


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_levels_call_no_more_of_the_brain_than_they_may(share):
    rng = np.random.default_rng(0)
    values = np.where(rng.random((4, 20, 20)) < share, 1.0, 0.0) + 0.01 * rng.integers(0, 2, (4, 20, 20))
    test = [scan(values, values > 2)]
    found = cuts(test, 0.1)
    assert len(found) <= 40 and all((test[0].values >= x).mean() <= 0.1 for x in found)
    assert (len(found) > 0) == (share < 0.3) and (np.diff(found) < 0).all()


def test_an_empty_truth_has_false_positives_and_no_sensitivity():
    test = [x._replace(lesion=np.zeros_like(x.lesion)) for x in cohort()]
    found = of_lesions(test, {"value": 1.5}, NONE, 1, NOBODY_AGAIN._replace(patient_weight=np.ones((9, 3), int)))
    for name in ("froc_1", "froc_mean", "sensitivity", "sensitivity_small"):
        assert found["metrics"][name] == {"value": None, "low": None, "high": None, "reason": NO_LESION}
    assert found["metrics"]["false_positives"]["value"] > 0 and found["metrics"]["precision"]["value"] == 0
    assert found["thirds"] == [] and found["lesions"] == 0
    json.dumps(found, allow_nan=False)


def test_an_empty_prediction_finds_nothing_and_has_no_precision():
    metrics = of_lesions(
        cohort(), {"value": 99.0}, NONE, 1, NOBODY_AGAIN._replace(patient_weight=np.ones((9, 3), int))
    )["metrics"]
    assert metrics["sensitivity"]["value"] == metrics["false_positives"]["value"] == 0
    assert metrics["precision"]["value"] is None and "called" in metrics["precision"]["reason"]


def test_without_a_threshold_there_is_the_reason_and_the_curve():
    at = {"value": None, "origin": "val", "reason": "The validation split has no maps."}
    found = of_lesions(cohort(), at, NONE, 1, NOBODY_AGAIN)["metrics"]
    assert found["sensitivity_large"]["reason"] == found["false_positives"]["reason"] == at["reason"]
    assert found["froc_8"]["value"] > 0
    assert found.keys() == of_lesions(cohort(), {"value": 1.0}, NONE, 1, NOBODY_AGAIN)["metrics"].keys()


def test_a_single_patient_has_values_and_no_interval():
    test = [x for x in cohort() if x.patient == "a"]
    found = of_lesions(test, {"value": 1.0}, NONE, 1, ALONE)["metrics"]
    assert found["sensitivity"]["value"] > 0 and found["froc_8"]["low"] is None


def test_patients_are_counted_as_often_as_they_are_drawn():
    test, weight = cohort(), np.array([2, 0, 1])
    drawn = [x for x in test for _ in range(dict(zip("abc", weight, strict=True))[x.patient])]
    steps = cuts(test, 0.1)
    found = summed(detect(test, steps, NONE, 1), PATIENTS)
    again = summed(detect(drawn, steps, NONE, 1), PATIENTS)
    assert froc(found, weight[None]).tolist() == froc(again, np.ones((1, 3))).tolist()
    low = of_lesions(test, {"value": 1.5}, NONE, 1, NOBODY_AGAIN._replace(patient_weight=np.stack([weight] * 4)))[
        "metrics"
    ]
    same = of_lesions(drawn, {"value": 1.5}, NONE, 1, NOBODY_AGAIN)["metrics"]
    for name in ("sensitivity", "precision", "false_positives"):
        assert low[name]["low"] == low[name]["high"] == same[name]["value"]

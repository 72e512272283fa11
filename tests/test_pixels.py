"""Metrics of pixels equal what counting every brain pixel gives, and thresholds see nothing but validation."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from configs.base import base
from symnorm_jax.evaluation import evaluate as maps
from symnorm_jax.evaluation import pixels
from symnorm_jax.evaluation.histograms import NEVER, RANKS, binned, bins, edges, lowest_rank, measures, ranks, values_of
from symnorm_jax.evaluation.postprocess import STEPS, MapStack, PostProcessing, called_voxels, processed
from symnorm_jax.files import save_arrays
from symnorm_jax.statistics.intervals import Resamples, as_json, interval, patient_weights

NONE = PostProcessing((), erosion=3.0, median=3, smallest=3, spacing=3.0)
ALL = NONE._replace(steps=STEPS)
NO_WEIGHTS = np.zeros((0, 3), int)
PATIENTS = np.array(["a", "b", "c"])


def drawn(weights=NO_WEIGHTS, patients=PATIENTS) -> Resamples:
    """Patients that count as often as `weights` `[R, P]` say."""
    return Resamples(patients, np.arange(len(patients)), weights)


def scan(rng, patient="a", shape=(3, 8, 8), lesions=0.05, effect=1.0) -> MapStack:
    """A scan with ties in the map, lesions in and out of the brain, and a healthy first slice."""
    lesion, brain = rng.random(shape) < lesions, rng.random(shape) < 0.8
    lesion[0] = False
    values = np.round(rng.standard_normal(shape) + effect * lesion, 1).astype(np.float16)
    healthy = np.arange(shape[0]) == 0
    return MapStack(patient, values, brain, lesion, np.ones(shape[0], bool), healthy)


def cohort(seed=0, **kind) -> list[MapStack]:
    rng = np.random.default_rng(seed)
    return [
        scan(rng, patient, lesions=share, **kind) for patient, share in zip("abca", (0.05, 0.1, 0.0, 0.2), strict=True)
    ]


def flat(volumes):
    """Map values and lesions of every brain pixel, in no order, as sums over scans would have them."""
    brain = [x.brain for x in volumes]
    values, lesion = ([getattr(x, name)[x.brain] for x in volumes] for name in ("values", "lesion"))
    assert sum(x.sum() for x in brain) == sum(map(len, values))
    return np.concatenate(values), np.concatenate(lesion)


def measured(test, val, settings=NONE, weights=NO_WEIGHTS, patients=PATIENTS):
    test, val = ([processed(volume, settings) for volume in x] for x in (test, val))
    return pixels.of_pixels(test, pixels.fit_pixel_thresholds(val, settings), settings, drawn(weights, patients))


def test_metrics_without_a_threshold_equal_scikit_learn_on_all_pixels():
    test = cohort(0)
    values, lesion = flat(test)
    found = measured(test, cohort(1))
    assert found["average_precision"]["value"] == pytest.approx(average_precision_score(lesion, values), abs=1e-6)
    assert found["auroc"]["value"] == pytest.approx(roc_auc_score(lesion, values), abs=1e-6)
    assert found["prevalence"]["value"] == pytest.approx(lesion.mean(), abs=1e-6)
    oracle = max(f1_score(lesion, values >= threshold) for threshold in np.unique(values))
    assert found["dice_oracle"]["value"] == pytest.approx(oracle, abs=1e-6)


def test_no_slice_has_a_mean_of_its_own():
    test = cohort(0)
    slices = [(x.values[z][x.brain[z]], (x.lesion & x.brain)[z][x.brain[z]]) for x in test for z in range(3)]
    by_slice = np.mean([average_precision_score(lesion, values) for values, lesion in slices if lesion.any()])
    assert abs(measured(test, cohort(1))["average_precision"]["value"] - by_slice) > 0.02


def test_the_dice_threshold_is_the_best_of_validation():
    test, val = cohort(0), cohort(1)
    values, lesion = flat(val)
    dice = [f1_score(lesion, values >= threshold) for threshold in np.unique(values)]
    threshold = pixels.fit_pixel_thresholds(val, NONE)["dice"]["value"]
    assert f1_score(lesion, values >= np.float32(threshold)) == pytest.approx(max(dice))
    values, lesion = flat(test)
    expected = f1_score(lesion, values >= np.float32(threshold))
    found = measured(test, val)
    assert found["dice"]["value"] == pytest.approx(expected, abs=1e-6) and expected < found["dice_oracle"]["value"]


def test_of_the_dice_of_patients_each_counts_alike():
    """One without a lesion has none; a patient who was drawn twice counts twice."""
    test, val = cohort(0), cohort(1)
    threshold = np.float32(pixels.fit_pixel_thresholds(val, NONE)["dice"]["value"])
    whose = [flat([x for x in test if x.patient == name]) for name in PATIENTS]
    a, b, c = (f1_score(lesion, values >= threshold, zero_division=0) for values, lesion in whose)
    assert c == 0 and not whose[2][1].any()
    assert measured(test, val)["dice_by_patient"]["value"] == pytest.approx((a + b) / 2, abs=1e-6)
    tables = pixels._by_patient([processed(x, NONE) for x in test], np.array([threshold]), NONE, PATIENTS)
    found = pixels._dice_by_patient(tables, np.array([[1.0, 2, 5], [0, 1, 1], [0, 0, 1]]))[:, 0]
    np.testing.assert_allclose(found, [(a + 2 * b) / 3, b, np.nan], atol=1e-6)


def test_a_threshold_of_5_percent_false_positives_is_the_lowest_on_healthy_validation_slices():
    test, val = cohort(0), cohort(1, shape=(3, 20, 20))
    threshold = pixels.fit_pixel_thresholds(val, NONE)["fpr_5"]["value"]
    healthy = np.concatenate([x.values[0][x.brain[0]] for x in val])
    assert (healthy >= threshold).mean() <= 0.05
    assert (healthy >= np.nextafter(np.float16(threshold), np.float16(-np.inf))).mean() > 0.05
    found = measured(test, val)
    values, lesion = flat(test)
    assert found["dice_at_5_fpr"]["value"] == pytest.approx(f1_score(lesion, values >= threshold), abs=1e-6)
    healthy = np.concatenate([x.values[0][x.brain[0]] for x in test])
    assert found["fpr_at_5_fpr"]["value"] == pytest.approx((healthy >= threshold).mean(), abs=1e-6)


def test_lesions_of_the_test_split_move_no_threshold():
    val = cohort(1)
    blind = [x._replace(lesion=np.zeros_like(x.lesion)) for x in val]
    fitted, without = pixels.fit_pixel_thresholds(val, NONE), pixels.fit_pixel_thresholds(blind, NONE)
    assert fitted["fpr_5"] == without["fpr_5"]  # needs none
    assert fitted["dice"]["value"] is not None and without["dice"]["value"] is None


def test_nothing_outside_the_brain_counts():
    test, val = cohort(0), cohort(1)
    spoilt = [x._replace(values=np.where(x.brain, x.values, np.float16(99)), lesion=x.lesion | ~x.brain) for x in test]
    for settings in (NONE, ALL):
        assert measured(spoilt, val, settings) == measured(test, val, settings)


def test_the_eroded_rim_is_judged_and_never_called():
    test = [x._replace(brain=np.ones_like(x.brain)) for x in cohort(0)]
    found = measured(test, test, NONE._replace(steps=("erode",)))
    kept = np.zeros((8, 8), bool)
    kept[1:7, 1:7] = True
    values = np.concatenate([np.where(kept, x.values, -100).ravel() for x in test])
    lesion = np.concatenate([x.lesion.ravel() for x in test])
    assert found["average_precision"]["value"] == pytest.approx(average_precision_score(lesion, values), abs=1e-6)
    assert found["auroc"]["value"] == pytest.approx(roc_auc_score(lesion, values), abs=1e-6)
    oracle = max(f1_score(lesion, values >= threshold) for threshold in np.unique(values)[1:])
    assert found["dice_oracle"]["value"] == pytest.approx(oracle, abs=1e-6)


def test_patients_are_counted_as_often_as_they_are_drawn():
    test, weight = cohort(0), np.array([2, 0, 1])
    copies = {"a": 2, "b": 0, "c": 1}
    copied = [x for x in test for _ in range(copies[x.patient])]
    for settings in (NONE, ALL):
        same = [processed(x, settings) for x in test]
        fitted = pixels.fit_pixel_thresholds(same, settings)
        found = pixels.of_pixels(same, fitted, settings, drawn(np.stack([weight] * 4)))
        again = pixels.of_pixels([processed(x, settings) for x in copied], fitted, settings, drawn())
        for name, value in again.items():
            assert found[name]["low"] == found[name]["high"] == pytest.approx(value["value"], abs=2e-6), name


def test_a_single_patient_has_values_and_no_interval():
    test = [x for x in cohort(0) if x.patient == "a"]
    found = measured(test, cohort(1), weights=np.zeros((0, 1), int), patients=np.array(["a"]))
    assert all(x["value"] is not None and x["low"] is None and x["high"] is None for x in found.values())


def test_without_a_lesion_there_is_a_reason_and_no_number():
    healthy = [x._replace(lesion=np.zeros_like(x.lesion)) for x in cohort(0)]
    found = measured(healthy, cohort(1), weights=np.ones((20, 3), int))
    for name in ("average_precision", "auroc", "dice_oracle", "dice", "dice_at_5_fpr"):
        assert found[name] == {"value": None, "low": None, "high": None, "reason": pixels.NO_LESION}
    assert found["prevalence"]["value"] == 0 and found["fpr_at_5_fpr"]["value"] > 0
    json.dumps(found, allow_nan=False)


def test_what_validation_lacks_is_named():
    test, val = cohort(0), cohort(1)
    assert measured(test, [])["dice"] == measured(test, [])["fpr_at_5_fpr"]
    assert measured(test, [])["dice"] == {"value": None, "low": None, "high": None, "reason": pixels.NO_MAPS}
    assert measured(test, [])["average_precision"] == measured(test, val)["average_precision"]
    ill = [x._replace(healthy=np.zeros_like(x.healthy)) for x in val]
    assert measured(test, ill)["dice_at_5_fpr"]["reason"] == pixels.NO_HEALTHY
    assert measured(test, ill)["dice"] == measured(test, val)["dice"]
    assert measured(ill, val)["fpr_at_5_fpr"]["reason"] == pixels.NO_HEALTHY
    assert measured(ill, val)["dice_at_5_fpr"]["value"] > 0


def test_a_map_of_which_nothing_is_left_calls_nothing():
    gone = NONE._replace(steps=("erode",), erosion=60.0)
    found = measured(cohort(0), cohort(1), gone)
    assert found["average_precision"]["value"] == pytest.approx(found["prevalence"]["value"])
    assert found["dice_oracle"]["value"] == 0 == found["dice_at_5_fpr"]["value"]
    assert (
        found["dice"]["reason"]
        == pixels.NO_VALUE
        == measured(cohort(0), cohort(1), ALL._replace(erosion=60.0))["dice"]["reason"]
    )


def test_small_components_are_dropped_before_dice_is_counted():
    test = cohort(0)
    kept = NONE._replace(steps=("components",))
    lesion = [x.lesion & x.brain for x in test]
    inside = [processed(x, NONE) for x in test]
    shown = [called_voxels(x, 1.0, kept) for x in inside]
    tables = pixels.confusion(inside, [1.0], kept)[0]
    healthy = sum(x.brain[0].sum() for x in test), sum(found[0].sum() for found in shown)
    both = sum((a & b).sum() for a, b in zip(shown, lesion, strict=True))
    assert tables.tolist() == [both, sum(x.sum() for x in shown), sum(x.sum() for x in lesion), healthy[1], healthy[0]]
    assert tables[1] < pixels.confusion(inside, [1.0], NONE)[0, 1]


def test_with_components_dropped_the_threshold_is_the_best_and_the_oracle_a_bound():
    test, val = ([processed(x, NONE) for x in cohort(seed, shape=(4, 12, 12))] for seed in (0, 1))
    kept = NONE._replace(steps=("components",))

    def dice(volumes, threshold):
        both, found, lesion, *_ = pixels.confusion(volumes, [threshold], kept)[0]
        return 2 * both / (found + lesion)

    fitted = pixels.fit_pixel_thresholds(val, kept)
    best = max(dice(val, level) for level in pixels.cuts(val, 1.0))
    assert (
        dice(val, fitted["dice"]["value"]) == best > dice(val, pixels.fit_pixel_thresholds(val, NONE)["dice"]["value"])
    )
    found = pixels.of_pixels(test, fitted, kept, drawn())
    tried = [*pixels.cuts(test, 1.0), fitted["dice"]["value"], fitted["fpr_5"]["value"]]
    assert found["dice"]["value"] == pytest.approx(dice(test, fitted["dice"]["value"]), abs=1e-6)
    assert found["dice_oracle"]["value"] == pytest.approx(max(dice(test, x) for x in tried), abs=1e-6)
    without = pixels.of_pixels(test, fitted, NONE, drawn())
    for name in ("average_precision", "auroc", "prevalence"):
        assert found[name] == without[name]


def test_maps_are_the_systems_and_those_that_need_no_network():
    image = np.arange(8, dtype=np.float16).reshape(1, 4, 2)
    kept = {name: image + i for i, name in enumerate((*pixels.OWN, *pixels.WITHOUT), 1)}
    arrays = {"image": image, "brain": np.ones((1, 4, 2), bool)} | kept
    found = {name: pixels.map_values(name, arrays).tolist() for name in pixels.MAPS}
    assert found["map"] == (image + 1).tolist() and found["trivial_brightness"] == image.tolist()
    assert found["raw_map"] == (image + 2).tolist() and found["trivial_asymmetry"] == (image + 5).tolist()
    assert found["trivial_mirror"] == [[[6, 6], [2, 2], [2, 2], [6, 6]]]


def gamma(patients=20, size=5000):
    """Map values and lesions `[P, M]`: rare lesions, brighter in the mean, in patients of different brightness."""
    rng = np.random.default_rng(0)
    values = rng.gamma(2, rng.uniform(0.1, 0.3, (patients, 1)), (patients, size)).astype(np.float32)
    lesion = rng.random(values.shape) < 0.02 * rng.random((patients, 1))
    values[lesion] += rng.gamma(2, 0.5, lesion.sum())
    values[:, :200] = 0  # ties
    return values, lesion


def counted(values, lesion, edge):
    """Histograms of patients with values and lesions `[P, M]`."""
    return np.stack([binned(ranks(x), y, bins(edge)) for x, y in zip(values, lesion, strict=True)])


def all_edges(values):
    return edges(np.bincount(ranks(values).ravel(), minlength=RANKS))


def test_histograms_keep_what_scikit_learn_finds_in_many_pixels():
    values, lesion = gamma()
    edge = all_edges(values)
    counts = counted(values, lesion, edge)
    assert counts.shape == (20, 2, len(edge) + 1) and counts.sum() == values.size and len(edge) <= 4096
    weights = np.stack([np.ones(20, int), np.random.default_rng(1).integers(0, 3, 20)])
    found = measures(counts, weights)
    for place, weight in enumerate(weights):
        repeated = np.repeat(weight, values.shape[1])
        for metric, of in (("average_precision", average_precision_score), ("auroc", roc_auc_score)):
            expected = of(lesion.ravel(), values.ravel(), sample_weight=repeated)
            assert 0.2 < expected < 0.95 and found[metric][place] == pytest.approx(expected, rel=1e-3)
        assert found["prevalence"][place] == pytest.approx(np.average(lesion.ravel(), weights=repeated))
    order = np.argsort(-values.ravel())
    true = lesion.ravel()[order].cumsum()
    best = (2 * true / (1 + np.arange(values.size) + true[-1])).max()
    assert found["dice_oracle"][0] == pytest.approx(best, rel=1e-3)


def test_histograms_resolve_the_top_where_even_bins_do_not():
    values, lesion = gamma()
    values[0, 1000:1010], lesion[0, 1000:1010] = np.linspace(90, 100, 10), np.arange(10) % 2 == 0
    even = ranks(np.unique(np.quantile(values, np.linspace(0, 1, 256))))
    top = average_precision_score(lesion.ravel(), values.ravel())
    first, second = (
        measures(counted(values, lesion, edge), np.ones((1, 20)))["average_precision"][0]
        for edge in (all_edges(values), even)
    )
    assert abs(first - top) < 1e-3 < 1e-2 < abs(second - top)


def test_a_value_on_an_edge_lies_above_it_and_what_cannot_be_called_below_all():
    counts = binned(ranks(np.array([0.1, 0.5, 0.9])), np.array([False, False, True]), bins(ranks(np.array([0.5]))))
    assert counts.tolist() == [[1, 1], [0, 1]]
    edge = all_edges(np.array([-np.inf, 3.0, -1.0, -np.inf, 2.0]))
    assert values_of(edge).tolist() == [-1, 2, 3]
    counts = binned(ranks(np.array([-np.inf, -1.0])), np.zeros(2, bool), bins(edge))
    assert counts[0].tolist() == [1, 1, 0, 0]


def test_ranks_are_in_the_order_of_the_numbers():
    numbers = np.arange(RANKS, dtype=np.uint16).view(np.float16)
    numbers = np.sort(numbers[~np.isnan(numbers)])
    rank = ranks(numbers)
    assert ((np.diff(rank.astype(int)) > 0) == (np.diff(numbers.astype(float)) > 0)).all() and rank[0] == NEVER
    assert (values_of(rank) == numbers).all() and ranks(np.array(-0.0)) == ranks(np.array(0.0))


@pytest.mark.parametrize("threshold", [0.1, 1 / 3, 1.0, -0.7, 2.0000001, 0.0])
def test_a_threshold_between_numbers_is_reached_from_the_next_on(threshold):
    near = np.float16(threshold)
    for value in (near, np.nextafter(near, np.float16(9)), np.nextafter(near, np.float16(-9))):
        assert (ranks(value) >= lowest_rank(threshold)) == (float(value) >= threshold)


def test_replicates_in_blocks_are_the_same_replicates():
    counts, weights = pixels.histograms(cohort(0), PATIENTS), np.random.default_rng(0).integers(0, 3, (150, 3))
    whole, rows = measures(counts, weights), [measures(counts, weight[None]) for weight in weights]
    assert all(np.array_equal(x, [row[name][0] for row in rows], equal_nan=True) for name, x in whole.items())


def run_with_maps(folder, **changed):
    """Files of a run with four patients of five slices each in either split, and its score table and config."""
    (folder / "embeddings").mkdir()
    rng, tables = np.random.default_rng(0), []
    for place, split in enumerate(("val", "test")):
        shape, index = (20, 12, 12), 20 * place + np.arange(20)
        lesion = rng.random(shape) < 0.05 * (np.arange(20) >= 10)[:, None, None]
        image, brain = rng.random(shape).astype(np.float16), rng.random(shape) < 0.9
        arrays = {"index": index, "image": image, "map": image + lesion.astype(np.float16) / 2}
        arrays |= dict.fromkeys((*pixels.OWN, *pixels.WITHOUT), arrays["map"])
        arrays |= {"brain": brain, "lesion": lesion} | changed
        save_arrays(folder / "embeddings" / f"{split}.npz", {k: x for k, x in arrays.items() if x is not None})
        about = {"patient": np.repeat([f"{split}{x}" for x in "dbca"], 5), "session": "", "slice": index % 5}
        about |= {"lesion_mm2": 9.0 * lesion.sum((1, 2)), "label": np.where(lesion.any((1, 2)), "abnormal", "healthy")}
        tables.append(pd.DataFrame(about, index))
    config = base()
    config.evaluation.replicates = 50
    return folder, pd.concat(tables), config


def test_the_measures_of_a_run_are_those_of_its_report(tmp_path):
    workdir, table, config = run_with_maps(tmp_path)
    config.evaluation.postprocess = ("erode",)
    found, made = maps.of_maps(workdir, table, config), maps.map_metrics(workdir, table, config, pixels.MAPS)
    assert tuple(made) == pixels.MAPS == tuple(found["pixel"])
    for name, of in made.items():
        assert of.patients.tolist() == ["testa", "testb", "testc", "testd"]
        weights = patient_weights(of.patients, 50, config.seed).patient_weight
        for level in ("pixel", "lesion"):
            for measure, metric in getattr(of, level).items():
                assert found[level][name][measure] == as_json(interval(metric, weights))
    assert set(made["map"].pixel) == {"average_precision", "dice"} and set(made["map"].lesion) == {"froc_mean"}


@pytest.mark.parametrize("lacking", [{"map": None}, {"lesion": np.zeros((20, 12, 12), bool)}])
def test_a_run_without_a_map_or_a_lesion_has_no_measures_of_it(tmp_path, lacking):
    run = run_with_maps(tmp_path, **lacking)
    assert maps.map_metrics(*run, pixels.MAPS) == {} == maps.of_maps(*run)

"""How well a map finds the pixels of lesions, over all judged brain pixels of all scans at once.

Pixels are counted, in integers, one histogram or table a patient, which a bootstrap over patients adds up; no slice or
scan has a mean of its own. Thresholds come from the validation split and are taken as fixed.
"""

import numpy as np

from symnorm_jax.evaluation import histograms as counting
from symnorm_jax.evaluation.histograms import NEVER, RANKS, from_the_top, ranks, values_of
from symnorm_jax.evaluation.postprocess import MapStack, PostProcessing, Stacks, called_voxels
from symnorm_jax.scoring.embed import Arrays, mirror_difference
from symnorm_jax.statistics.intervals import Interval, Metric, Resamples, Values, as_json, interval
from symnorm_jax.statistics.metrics import ratio

OWN = ("map", "raw_map")  # of the system: standardised, and as its networks make them
WITHOUT = ("trivial_intensity", "trivial_intensity_by_position", "trivial_asymmetry")  # a network, kept beside them
TRIVIAL_MAPS = ("trivial_brightness", "trivial_mirror", *WITHOUT)
MAPS = (*OWN, *TRIVIAL_MAPS)
ALLOWED = 0.05  # share of the healthy brain that may be called abnormal at the threshold `fpr_5`
CUTS = 40  # thresholds at which components are looked for
NO_MAPS = "The validation split has no maps."
NO_VALUE = "Nothing is left of the maps that could be called."
NO_HEALTHY = "No slice is labelled healthy."
NO_LESION = "No lesion is drawn, or none that is judged."
NOTHING = Interval(np.nan, np.nan, np.nan)

Array = np.ndarray
Thresholds = dict[str, dict]  # {"dice" | "fpr_5": {"value", "origin"} and, where there is no value, {"reason"}}


def map_values(name: str, arrays: Arrays) -> Array:
    """Give one of MAPS, `[N, *S]`, from the arrays of a split."""
    if name == "trivial_mirror":
        return mirror_difference(arrays["image"].astype(np.float32), arrays["brain"])
    return arrays["image" if name == "trivial_brightness" else name]


def maps_in(arrays: Arrays, names: tuple[str, ...] = MAPS) -> list[str]:
    """List those of MAPS that a split has, or whose values its images give; a map of volumes has none without it."""
    return [name for name in names if name in arrays or name in ("trivial_brightness", "trivial_mirror")]


def of_pixels(test: Stacks, thresholds: Thresholds, settings: PostProcessing, drawn: Resamples) -> Values:
    """Measure the pixels of processed scans: `{measure: values}`, with 95 % intervals over the patients `drawn`.

    `dice_oracle` is the best Dice of any threshold, chosen on test and in each replicate anew: a bound, not a result.
    Others have the thresholds of `fit_pixel_thresholds`; `fpr_at_5_fpr` is the share of healthy pixels called, and
    `dice_by_patient` the mean of patients, each of whom counts alike.
    Components are dropped in these alone, of binary maps; the oracle then tries the `cuts` and the fitted thresholds.
    """
    weights = np.concatenate([np.ones((1, len(drawn.patients))), drawn.patient_weight])
    counted = counting.measures(histograms(test, drawn.patients), weights)
    found = {name: as_json(bounded(values), NO_LESION) for name, values in counted.items()}
    fitted = [at["value"] for at in thresholds.values() if at["value"] is not None]
    if "components" in settings.steps:
        tables = _by_patient(test, np.append(cuts(test, 1.0), fitted), settings, drawn.patients)
        best = interval(lambda weight: _dice(tables, weight).max(-1, initial=0), drawn.patient_weight)
        found["dice_oracle"] = as_json(best, NO_LESION)
    at_one = {value: _by_patient(test, np.array([value]), settings, drawn.patients) for value in set(fitted)}
    for name, rule, of, why in (
        ("dice", "dice", _dice, NO_LESION),
        ("dice_by_patient", "dice", _dice_by_patient, NO_LESION),
        ("dice_at_5_fpr", "fpr_5", _dice, NO_LESION),
        ("fpr_at_5_fpr", "fpr_5", _false_positive_rate, NO_HEALTHY),
    ):
        at = thresholds[rule]
        if at["value"] is None:
            found[name] = as_json(NOTHING, at["reason"])
        else:
            tables = at_one[at["value"]]
            found[name] = as_json(interval(lambda w, t=tables, of=of: of(t, w)[..., 0], drawn.patient_weight), why)
    return found


def pixel_metrics(test: Stacks, threshold: dict, settings: PostProcessing, patients: Array) -> dict[str, Metric]:
    """Make `average_precision` and, at one of `fit_pixel_thresholds`, `dice` of scans, for weights of patients."""
    counts = histograms(test, patients)
    found = {"average_precision": lambda weight: counting.measures(counts, weight)["average_precision"]}
    if threshold["value"] is not None:
        tables = _by_patient(test, np.array([threshold["value"]]), settings, patients)
        found["dice"] = lambda weight: _dice(tables, weight)[..., 0]
    return found


def fit_pixel_thresholds(val: Stacks, settings: PostProcessing) -> Thresholds:
    """Fit the thresholds `dice` and `fpr_5` to processed validation scans; None, with a reason, of nothing to fit on.

    `dice` is the best of the `cuts` after small components have been dropped, if they go, else the best of all. `fpr_5`
    is the lowest at which no more than 5 % of the brain pixels of healthy slices are called, before components go.
    """
    if not val:
        return dict.fromkeys(("dice", "fpr_5"), {"value": None, "origin": "val", "reason": NO_MAPS})
    counts, healthy = census(val), census([x._replace(brain=x.brain & x.healthy[:, None, None]) for x in val]).sum(0)
    if "components" in settings.steps:
        tried = cuts(val, 1.0)
        reached = _dice(confusion(val, tried, settings)[None], np.ones(1))
    else:
        there = (counts.sum(0) > 0) & (np.arange(RANKS) > NEVER)
        tried = values_of(np.flatnonzero(there)[::-1])
        true, shown = (x[::-1].cumsum()[there[::-1]] for x in (counts[1], counts.sum(0)))
        reached = 2 * true / (shown + counts[1].sum())
    best = float(tried[np.argmax(reached)]) if counts[1].any() and len(tried) else None
    above = from_the_top(healthy, int(ALLOWED * healthy.sum()) + 1) + 1  # the lowest rank that so few reach
    few = float(values_of(above)) if healthy.any() else None
    why = NO_VALUE if counts[1].any() else NO_LESION
    found = {}
    for name, value, reason in (("dice", best, why), ("fpr_5", few, NO_HEALTHY)):
        found[name] = {"value": value, "origin": "val"} | ({"reason": reason} if value is None else {})
    return found


def cuts(stacks: Stacks, reach: float) -> Array:
    """Choose at most CUTS thresholds, from the highest, that call a tenth of a voxel a scan to a share `reach`."""
    counts = census(stacks).sum(0)
    most = max(int(reach * counts.sum()), 1)
    numbers = np.geomspace(min(max(len(stacks) // 10, 1), most), most, CUTS).astype(int)
    chosen = np.unique(from_the_top(counts, numbers))[::-1]
    reached = counts[::-1].cumsum()[RANKS - 1 - chosen]
    return values_of(chosen[(reached <= most) & (chosen > NEVER)]).astype(float)


def confusion(stacks: Stacks, thresholds: Array, settings: PostProcessing) -> Array:
    """Count `[T, 5]` pixels at thresholds `[T]`: lesion and called, called, lesion, healthy and called, healthy."""
    total = np.zeros((len(thresholds), 5), int)
    for stack in stacks:
        lesion, healthy = stack.lesion & stack.brain, stack.brain & stack.healthy[:, None, None]
        for place, threshold in enumerate(thresholds):
            shown = called_voxels(stack, threshold, settings)
            total[place] += [np.count_nonzero(x) for x in (shown & lesion, shown, lesion, shown & healthy, healthy)]
    return total


def census(stacks: Stacks) -> Array:
    """Count the judged pixels of processed scans, without and with lesion, by the rank of their value: `[2, RANKS]`."""
    every = np.arange(RANKS)
    return sum((_binned(stack, every) for stack in stacks), np.zeros((2, RANKS), int))


def histograms(stacks: Stacks, patients: Array) -> Array:
    """Count the pixels of each of the patients in histograms `[P, 2, bins]` int, all with the same edges."""
    place = counting.bins(counting.edges(census(stacks).sum(0)))
    counts = np.zeros((len(patients), 2, place[-1] + 1), int)
    for stack in stacks:
        counts[patients == stack.patient] += _binned(stack, place)
    return counts


def bounded(values: Array) -> Interval:
    """Make an interval of a measure's values `[1 + R]`: of the cohort itself, then of the replicates."""
    return interval(lambda _: values, np.empty((len(values) - 1, 1)))


def _binned(stack: MapStack, place: Array) -> Array:
    return counting.binned(ranks(stack.values[stack.brain]), stack.lesion[stack.brain], place)


def _by_patient(stacks: Stacks, thresholds: Array, settings: PostProcessing, patients: Array) -> Array:
    theirs = ([stack for stack in stacks if stack.patient == patient] for patient in patients)
    return np.stack([confusion(own, thresholds, settings) for own in theirs])


def _dice(tables: Array, weight: Array) -> Array:
    """Dice `[..., T]` from the tables `[P, T, 5]` of `confusion`."""
    both, shown, lesion, _, _ = np.moveaxis(np.tensordot(weight, tables, 1), -1, 0)
    return ratio(np.where(lesion > 0, 2 * both, np.nan), shown + lesion)


def _dice_by_patient(tables: Array, weight: Array) -> Array:
    """Mean over the patients with a lesion of the Dice of each, `[..., T]`, as studies of segmentation give it."""
    both, shown, lesion, _, _ = np.moveaxis(tables, -1, 0)
    there = lesion > 0
    return ratio(weight @ np.where(there, 2 * both / np.maximum(shown + lesion, 1), 0), weight @ there)


def _false_positive_rate(tables: Array, weight: Array) -> Array:
    return ratio(*np.moveaxis(np.tensordot(weight, tables[..., 3:], 1), -1, 0))

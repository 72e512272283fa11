"""How well a map finds the pixels of lesions, over all judged brain pixels of all scans at once.

No slice and no scan has a mean of its own: what is counted are pixels, in integers, one histogram or table a patient,
which a bootstrap over patients adds up. Thresholds come from the validation split and are taken as fixed.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from symnorm_jax.evaluation.histograms import (
    NEVER,
    RANKS,
    binned,
    bins,
    edges,
    from_the_top,
    measures,
    ranks,
    ratio,
    values_of,
)
from symnorm_jax.evaluation.postprocess import STEPS, PostProcessing, Volume, called, cut, judged, taken
from symnorm_jax.scoring.embed import Arrays
from symnorm_jax.scoring.trivial import mirror_difference
from symnorm_jax.statistics.intervals import Interval, interval

MAPS = ("map", "trivial_brightness", "trivial_mirror")  # the system's, and two that need no training
ALLOWED = 0.05  # share of the healthy brain that may be called abnormal at the threshold `fpr_5`
ROWS = ("none", "+erode", "+median", "+components")  # of the table of steps, each with all steps before it
SHOWN = ("average_precision", "dice", "dice_at_5_fpr")  # its columns
LEVELS = 40  # thresholds at which components are looked for
NO_MAPS = "The validation split has no maps."
NO_HEALTHY = "No slice is labelled healthy."
NO_LESION = "No lesion is drawn, or none that is judged."
NO_VALUE = "Nothing is left of the maps that could be called."
NOTHING = Interval(np.nan, np.nan, np.nan)

Found = dict[str, float | str | None]  # {"value", "low", "high"} and, where there is no value, {"reason"}
Thresholds = dict[str, dict]  # {"dice" | "fpr_5": {"value", "origin"} and, where there is no value, {"reason"}}


def map_values(name: str, arrays: Arrays) -> np.ndarray:
    """One of MAPS, `[N, X, Y]`, from `image`, `map` and `brain` of the arrays of a split."""
    if name == "trivial_mirror":
        return mirror_difference(arrays["image"].astype(np.float32), arrays["brain"])
    return arrays["map" if name == "map" else "image"]


def of_pixels(
    test: list[Volume], thresholds: Thresholds, settings: PostProcessing, patients: np.ndarray, weights: np.ndarray
) -> dict[str, Found]:
    """`{metric: {"value", "low", "high"}}` of processed scans, with 95 % intervals over replicates of the patients.

    `patients` `[P]` are the names, and `weights` `[R, P]` how often each counts. `prevalence` is the average precision
    of knowing nothing. `dice_oracle` is the best Dice of any threshold, chosen on the test split and in each replicate
    anew: a bound, not a result. `dice` and `dice_at_5_fpr` have the thresholds of `fit_pixel_thresholds`;
    `fpr_at_5_fpr` is the share of healthy test pixels called at the latter. Components are dropped in these, which are
    of binary maps, and in no other; with that step the oracle tries the `levels` and the fitted thresholds alone.
    """
    drawn = np.concatenate([np.ones((1, len(patients))), weights])
    found = {name: bounded(values) for name, values in measures(histograms(test, patients), drawn).items()}
    if "components" in settings.steps:
        fitted = [at["value"] for at in thresholds.values() if at["value"] is not None]
        tables = _by_patient(partial(_confusions, np.append(levels(test, 1.0), fitted), settings), test, patients)
        found["dice_oracle"] = interval(lambda weight: _dice(tables, weight).max(-1, initial=0), weights)
    found = {name: plain(value, NO_LESION) for name, value in found.items()}
    return found | _at_thresholds(test, thresholds, settings, patients, weights)


def of_steps(
    test: list[Volume],
    val: list[Volume],
    settings: PostProcessing,
    patients: np.ndarray,
    weights: np.ndarray,
    known: dict[str, Found],
) -> dict[str, dict[str, Found]]:
    """What each step does: `{row: {metric: ...}}` for ROWS and SHOWN, from scans as they are, with all STEPS in turn.

    Thresholds are fitted for each row. The average precision of the last row is that of the row before it: to drop
    components leaves the order of the pixels as it is. `known` is what `of_pixels` found with the settings' own steps.
    """
    rows, scans = {}, [[cut(volume) for volume in part] for part in (test, val)]
    for count, row in enumerate(ROWS):
        only = settings._replace(steps=STEPS[:count])
        if count and row != ROWS[-1]:
            scans = [[taken(STEPS[count - 1], volume, settings) for volume in part] for part in scans]
        found = known if only.steps == tuple(settings.steps) else _of_row(scans, only, patients, weights)
        rows[row] = {name: found[name] for name in SHOWN}
    return rows


def fit_pixel_thresholds(val: list[Volume], settings: PostProcessing) -> Thresholds:
    """Thresholds of processed validation scans: `dice` has their best Dice, and `fpr_5` calls the healthy at most 5 %.

    `dice` is the best of the `levels` after small components have been dropped, if they go, else the best of all.
    `fpr_5` is the lowest at which no more than 5 % of the brain pixels of slices labelled healthy are called, before
    components go; it needs no lesion. The value is None, with a reason, where there is nothing to fit on: no scans,
    no lesion, no healthy slice.
    """
    if not val:
        return dict.fromkeys(("dice", "fpr_5"), _threshold(None, NO_MAPS))
    counts, healthy = census(val), census([x._replace(brain=x.brain & x.healthy[:, None, None]) for x in val])
    if "components" in settings.steps:
        tried = levels(val, 1.0)
        reached = _dice(_confusions(tried, settings, val)[None], np.ones(1))
    else:
        there = (counts.sum(0) > 0) & (np.arange(RANKS) > NEVER)
        tried = values_of(np.flatnonzero(there)[::-1])
        true, called = (x[::-1].cumsum()[there[::-1]] for x in (counts[1], counts.sum(0)))
        reached = 2 * true / (called + counts[1].sum())
    best = float(tried[np.argmax(reached)]) if counts[1].any() and len(tried) else None
    few = _rarely_reached(healthy.sum(0)) if healthy.any() else None
    return {"dice": _threshold(best, NO_VALUE if counts[1].any() else NO_LESION), "fpr_5": _threshold(few, NO_HEALTHY)}


def levels(volumes: list[Volume], reach: float) -> np.ndarray:
    """Thresholds `[T]` of processed scans, highest first, at most LEVELS, with equal ratios of what they call.

    The highest calls a tenth of a voxel a scan, or one voxel; none calls more than a share `reach` of the brain.
    """
    counts = census(volumes).sum(0)
    most = max(int(reach * counts.sum()), 1)
    numbers = np.geomspace(min(max(len(volumes) // 10, 1), most), most, LEVELS).astype(int)
    chosen = np.unique(from_the_top(counts, numbers))[::-1]
    reached = counts[::-1].cumsum()[RANKS - 1 - chosen]
    return values_of(chosen[(reached <= most) & (chosen > NEVER)]).astype(float)


def confusion(volumes: list[Volume], threshold: float, settings: PostProcessing) -> np.ndarray:
    """Pixels `[5]` int of processed scans: lesion and called, called, lesion, healthy and called, healthy."""
    total = np.zeros(5, int)
    for volume in volumes:
        found, lesion = called(volume, threshold, settings), volume.lesion & volume.brain
        healthy = volume.brain & volume.healthy[:, None, None]
        total += [np.count_nonzero(x) for x in (found & lesion, found, lesion, found & healthy, healthy)]
    return total


def census(volumes: list[Volume]) -> np.ndarray:
    """How many judged pixels of processed scans, without and with lesion, have each value, `[2, RANKS]` int."""
    total = np.zeros((2, RANKS), int)
    for volume in volumes:
        rank, lesion = ranks(volume.values[volume.brain]), volume.lesion[volume.brain]
        total += np.bincount(rank + RANKS * lesion, minlength=2 * RANKS).reshape(2, RANKS)
    return total


def histograms(volumes: list[Volume], patients: np.ndarray) -> np.ndarray:
    """Histograms `[P, 2, bins]` int of the pixels of each of the patients, all with the same edges."""
    place = bins(edges(census(volumes).sum(0)))
    counts = np.zeros((len(patients), 2, place[-1] + 1), int)
    for volume in volumes:
        rank, lesion = ranks(volume.values[volume.brain]), volume.lesion[volume.brain]
        counts[patients == volume.patient] += binned(rank, lesion, place)
    return counts


def plain(found: Interval, reason: str) -> Found:
    """An interval as JSON, which has no NaN; without a value there is the reason."""
    numbers = {name: None if np.isnan(x) else round(float(x), 6) for name, x in found._asdict().items()}
    return numbers | ({"reason": reason} if numbers["value"] is None else {})


def bounded(values: np.ndarray) -> Interval:
    """The interval of a metric from its values `[1 + R]`, that of the cohort itself before those of the replicates."""
    return interval(lambda _: values, np.empty((len(values) - 1, 1)))


def _of_row(
    scans: list[list[Volume]], settings: PostProcessing, patients: np.ndarray, weights: np.ndarray
) -> dict[str, Found]:
    """SHOWN of test and validation scans after steps that have been taken."""
    test, val = ([judged(volume) for volume in part] for part in scans)
    found = measures(histograms(test, patients), np.concatenate([np.ones((1, len(patients))), weights]))
    average = plain(bounded(found["average_precision"]), NO_LESION)
    fitted = fit_pixel_thresholds(val, settings)
    return {"average_precision": average} | _at_thresholds(test, fitted, settings, patients, weights)


def _at_thresholds(
    test: list[Volume], thresholds: Thresholds, settings: PostProcessing, patients: np.ndarray, weights: np.ndarray
) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for rule, measured in (
        ("dice", {"dice": (_dice, NO_LESION)}),
        ("fpr_5", {"dice_at_5_fpr": (_dice, NO_LESION), "fpr_at_5_fpr": (_false_positive_rate, NO_HEALTHY)}),
    ):
        at = thresholds[rule]
        if at["value"] is None:
            found |= dict.fromkeys(measured, plain(NOTHING, at["reason"]))
            continue
        tables = _by_patient(partial(confusion, threshold=at["value"], settings=settings), test, patients)
        found |= {name: plain(interval(partial(of, tables), weights), why) for name, (of, why) in measured.items()}
    return found


def _by_patient(of: Callable, volumes: list[Volume], patients: np.ndarray) -> np.ndarray:
    """What `of` gives for the scans of each patient, `[P, ...]`."""
    return np.stack([of([volume for volume in volumes if volume.patient == patient]) for patient in patients])


def _threshold(value: float | None, reason: str) -> dict:
    return {"value": value, "origin": "val"} | ({"reason": reason} if value is None else {})


def _rarely_reached(counts: np.ndarray) -> float:
    """The lowest number in half precision that at most a share ALLOWED of the pixels counted `[RANKS]` reaches."""
    return float(values_of(from_the_top(counts, int(ALLOWED * counts.sum()) + 1) + 1))


def _confusions(thresholds: np.ndarray, settings: PostProcessing, volumes: list[Volume]) -> np.ndarray:
    return np.array([confusion(volumes, threshold, settings) for threshold in thresholds]).reshape(-1, 5)


def _dice(tables: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Dice `[...]` or `[..., T]` from the tables `[P, 5]` or `[P, T, 5]` of `confusion`."""
    both, found, lesion, _, _ = np.moveaxis(np.tensordot(weight, tables, 1), -1, 0)
    return ratio(np.where(lesion > 0, 2 * both, np.nan), found + lesion)


def _false_positive_rate(tables: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return ratio(*np.moveaxis(weight @ tables[:, 3:], -1, 0))

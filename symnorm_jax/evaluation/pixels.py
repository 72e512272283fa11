"""How well a map finds the pixels of lesions, over all judged brain pixels of all scans at once.

No slice and no scan has a mean of its own: what is counted are pixels, in integers, one histogram or table a patient,
which a bootstrap over patients adds up. Thresholds come from the validation split and are taken as fixed.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.intervals import Interval, interval
from symnorm_jax.evaluation.postprocess import STEPS, PostProcessing, Volume, called, processed
from symnorm_jax.scoring.embed import Arrays, mirror_difference

MAPS = ("map", "baseline_brightness", "baseline_mirror")  # the system's, and two that need no training
ALLOWED = 0.05  # share of the healthy brain that may be called abnormal at the threshold `fpr_5`
ROWS = ("none", "+erode", "+median", "+components")  # of the table of steps, each with all steps before it
SHOWN = ("average_precision", "dice", "dice_at_5_fpr")  # its columns
LEVELS = 40  # thresholds at which components are looked for
BLOCK = 64  # replicates pooled together; more only costs memory
NO_MAPS = "The validation split has no maps."
NO_HEALTHY = "No slice is labelled healthy."
NO_LESION = "No lesion is drawn, or none that is judged."
NO_VALUE = "Nothing is left of the maps that could be called."
NOTHING = Interval(np.nan, np.nan, np.nan)

Found = dict[str, float | str | None]  # {"value", "low", "high"} and, where there is no value, {"reason"}
Thresholds = dict[str, dict]  # {"dice" | "fpr_5": {"value", "origin"} and, where there is no value, {"reason"}}


def map_values(name: str, arrays: Arrays) -> np.ndarray:
    """One of MAPS, `[N, X, Y]`, from `image`, `map` and `brain` of the arrays of a split."""
    if name == "baseline_mirror":
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
    counts = histograms(test, patients)
    metrics = {
        "average_precision": average_precision_from_counts,
        "auroc": auroc_from_counts,
        "dice_oracle": lambda counts, weight: _dice_from_counts(counts, weight).max(-1, initial=0),
        "prevalence": lambda counts, weight: ratio(*(weight @ x.sum(-1) for x in (counts[:, 1], counts.sum(1)))),
    }
    found = {name: plain(interval(partial(in_blocks, of, counts), weights), NO_LESION) for name, of in metrics.items()}
    if "components" in settings.steps:
        fitted = [at["value"] for at in thresholds.values() if at["value"] is not None]
        tables = _by_patient(partial(_confusions, np.append(levels(test, 1.0), fitted), settings), test, patients)
        found["dice_oracle"] = plain(interval(partial(_best_dice, tables), weights), NO_LESION)
    return found | _at_thresholds(test, thresholds, settings, patients, weights)


def of_steps(
    test: list[Volume], val: list[Volume], settings: PostProcessing, patients: np.ndarray, weights: np.ndarray
) -> dict[str, dict[str, Found]]:
    """What each step does: `{row: {metric: ...}}` for ROWS and SHOWN, from scans as they are, with all STEPS in turn.

    Thresholds are fitted for each row. The average precision of the last row is that of the row before it: to drop
    components leaves the order of the pixels as it is.
    """
    rows = {}
    for taken, row in enumerate(ROWS):
        only = settings._replace(steps=STEPS[:taken])
        fitted = fit_pixel_thresholds([processed(volume, only) for volume in val], only)
        shown = [processed(volume, only) for volume in test]
        average = partial(in_blocks, average_precision_from_counts, histograms(shown, patients))
        found = _at_thresholds(shown, fitted, only, patients, weights)
        found["average_precision"] = plain(interval(average, weights), NO_LESION)
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
    values, lesion, healthy = _pixels(val)
    if "components" in settings.steps:
        tried = levels(val, 1.0)
        reached = _dice(_confusions(tried, settings, val)[None], np.ones(1))
    else:
        tried = pixel_edges(values)[::-1]
        reached = _dice_from_counts(pixel_counts(values, lesion, tried[::-1])[None], np.ones(1))
    best = float(tried[np.argmax(reached)]) if lesion.any() and len(tried) else None
    few = _rarely_reached(values[healthy]) if healthy.any() else None
    return {"dice": _threshold(best, NO_VALUE if lesion.any() else NO_LESION), "fpr_5": _threshold(few, NO_HEALTHY)}


def levels(volumes: list[Volume], reach: float) -> np.ndarray:
    """Thresholds `[T]` of processed scans, highest first, at most LEVELS, with equal ratios of what they call.

    The highest calls a tenth of a voxel a scan, or one voxel; none calls more than a share `reach` of the brain.
    """
    values = np.sort(_pixels(volumes)[0])[::-1]
    most = max(int(reach * len(values)), 1)
    ranks = np.geomspace(min(max(len(volumes) // 10, 1), most), most, LEVELS).astype(int)
    chosen = np.unique(values[ranks[ranks <= len(values)] - 1])[::-1]
    reached = np.searchsorted(-values, -chosen, side="right")
    return chosen[(reached <= most) & np.isfinite(chosen)]


def confusion(volumes: list[Volume], threshold: float, settings: PostProcessing) -> np.ndarray:
    """Pixels `[5]` int of processed scans: lesion and called, called, lesion, healthy and called, healthy."""
    total = np.zeros(5, int)
    for volume in volumes:
        found, brain = called(volume, threshold, settings), volume.brain
        lesion, healthy = volume.lesion & brain, volume.brain & volume.healthy[:, None, None]
        total += [int(x.sum()) for x in (found & lesion, found, lesion, found & healthy, healthy)]
    return total


def histograms(volumes: list[Volume], patients: np.ndarray) -> np.ndarray:
    """Histograms `[P, 2, bins]` float64 of the pixels of each of the patients, all with the same edges."""
    edges = pixel_edges(_pixels(volumes)[0])
    return _by_patient(lambda own: pixel_counts(*_pixels(own)[:2], edges), volumes, patients).astype(float)


def pixel_edges(values: np.ndarray, bins: int = 4096) -> np.ndarray:
    """Ascending edges, at most `bins`, of which each is one of the map values `[M]` and all have one rank ratio.

    Each bin holds the same few thousandths of all that lies at or above it, down to the single largest value: fine
    where a lesion's pixels are few and high. The lowest edge is the least finite value: -inf alone lies below it.
    """
    finite = np.sort(np.asarray(values, np.float32).ravel())
    finite = finite[np.searchsorted(finite, -np.inf, side="right") :]
    above = np.unique(np.ceil(np.geomspace(1, max(len(finite), 1), bins)).astype(int))
    return np.unique(finite[len(finite) - above[above <= len(finite)]])


def pixel_counts(values: np.ndarray, lesion: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Histogram `[2, bins]` int of pixels `[M]`, a value on an edge above it: row 1 where `lesion` `[M]`, else row 0.

    Raises RunError for values that are NaN.
    """
    values, lesion = np.asarray(values, np.float32), np.asarray(lesion, bool)
    if bad := np.isnan(values).sum():
        raise RunError(f"{bad} of {values.size} map pixels are NaN; every brain pixel needs a value.")
    bins = np.searchsorted(edges, values, side="right")
    return np.stack([np.bincount(bins[rows], minlength=len(edges) + 1) for rows in (~lesion, lesion)])


def average_precision_from_counts(counts: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Average precision `[...]` of the pixels in histograms `[P, 2, bins]` of patients that count `[..., P]` times."""
    true, false = _above(counts, weight)
    area = (np.diff(true, prepend=0) * ratio(true, true + false, 0.0)).sum(-1)
    return ratio(area, np.where(false[..., -1] > 0, true[..., -1], 0))


def auroc_from_counts(counts: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The area under the ROC curve of the same, pixels of one bin counting half (Mann-Whitney)."""
    true, false = _above(counts, weight)
    pairs = (np.diff(false, prepend=0) * (true - np.diff(true, prepend=0) / 2)).sum(-1)
    return ratio(pairs, true[..., -1] * false[..., -1])


def plain(found: Interval, reason: str) -> Found:
    """An interval as JSON, which has no NaN; without a value there is the reason."""
    numbers = {name: None if np.isnan(x) else round(float(x), 6) for name, x in found._asdict().items()}
    return numbers | ({"reason": reason} if numbers["value"] is None else {})


def in_blocks(of: Callable, counts: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """`of` the counts for replicates `[R, P]`, a block at a time, for each is as large as a histogram."""
    return np.concatenate([of(counts, weight[start : start + BLOCK]) for start in range(0, len(weight), BLOCK)])


def ratio(part: np.ndarray, whole: np.ndarray, empty: float = np.nan) -> np.ndarray:
    """Part by whole, `empty` where the whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(whole.shape, empty), where=whole > 0)


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


def _pixels(volumes: list[Volume]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, lesion and healthy `[M]` of all judged pixels."""
    healthy = [np.repeat(x.healthy, x.brain.sum((1, 2))) for x in volumes]
    parts = [x.values[x.brain] for x in volumes], [x.lesion[x.brain] for x in volumes], healthy
    return tuple(np.concatenate(part) if part else np.empty(0) for part in parts)


def _by_patient(of: Callable, volumes: list[Volume], patients: np.ndarray) -> np.ndarray:
    """What `of` gives for the scans of each patient, `[P, ...]`."""
    return np.stack([of([volume for volume in volumes if volume.patient == patient]) for patient in patients])


def _above(counts: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels `[..., bins]` of lesions, and of others, in each bin and those above it, highest first."""
    pooled = np.tensordot(weight, counts, 1)[..., ::-1].cumsum(-1)
    return pooled[..., 1, :], pooled[..., 0, :]


def _dice_from_counts(counts: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Dice `[..., bins - 1]` at each edge, the highest first."""
    true, false = _above(counts, weight)
    lesion = true[..., -1:]
    return ratio(np.where(lesion > 0, 2 * true, np.nan), true + false + lesion)[..., :-1]


def _threshold(value: float | None, reason: str) -> dict:
    return {"value": value, "origin": "val"} | ({"reason": reason} if value is None else {})


def _rarely_reached(values: np.ndarray) -> float:
    """The lowest float32 that at most a share ALLOWED of the values `[M]` reaches."""
    allowed = int(ALLOWED * len(values))
    return float(np.nextafter(np.partition(values, -1 - allowed)[-1 - allowed], np.float32(np.inf)))


def _confusions(thresholds: np.ndarray, settings: PostProcessing, volumes: list[Volume]) -> np.ndarray:
    return np.array([confusion(volumes, threshold, settings) for threshold in thresholds]).reshape(-1, 5)


def _best_dice(tables: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return _dice(tables, weight).max(-1, initial=0)


def _dice(tables: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Dice `[...]` or `[..., T]` from the tables `[P, 5]` or `[P, T, 5]` of `confusion`."""
    both, found, lesion, _, _ = np.moveaxis(np.tensordot(weight, tables, 1), -1, 0)
    return ratio(np.where(lesion > 0, 2 * both, np.nan), found + lesion)


def _false_positive_rate(tables: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return ratio(*np.moveaxis(weight @ tables[:, 3:], -1, 0))

"""How well a map finds lesions as wholes, and what it finds that is none: free-response ROC, by scan.

A lesion is a 26-connected component of a scan's truth, found if at least a share COVERED of its voxels is called. A
component of what is called is a false positive if it shares no voxel with the truth. FROC is Bunch et al., Proc. SPIE
127 (1977), at four of the seven points of LUNA16, Setio et al., Medical Image Analysis 42 (2017).
"""

from typing import NamedTuple

import numpy as np

from symnorm_jax.evaluation.histograms import RANKS, lowest_rank, ranks
from symnorm_jax.evaluation.measures import POINTS, THIRDS, of_level
from symnorm_jax.evaluation.pixels import NO_LESION, NOTHING, bounded, cuts
from symnorm_jax.evaluation.postprocess import PostProcessing, Stacks, components, grown, touching
from symnorm_jax.statistics.intervals import Metric, Resamples, Values, as_json, interval
from symnorm_jax.statistics.metrics import ratio

COVERED = 0.1  # share of a lesion's voxels that must be called
REACH = 0.1  # share of the brain that a threshold of the curve may call; all of it is one component, which finds all
OPERATION = tuple(one.name for one in of_level("lesion") if one.needs == "threshold")
VOXELS = 2**18  # called ones of scans whose components grow together; more only costs memory
NO_CALL = "No component is called, or none that is judged."


class Findings(NamedTuple):
    """What is found of L lesions, in S scans, at T thresholds."""

    owner: np.ndarray  # [L] the patient
    size: np.ndarray  # [L] int, voxels
    found: np.ndarray  # [L, T] bool
    scan_owner: np.ndarray  # [S] the patient
    false: np.ndarray  # [S, T] int, components that share no voxel with the truth
    true: np.ndarray  # [S, T] int, components that share a voxel with one of the lesions


class Sums(NamedTuple):
    """The findings of each of P patients."""

    lesions: np.ndarray  # [P] int
    found: np.ndarray  # [P, T] int
    scans: np.ndarray  # [P] int
    false: np.ndarray  # [P, T] int
    true: np.ndarray  # [P, T] int


def of_lesions(test: Stacks, threshold: dict, settings: PostProcessing, smallest: int, drawn: Resamples) -> dict:
    """Judge the detection of lesions in processed scans: `{"metrics": {measure: values}, "curve", ...}`.

    `threshold` is one of `fit_pixel_thresholds`. Lesions of fewer than `smallest` voxels are neither found nor missed,
    and what shares a voxel with them is not false. Intervals are over the patients `drawn`. `froc_1` to `froc_8` are of
    `froc`. At the threshold, `sensitivity` is the share of lesions found, also by thirds of size, from `thirds` voxels
    on, `precision` the share of components that are lesions, and `false_positives` their mean number a scan.
    """
    tried = cuts(test, REACH)
    findings = detect(test, tried, settings, smallest)
    sums = summed(findings, drawn.patients)
    read = froc(sums, np.concatenate([np.ones((1, len(drawn.patients))), drawn.patient_weight]))
    points = {f"froc_{point}": read[:, place] for place, point in enumerate(POINTS)} | {"froc_mean": read.mean(1)}
    found = {name: as_json(bounded(values), NO_LESION) for name, values in points.items()}
    if threshold["value"] is None:
        found |= dict.fromkeys(OPERATION, as_json(NOTHING, threshold["reason"]))
    else:
        found |= _operation(detect(test, np.array([threshold["value"]]), settings, smallest), drawn)
    rate, share = (x[1:].tolist() for x in _rates(sums, np.ones(len(drawn.patients))))
    curve = {"threshold": tried.tolist(), "false_positives": rate, "sensitivity": np.nan_to_num(share).tolist()}
    counts = {"lesions": len(findings.size), "scans": len(findings.scan_owner)}
    return {"metrics": found, "curve": curve, **counts, "thirds": _thirds(findings.size).tolist()}


def lesion_metrics(test: Stacks, settings: PostProcessing, smallest: int, patients: np.ndarray) -> dict[str, Metric]:
    """Make `froc_mean`, as `of_lesions` has it, for weights of patients."""
    sums = summed(detect(test, cuts(test, REACH), settings, smallest), patients)
    return {"froc_mean": lambda weight: froc(sums, weight).mean(-1)}


def detect(stacks: Stacks, thresholds: np.ndarray, settings: PostProcessing, smallest: int) -> Findings:
    """Find lesions in processed scans, but for those not judged, at thresholds `[T]` from the highest down."""
    lowest = lowest_rank(thresholds.min(initial=np.inf))
    shown = [np.count_nonzero(ranks(stack.values) >= lowest) for stack in stacks]
    groups = np.flatnonzero(np.diff(np.cumsum(shown) // VOXELS, prepend=-1))
    bounds = zip(groups, [*groups[1:], len(stacks)], strict=True)
    each = [_detect(stacks[start:stop], thresholds, settings, smallest) for start, stop in bounds]
    lesions, size, found, false, true = (np.concatenate(parts) for parts in zip(*each, strict=True))
    patients, judged = np.array([x.patient for x in stacks], object), [bool(x.brain.any()) for x in stacks]
    return Findings(np.repeat(patients, lesions), size, found, patients[judged], false[judged], true[judged])


def summed(findings: Findings, patients: np.ndarray) -> Sums:
    """Sum the findings of each of the patients `[P]`."""
    owners = findings.owner, findings.scan_owner
    lesion, scan = ((np.asarray(patients, object)[:, None] == owner[None]).astype(int) for owner in owners)
    by_scan = scan.sum(1), scan @ findings.false, scan @ findings.true
    return Sums(lesion.sum(1), lesion @ findings.found, *by_scan)


def froc(sums: Sums, weight: np.ndarray) -> np.ndarray:
    """Sensitivity `[..., 4]` by lesion at POINTS false positives a scan, for patients that count `[..., P]` times.

    It is that of the lowest threshold reached, from the highest down, before false positives first exceed the point,
    not interpolated. The curve ends where they are most: below components grow together. NaN without lesions.
    """
    rate, found = _rates(sums, weight)
    most = rate.shape[-1] - 1 - np.argmax(rate[..., ::-1], -1)[..., None]
    worst = np.where(np.arange(rate.shape[-1]) <= most, np.maximum.accumulate(rate, -1), np.inf)
    read = np.stack([np.where(worst <= point, found, 0).max(-1) for point in POINTS], -1)
    return np.where(np.isnan(found[..., -1:]), np.nan, read)


def _rates(sums: Sums, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean false positives a scan and sensitivity by lesion, `[..., 1 + T]` both; at first nothing is called."""
    false, found = (np.pad(x, ((0, 0), (1, 0))) for x in (sums.false, sums.found))
    return tuple(ratio(weight @ x, (weight @ n)[..., None]) for x, n in ((false, sums.scans), (found, sums.lesions)))


def _operation(findings: Findings, drawn: Resamples) -> dict[str, Values]:
    sums = summed(findings, drawn.patients)
    shares = {
        "sensitivity": (sums.found, sums.lesions, NO_LESION),
        "precision": (sums.true, (sums.true + sums.false)[:, 0], NO_CALL),
        "false_positives": (sums.false, sums.scans, NO_CALL),
    }
    third = np.digitize(findings.size, _thirds(findings.size))
    for place, name in enumerate(THIRDS):
        own = {field: getattr(findings, field)[third == place] for field in ("owner", "size", "found")}
        part = summed(findings._replace(**own), drawn.patients)
        shares[f"sensitivity_{name}"] = part.found, part.lesions, NO_LESION
    found = {}
    for name, (x, n, reason) in shares.items():
        made = interval(lambda w, x=x, n=n: ratio(w @ x[:, 0], w @ n), drawn.patient_weight)
        found[name] = as_json(made, reason)
    return found


def _thirds(size: np.ndarray) -> np.ndarray:
    """Find the two sizes that cut lesion sizes `[L]` into thirds; none without lesions."""
    return np.quantile(size, [1 / 3, 2 / 3]) if len(size) else np.empty(0)


def _detect(stacks: Stacks, thresholds: np.ndarray, settings: PostProcessing, smallest: int) -> tuple:
    """Of a group of S scans: lesions `[S]`, their sizes `[L]`, which are found `[L, T]`, false and true `[S, T]`."""
    scan, lesion, level, pairs, sizes = _voxels(stacks, thresholds)
    whole = np.concatenate(sizes)
    counted = whole >= smallest
    found = np.zeros((len(whole), len(thresholds)), bool)
    false, true = np.zeros((2, len(stacks), len(thresholds)), int)
    least = settings.smallest if "components" in settings.steps else 0
    for place, (there, component, count) in enumerate(grown(level, pairs, len(thresholds))):
        owner, touched, hit = np.zeros(count, int), *np.zeros((2, count), bool)
        owner[component] = scan[there]
        drawn, within = component[lesion[there] >= 0], lesion[there][lesion[there] >= 0]
        touched[drawn], hit[drawn[counted[within]]] = True, True
        stays = np.bincount(component, minlength=count) >= least
        false[:, place], true[:, place] = (np.bincount(owner[stays & x], minlength=len(false)) for x in (~touched, hit))
        found[:, place] = np.bincount(within[stays[drawn]], minlength=len(whole)) / whole >= COVERED
    lesions = np.array([np.count_nonzero(size >= smallest) for size in sizes])
    return lesions, whole[counted], found[counted], false, true


def _voxels(stacks: Stacks, thresholds: np.ndarray) -> tuple:
    """Voxels called: numbers of scan, lesion (-1: none), highest threshold `[M]`; who touch; lesion sizes by scan."""
    passed = np.searchsorted(lowest_rank(thresholds[::-1]), np.arange(RANKS), side="right")
    parts, sizes, lesions, start = [], [], 0, 0
    for scan, stack in enumerate(stacks):
        truth, count = components(stack.lesion & stack.brain, 0)
        sizes.append(np.bincount(truth.ravel(), minlength=1 + count)[1:])
        shown = passed[ranks(stack.values)]
        called = shown > 0
        lesion = np.where(truth > 0, truth + lesions - 1, -1)[called]
        parts.append((np.full(len(lesion), scan), lesion, len(thresholds) - shown[called], start + touching(called)))
        lesions, start = lesions + count, start + len(lesion)
    return *(np.concatenate(part, -1) for part in zip(*parts, strict=True)), sizes

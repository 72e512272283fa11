"""How well a map finds lesions as wholes, and what it finds that is none: free-response ROC, by scan.

A lesion is a 26-connected component of the truth of one scan: voxels that touch at a corner are one lesion, however
thick the slices. It is found if at least a share COVERED of its voxels is called. A component of what is called is a
false positive if it shares no voxel with the truth. FROC is Bunch et al., Proc. SPIE 127 (1977); the points are four
of the seven of LUNA16, Setio et al., Medical Image Analysis 42 (2017).

No picture is labelled at every threshold: from the highest threshold down, voxels join the components that they touch.
"""

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from symnorm_jax.evaluation.histograms import RANKS, lowest_rank, ranks, ratio
from symnorm_jax.evaluation.intervals import interval
from symnorm_jax.evaluation.pixels import NO_LESION, NOTHING, Found, bounded, levels, plain
from symnorm_jax.evaluation.postprocess import PostProcessing, Volume, components

COVERED = 0.1  # share of a lesion's voxels that must be called
POINTS = (1, 2, 4, 8)  # mean false positives a scan at which sensitivity is read
REACH = 0.1  # share of the brain that a threshold of the curve may call; all of it is one component, which finds all
THIRDS = ("small", "middle", "large")
OPERATION = ("sensitivity", "precision", "false_positives", *(f"sensitivity_{name}" for name in THIRDS))
GROUP = 16  # scans whose components grow together; more only costs memory
AFTER = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]  # to half of a voxel's 26 neighbours
NO_CALL = "No component is called, or none that is judged."


class Findings(NamedTuple):
    """What is found of L lesions, in S scans, at T thresholds."""

    owner: np.ndarray  # [L] the patient
    size: np.ndarray  # [L] int, voxels
    found: np.ndarray  # [L, T] bool
    scan_owner: np.ndarray  # [S] the patient
    false: np.ndarray  # [S, T] int, components that share no voxel with the truth
    true: np.ndarray  # [S, T] int, components that share a voxel with one of the lesions


class Voxels(NamedTuple):
    """The M voxels of some scans that any threshold calls."""

    reached: np.ndarray  # [M] int, the place of the highest threshold that is reached
    scan: np.ndarray  # [M] int, the number of the scan
    lesion: np.ndarray  # [M] int, the number of the lesion, from 1 on; 0 where there is none
    pairs: np.ndarray  # [2, E] int, voxels that touch


class Sums(NamedTuple):
    """The same by patient, P of them."""

    lesions: np.ndarray  # [P] int
    found: np.ndarray  # [P, T] int
    scans: np.ndarray  # [P] int
    false: np.ndarray  # [P, T] int
    true: np.ndarray  # [P, T] int


def of_lesions(
    test: list[Volume],
    threshold: dict,
    settings: PostProcessing,
    smallest: int,
    patients: np.ndarray,
    weights: np.ndarray,
) -> dict:
    """Detection in processed scans: `{"metrics": {metric: {"value", "low", "high"}}, "curve", ...}`.

    `threshold` is one of `fit_pixel_thresholds`. Lesions of fewer than `smallest` voxels are neither found nor missed,
    and what shares a voxel with them is not false. Intervals are 95 %, over replicates of the `patients` `[P]`, which
    count `weights` `[R, P]` times. `froc_1` to `froc_8` are what `froc` gives, `froc_mean` is their mean. At the
    threshold, `sensitivity` is the share of lesions found, also by third of their sizes, `precision` the share of
    components that are lesions, and `false_positives` their mean number a scan, scans without lesions among them.
    `curve` is that of all scans; `thirds` are the voxels from which a lesion is middle, and large.
    """
    steps = levels(test, REACH)
    findings = detect(test, steps, settings, smallest)
    sums = summed(findings, patients)
    if threshold["value"] is None:
        operation = dict.fromkeys(OPERATION, plain(NOTHING, threshold["reason"]))
    else:
        one = detect(test, np.array([threshold["value"]]), settings, smallest)
        operation = _operation(one, patients, weights)
    return {
        "metrics": _points(sums, weights) | operation,
        "curve": {"threshold": steps.tolist()} | _curve(sums),
        "lesions": len(findings.size),
        "scans": len(findings.scan_owner),
        "thirds": _thirds(findings.size).tolist(),
    }


def detect(volumes: list[Volume], thresholds: np.ndarray, settings: PostProcessing, smallest: int) -> Findings:
    """What is found in processed scans at thresholds `[T]`, which go from the highest down.

    Scans in which nothing is judged are left out.
    """
    groups = [volumes[start : start + GROUP] for start in range(0, len(volumes), GROUP)]
    each = [_detect(group, thresholds, settings, smallest) for group in groups]
    lesions, size, found, false, true = (np.concatenate(parts) for parts in zip(*each, strict=True))
    patients, judged = np.array([x.patient for x in volumes], object), [bool(x.brain.any()) for x in volumes]
    return Findings(np.repeat(patients, lesions), size, found, patients[judged], false[judged], true[judged])


def summed(findings: Findings, patients: np.ndarray) -> Sums:
    """The findings of each of the patients `[P]`."""
    owners = findings.owner, findings.scan_owner
    lesion, scan = ((np.asarray(patients, object)[:, None] == owner[None]).astype(int) for owner in owners)
    by_scan = scan.sum(1), scan @ findings.false, scan @ findings.true
    return Sums(lesion.sum(1), lesion @ findings.found, *by_scan)


def froc(sums: Sums, weight: np.ndarray) -> np.ndarray:
    """Sensitivity `[..., 4]` by lesion at POINTS false positives a scan, for patients that count `[..., P]` times.

    That is what the lowest threshold finds that is reached, from the highest down, before false positives first exceed
    the point; nothing is interpolated. Below the threshold with the most false positives components grow together and
    seem fewer, so the curve ends there. The thresholds of the sums go from the highest down. NaN without lesions.
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


def _points(sums: Sums, weights: np.ndarray) -> dict[str, Found]:
    read = froc(sums, np.concatenate([np.ones((1, weights.shape[1])), weights]))
    found = {f"froc_{point}": read[:, place] for place, point in enumerate(POINTS)} | {"froc_mean": read.mean(1)}
    return {name: plain(bounded(values), NO_LESION) for name, values in found.items()}


def _operation(findings: Findings, patients: np.ndarray, weights: np.ndarray) -> dict[str, Found]:
    """The metrics at the one threshold of the findings."""
    sums = summed(findings, patients)
    shares = {
        "sensitivity": (sums.found, sums.lesions, NO_LESION),
        "precision": (sums.true, (sums.true + sums.false)[:, 0], NO_CALL),
        "false_positives": (sums.false, sums.scans, NO_CALL),
    }
    third = np.digitize(findings.size, _thirds(findings.size))
    for place, name in enumerate(THIRDS):
        own = {field: getattr(findings, field)[third == place] for field in ("owner", "size", "found")}
        part = summed(findings._replace(**own), patients)
        shares[f"sensitivity_{name}"] = part.found, part.lesions, NO_LESION
    return {
        name: plain(interval(partial(_share, part[:, 0], whole), weights), reason)
        for name, (part, whole, reason) in shares.items()
    }


def _share(part: np.ndarray, whole: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return ratio(weight @ part, weight @ whole)


def _thirds(size: np.ndarray) -> np.ndarray:
    """The two sizes that cut those of the lesions `[L]` into thirds; none without lesions."""
    return np.quantile(size, [1 / 3, 2 / 3]) if len(size) else np.empty(0)


def _curve(sums: Sums) -> dict[str, list[float]]:
    rate, found = _rates(sums, np.ones(len(sums.lesions)))
    return {"false_positives": rate[1:].tolist(), "sensitivity": np.nan_to_num(found[1:]).tolist()}


def _detect(volumes: list[Volume], thresholds: np.ndarray, settings: PostProcessing, smallest: int) -> tuple:
    """Of a group of S scans: lesions `[S]`, their sizes `[L]`, which are found `[L, T]`, false and true `[S, T]`."""
    voxels, lesion_scan, sizes = _voxels(volumes, thresholds)
    counted = sizes >= smallest
    found = np.zeros((len(sizes), len(thresholds)), bool)
    false, true = np.zeros((2, len(volumes), len(thresholds)), int)
    least = settings.smallest if "components" in settings.steps else 0
    for place, (member, component, count) in enumerate(_grown(voxels, len(thresholds))):
        scan, lesion, drawn = voxels.scan[member], voxels.lesion[member], voxels.lesion[member] > 0
        stays = np.bincount(component, minlength=count) >= least
        touched, hit = np.zeros((2, count), bool)
        touched[component[drawn]] = True
        hit[component[drawn][counted[lesion[drawn] - 1]]] = True
        owner = np.zeros(count, int)
        owner[component] = scan
        false[:, place], true[:, place] = (np.bincount(owner[stays & x], minlength=len(false)) for x in (~touched, hit))
        covered = np.bincount(lesion[stays[component]], minlength=1 + len(sizes))[1:]
        found[:, place] = covered / sizes >= COVERED
    return np.bincount(lesion_scan[counted], minlength=len(volumes)), sizes[counted], found[counted], false, true


def _voxels(volumes: list[Volume], thresholds: np.ndarray) -> tuple[Voxels, np.ndarray, np.ndarray]:
    """The voxels of scans that any of the thresholds calls; the scan `[L]` and size `[L]` of each lesion."""
    passed = np.searchsorted(lowest_rank(thresholds[::-1]), np.arange(RANKS), side="right")
    parts, sizes, start = [], [], 0
    for scan, volume in enumerate(volumes):
        truth, count = components(volume.lesion & volume.brain, 0)
        shown = passed[ranks(volume.values)]
        called = shown > 0
        lesion = np.where(truth > 0, truth + sum(map(len, sizes)), 0)[called]
        sizes.append(np.bincount(truth.ravel(), minlength=1 + count)[1:])
        parts.append((len(thresholds) - shown[called], np.full(len(lesion), scan), lesion, start + _touching(called)))
        start += len(lesion)
    found = Voxels(*(np.concatenate(x, -1) for x in zip(*parts, strict=True)))
    return found, np.repeat(np.arange(len(volumes)), list(map(len, sizes))), np.concatenate(sizes)


def _touching(mask: np.ndarray) -> np.ndarray:
    """Pairs `[2, E]` of true voxels of a mask `[Z, X, Y]` that touch, as their numbers in C order."""
    padded = np.pad(mask, 1)
    _, width, depth = padded.shape
    place = np.flatnonzero(padded)
    number = np.full(padded.size, -1)
    number[place] = np.arange(len(place))
    near = number[place[:, None] + [(z * width + x) * depth + y for z, x, y in AFTER]]
    return np.stack([np.nonzero(near >= 0)[0], near[near >= 0]])


def _grown(voxels: Voxels, thresholds: int) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """For each threshold, the voxels called `[n]`, the component `[n]` of each, and how many components there are."""
    member = np.argsort(voxels.reached, kind="stable")
    place = np.empty(len(member), int)
    place[member] = np.arange(len(member))
    pairs = place[voxels.pairs]
    pairs = pairs[:, np.argsort(pairs.max(0), kind="stable")]
    ends = np.searchsorted(voxels.reached[member], np.arange(thresholds), side="right")
    component, count, done = np.empty(0, int), 0, 0
    for end, joined in zip(ends, np.searchsorted(pairs.max(0), ends), strict=True):
        new = end - len(component)
        component, nodes = np.concatenate([component, count + np.arange(new)]), count + new
        first, second = component[pairs[:, done:joined]]
        graph = coo_array((np.ones(len(first), bool), (first, second)), (nodes, nodes))
        count, label = connected_components(graph, directed=False)
        component, done = label[component], joined
        yield member[:end], component, count

"""How well a map finds lesions as wholes, and what it finds that is none: free-response ROC, by scan.

A lesion is a 26-connected component of the truth of one scan: voxels that touch at a corner are one lesion, however
thick the slices. It is found if at least a share COVERED of its voxels is called. A component of what is called is a
false positive if it shares no voxel with the truth. FROC is Bunch et al., Proc. SPIE 127 (1977); the points are four
of the seven of LUNA16, Setio et al., Medical Image Analysis 42 (2017).
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from symnorm_jax.evaluation.intervals import interval
from symnorm_jax.evaluation.pixels import NO_LESION, NOTHING, Found, levels, plain, ratio
from symnorm_jax.evaluation.postprocess import PostProcessing, Volume, called_components, components

COVERED = 0.1  # share of a lesion's voxels that must be called
POINTS = (1, 2, 4, 8)  # mean false positives a scan at which sensitivity is read
REACH = 0.1  # share of the brain that a threshold of the curve may call; all of it is one component, which finds all
THIRDS = ("small", "middle", "large")
OPERATION = ("sensitivity", "precision", "false_positives", *(f"sensitivity_{name}" for name in THIRDS))
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
    """What is found in processed scans at thresholds `[T]`; scans in which nothing is judged are left out."""
    judged = [volume for volume in volumes if volume.brain.any()]
    each = [_detect(volume, thresholds, settings, smallest) for volume in judged]
    patients = np.array([volume.patient for volume in judged], object)
    owner = np.repeat(patients, np.array([len(size) for size, *_ in each], int))
    none = np.zeros((0, len(thresholds)), int)
    size, found, false, true = (list(parts) for parts in zip(*each, strict=True)) if each else ([], [], [], [])
    size, found = np.concatenate([none[:, :0].ravel(), *size]), np.concatenate([none.astype(bool), *found])
    false, true = (np.array(parts, int).reshape(len(each), len(thresholds)) for parts in (false, true))
    return Findings(owner, size, found, patients, false, true)


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
    metrics = {f"froc_{point}": partial(_point, sums, place) for place, point in enumerate(POINTS)}
    metrics["froc_mean"] = lambda weight: froc(sums, weight).mean(-1)
    return {name: plain(interval(metric, weights), NO_LESION) for name, metric in metrics.items()}


def _point(sums: Sums, place: int, weight: np.ndarray) -> np.ndarray:
    return froc(sums, weight)[..., place]


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


def _detect(volume: Volume, thresholds: np.ndarray, settings: PostProcessing, smallest: int) -> tuple:
    """Sizes `[L]` of the lesions of a scan, which are found `[L, T]`, and false and true components `[T]`."""
    truth, _ = components(volume.lesion & volume.brain, 0)
    sizes = np.bincount(truth.ravel())
    counted = 1 + np.flatnonzero(sizes[1:] >= smallest)
    drawn = truth > 0
    within = truth[drawn]  # the lesion of each drawn voxel
    found, false, true = np.zeros((len(counted), len(thresholds)), bool), [], []
    for place, threshold in enumerate(thresholds):
        labels, count = called_components(volume, threshold, settings)
        at = labels[drawn]
        covered = np.bincount(within[at > 0], minlength=len(sizes))
        found[:, place] = covered[counted] / sizes[counted] >= COVERED
        false.append(count - len(np.unique(at[at > 0])))
        true.append(len(np.unique(at[(at > 0) & np.isin(within, counted)])))
    return sizes[counted], found, false, true

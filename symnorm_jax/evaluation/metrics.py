"""How well a score separates abnormal from normal, in a cohort and in all its bootstrap replicates at once.

A metric takes score `[N]`, where larger is more abnormal, positive `[N]` bool, and weight `[..., N]`, how often
each sample counts (None: once; leading axes are replicates). It returns `[...]`, NaN where it is undefined, and
raises ValueError for shapes that differ and for scores that are NaN, which no ordering can place.
"""

import numpy as np


def auroc(score: np.ndarray, positive: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Share of positive-negative pairs whose positive scores higher, ties counting half (Mann-Whitney)."""
    return _ratio(*_pairs(*_checked(score, positive, weight)))


def auroc_within(
    score: np.ndarray, positive: np.ndarray, stratum: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """The same among pairs within one stratum `[N]` only: what differs between strata earns nothing."""
    score, positive, weight = _checked(score, positive, weight)
    members = [np.flatnonzero(stratum == one) for one in np.unique(stratum)]
    counts = [_pairs(score[rows], positive[rows], weight[..., rows]) for rows in members]
    return _ratio(sum(concordant for concordant, _ in counts), sum(pairs for _, pairs in counts))


def average_precision(score: np.ndarray, positive: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Mean over the positives of the precision at their score, equal scores being one threshold.

    NaN without positives, and without negatives, when every score would earn 1.
    """
    return _average_precision(*_above(*_checked(score, positive, weight)))


def sensitivity(
    score: np.ndarray, positive: np.ndarray, threshold: float, weight: np.ndarray | None = None
) -> np.ndarray:
    """Share of the positives that are called abnormal: score >= threshold."""
    score, positive, weight = _checked(score, positive, weight)
    return _ratio(weight @ (positive & (score >= threshold)), weight @ positive)


def specificity(
    score: np.ndarray, positive: np.ndarray, threshold: float, weight: np.ndarray | None = None
) -> np.ndarray:
    """Share of the negatives that are called normal: score < threshold."""
    score, positive, weight = _checked(score, positive, weight)
    return _ratio(weight @ (~positive & (score < threshold)), weight @ ~positive)


def accuracy(score: np.ndarray, positive: np.ndarray, threshold: float, weight: np.ndarray | None = None) -> np.ndarray:
    """Share of all samples that are called what they are."""
    score, positive, weight = _checked(score, positive, weight)
    return _ratio(weight @ (positive == (score >= threshold)), weight.sum(-1))


def prevalence(positive: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Share of positives: the average precision, and if above one half the accuracy, of knowing nothing."""
    _, positive, weight = _checked(np.zeros(len(positive)), positive, weight)
    return _ratio(weight @ positive, weight.sum(-1))


def pixel_edges(values: np.ndarray, bins: int = 4096) -> np.ndarray:
    """Ascending edges, fewer than `bins`, that cut a sample of map values `[M]` into bins of one rank ratio.

    Each bin holds the same few thousandths of all that lies at or above it, down to the single largest value:
    fine where a lesion's pixels are few and high. Draw the sample from every patient that will be counted.
    """
    above = np.geomspace(1, 1 / np.size(values), bins)[1:]
    return np.unique(np.quantile(np.asarray(values, np.float32), 1 - above))


def pixel_counts(values: np.ndarray, lesion: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Histogram `[2, bins]` of one patient's brain pixels `[M]`: row 1 where lesion `[M]` is true, row 0 elsewhere."""
    values, lesion = np.asarray(values, np.float32), np.asarray(lesion, bool)
    if bad := np.isnan(values).sum():
        raise ValueError(f"{bad} of {values.size} map pixels are NaN; every brain pixel needs a value.")
    bins = np.searchsorted(edges, values, side="right")
    return np.stack([np.bincount(bins[rows], minlength=len(edges) + 1) for rows in (~lesion, lesion)])


def average_precision_from_counts(counts: np.ndarray, patient_weight: np.ndarray | None = None) -> np.ndarray:
    """Average precision `[...]` of the pixels in histograms `[P, 2, bins]` of patients counting `[..., P]` times."""
    weight = np.ones(len(counts)) if patient_weight is None else np.asarray(patient_weight, float)
    pooled = np.tensordot(weight, np.asarray(counts, float), 1)[..., ::-1].cumsum(-1)
    return _average_precision(pooled[..., 1, :], pooled[..., 0, :])


def _checked(score, positive, weight) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    score, positive = np.asarray(score), np.asarray(positive, bool)
    weight = np.ones(score.shape) if weight is None else np.asarray(weight, float)
    if score.ndim != 1 or positive.shape != score.shape or weight.shape[-1:] != score.shape:
        shapes = f"{score.shape}, {positive.shape} and {weight.shape}"
        raise ValueError(f"Scores, labels and weights have shapes {shapes}; [N], [N] and [..., N] are needed.")
    if bad := np.isnan(score).sum():
        raise ValueError(f"{bad} of {len(score)} scores are NaN; every sample needs a score.")
    return score, positive, weight


def _above(score, positive, weight) -> tuple[np.ndarray, np.ndarray]:
    """Weight `[..., K]` of positives, and of negatives, at or above each distinct score, highest first."""
    order = np.argsort(score)[::-1]
    score, positive, weight = score[order], positive[order], weight[..., order]
    last_of_ties = np.append(score[1:] != score[:-1], True)
    return tuple((weight * chosen).cumsum(-1)[..., last_of_ties] for chosen in (positive, ~positive))


def _pairs(score, positive, weight) -> tuple[np.ndarray, np.ndarray]:
    """Weight `[...]` of concordant pairs, and of all pairs: area under the ROC curve, and of its box."""
    true, false = _above(score, positive, weight)
    middle = true - np.diff(true, prepend=0) / 2
    return (np.diff(false, prepend=0) * middle).sum(-1), true[..., -1] * false[..., -1]


def _average_precision(true, false) -> np.ndarray:
    precision = true / np.maximum(true + false, np.finfo(float).tiny)
    area = (np.diff(true, prepend=0) * precision).sum(-1)
    return _ratio(area, np.where(false[..., -1] > 0, true[..., -1], 0))


def _ratio(part, whole) -> np.ndarray:
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)

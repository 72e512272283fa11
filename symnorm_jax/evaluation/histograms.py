"""Pixels of maps counted by their value, and what the counts of patients tell when patients are drawn again.

Half precision has 2 ** 16 numbers: a pixel is counted under its value's rank among them, and nothing is sorted. Arrays
over ranks or bins go from the lowest up.
"""

import numpy as np

from symnorm_jax.statistics.metrics import ratio

RANKS = 2**16
ZERO = np.uint16(RANKS // 2)  # the rank of 0
NEVER = np.uint16(2**10 - 1)  # that of -inf, which no threshold reaches
BINS = 4096  # at most; neighbouring ranks that are one bin each, at the top, leave far fewer
BLOCK = 64  # replicates pooled together, as many as a cache holds


def ranks(values: np.ndarray) -> np.ndarray:
    """Give numbers, in half precision, as uint16 in the same order; 0 and -0 are one."""
    bits = np.asarray(values, np.float16).view(np.uint16)
    ordered = np.where(bits >> 15, ~bits, bits | ZERO)
    return ordered + (ordered == ZERO - 1)


def values_of(rank: np.ndarray) -> np.ndarray:
    """Give the numbers of these ranks, in half precision."""
    rank = np.asarray(rank, np.uint16)
    return np.where(rank >= ZERO, rank ^ ZERO, ~rank).view(np.float16)


def lowest_rank(threshold: np.ndarray) -> np.ndarray:
    """Find the rank from which on values reach a threshold, which may lie between numbers of half precision."""
    threshold = np.asarray(threshold, float)
    near = threshold.astype(np.float16)
    return ranks(near) + (near < threshold)


def from_the_top(counts: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Find the ranks at which the `number`-th pixel from the highest lies, 1 being the highest, in counts `[RANKS]`."""
    return RANKS - 1 - np.searchsorted(counts[::-1].cumsum(), number)


def edges(counts: np.ndarray) -> np.ndarray:
    """Choose at most BINS ascending ranks at which bins of pixels counted `[RANKS]` begin; the lowest is finite.

    Each holds the same few thousandths of what lies at or above it: fine where a lesion's pixels are few and high.
    """
    counts = np.where(np.arange(RANKS) > NEVER, counts, 0)
    found = np.unique(from_the_top(counts, np.ceil(np.geomspace(1, max(counts.sum(), 1), BINS))))
    return found[found > NEVER]


def bins(edge: np.ndarray) -> np.ndarray:
    """Give each rank its bin, `[RANKS]`, between ascending edges; a rank on an edge lies above it."""
    return np.searchsorted(edge, np.arange(RANKS), side="right")


def binned(rank: np.ndarray, lesion: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Count in a histogram `[2, bins]` int the pixels `[M]` in the `bins`: row 1 where `lesion` `[M]`, else row 0."""
    count = place[-1] + 1
    return np.bincount(place[rank] + count * lesion, minlength=2 * count).reshape(2, count)


def measures(counts: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Measure histograms `[P, 2, bins]` of patients that count weight `[R, P]` times: `{measure: [R]}`; bins tie."""
    flat = counts.reshape(len(counts), -1).astype(float)
    starts = range(0, len(weight), BLOCK)
    parts = [_measures((weight[x : x + BLOCK] @ flat).reshape(-1, *counts.shape[1:])) for x in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _measures(pooled: np.ndarray) -> dict[str, np.ndarray]:
    rest, lesion = np.moveaxis(pooled[..., ::-1], 1, 0)
    false, true = rest.cumsum(1), lesion.cumsum(1)
    called, negatives, positives = false + true, false[:, -1], true[:, -1]
    area, pairs = (lesion * true / np.maximum(called, 1)).sum(1), (rest * (true - lesion / 2)).sum(1)
    dice = (2 * true / np.maximum(called + positives[:, None], 1))[:, :-1].max(1, initial=0)
    return {
        "average_precision": ratio(area, np.where(negatives > 0, positives, 0)),
        "auroc": ratio(pairs, positives * negatives),
        "dice_oracle": np.where(positives > 0, dice, np.nan),
        "prevalence": ratio(positives, positives + negatives),
    }

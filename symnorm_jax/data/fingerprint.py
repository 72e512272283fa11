"""The fingerprint of a brain: its fine detail, by which a copy is known however it was re-exported, and likeness.

Local contrast leaves out what gamma, a bias field and normalisation change; the place and size of the brain, which the
grid goes along with, what a shift and a scale change. The rest of a pose is found by alignment.
"""

import numpy as np
from scipy import ndimage

GRID = (24, 30, 18)  # points from left to right, back to front and below to above: steps of 6 mm in an adult
REACH = (1.8, 2.1, 1.8)  # of the grid, either way from the middle, in standard deviations of the brain's places
BLUR, LOCAL = 0.3, 0.65  # steps: standard deviations of what removes noise, and of what is around a point
FLOOR = 0.05  # of the brightness that samples call 1: contrast below it is noise
STEPS, SETTLED = 12, 1e-3  # of the alignment, at most, and the gain in likeness at which it ends


def fingerprint(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Draw the local contrast of a slice `[X, Y]` or a stack of them `[X, Y, Z]`, float32 of norm 1 on GRID.

    `brain` is its mask, bool. All is 0 where it is empty or has no contrast. Intensities are those of prepared samples.
    """
    if not brain.any():
        return np.zeros(GRID[: brain.ndim], np.float32)
    places = np.argwhere(brain)
    spread = places.std(0)
    spread[:2] = np.sqrt((spread[:2] ** 2).mean())  # a brain keeps its proportions in plane
    reach = np.maximum(spread, 0.5) * REACH[: brain.ndim]
    step = 2 * reach / (np.array(GRID[: brain.ndim]) - 1)
    blur = lambda values, share: ndimage.gaussian_filter(values, share * step)  # noqa: E731
    inside = brain.astype(np.float32)
    seen = blur(image * inside, BLUR)
    seen *= inside
    weight = blur(inside, LOCAL) + 1e-3
    detail = seen - inside * blur(seen, LOCAL) / weight
    detail /= np.sqrt(blur(detail**2, LOCAL) / weight) + FLOOR
    ends = zip(places.mean(0), reach, GRID, strict=False)
    points = np.meshgrid(*(np.linspace(at - far, at + far, count) for at, far, count in ends), indexing="ij")
    return _unit(ndimage.map_coordinates(blur(detail, BLUR), points, order=1)).astype(np.float32)


def likeness(one: np.ndarray, other: np.ndarray) -> float:
    """Correlate two fingerprints `[*GRID]`, up to 1, `one` moved, turned and stretched so that they are most alike.

    Gauss-Newton from where they lie: an affine map, whose steps are least squares.
    """
    points = np.stack([axis.ravel() for axis in np.indices(one.shape, dtype=np.float64)], -1)
    middle = (np.array(one.shape) - 1) / 2
    terms = np.column_stack([(points - middle) / middle, np.ones(len(points))])
    affine, wanted, best = np.zeros((one.ndim + 1, one.ndim)), other.ravel(), -1.0
    for _ in range(STEPS):
        moved = ndimage.map_coordinates(one, (points + terms @ affine).T, order=1)
        gained = float(_unit(moved) @ wanted) - best
        best += max(gained, 0.0)
        if gained < SETTLED:
            break
        slopes = np.stack([slope.ravel() for slope in np.gradient(moved.reshape(one.shape))], -1)
        design = (terms[:, :, None] * slopes[:, None]).reshape(len(points), -1)
        left = wanted * (moved @ wanted) - (moved - moved.mean())
        normal = design.T @ design + 1e-6 * np.eye(design.shape[1])
        affine += np.linalg.solve(normal, design.T @ left).reshape(affine.shape)
    return best


def _unit(values: np.ndarray) -> np.ndarray:
    values = values - values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-12)

"""The registration of brains to their own mirror images, in JAX: the three numbers of a plane, fitted to many at once.

Squared differences of mirrored points, cut off softly (Geman and McClure, 1987) lest a lesion on one side pulls, are
minimised by Levenberg-Marquardt steps, coarse to fine, in cubes of one size, so that one compilation serves all scans.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from symnorm_jax.geometry import AXIAL

SIDE, TICKS = 64, 32  # voxels along each edge of the cube, and points at which it is read
CUT = 0.02  # of the thickest: with more brain than this an end of the scan cuts it off
MARGIN = 1.15  # by which the cube and the points reach beyond the brain
FAINTEST = 0.05  # of the brightest: what is darker is not brain
STEEPEST = 0.8  # slope of the plane, either way
SLOPES = (-0.4, -0.2, 0.0, 0.2, 0.4)  # to start from, of the plane along y and z
STARTS = np.array([(y, z, 0) for y in SLOPES for z in SLOPES], np.float32)
BLURS = (4.0, 2.0, 0.8)  # voxels, level by level
LIMITS = (6.0, 4.0, 4.0)  # standard deviations of the differences from which on they are cut off
STEPS = 10  # in each level
JUDGED = 1  # the level whose residuals give the error: on the finest, what brains are bent by is cut off as outlying


class Cube(NamedTuple):
    """A scan about its brain's centroid, with lengths in units that make a plane's slopes and its shift weigh alike."""

    image: np.ndarray  # [SIDE, SIDE, SIDE] float32, up to 1
    step: np.ndarray  # [3] edges of a voxel of it
    reach: np.ndarray  # [3] half the edges of the box in which pairs of points are compared
    low: np.ndarray  # [3] where the scan cuts the brain off, so that nothing is known beyond
    high: np.ndarray  # [3]


def axis_profiles(voxels: np.ndarray) -> list[np.ndarray]:
    """Sum over the planes across each axis, `[X]`, `[Y]`, `[Z]`."""
    plane = np.abs(voxels).sum(2, dtype=np.float64)
    return [plane.sum(1), plane.sum(0), np.abs(voxels).sum((0, 1), dtype=np.float64)]


def centroid(profiles: list[np.ndarray], spacing: Sequence[float]) -> np.ndarray:
    """Find the intensity-weighted centre of the brain, `[3]` mm; of the grid where the scan is empty."""
    places = [np.average(np.arange(len(one)), weights=one if one.sum() > 0 else None) for one in profiles]
    return np.array(places) * spacing


def cube_of(voxels: np.ndarray, spacing: np.ndarray, stack: bool) -> tuple[Cube, np.ndarray, float]:
    """Resample a scan to a cube; where its origin lies `[3]` mm and its unit in mm follow."""
    profiles = axis_profiles(voxels)
    middle = centroid(profiles, spacing)
    shares = [np.cumsum(one) / max(one.sum(), 1e-12) for one in profiles]
    ends = [np.searchsorted(one, (0.002, 0.998)) + (-0.5, 0.5) for one in shares]  # a few stray voxels do not count
    reach = MARGIN * np.abs(np.transpose(ends) * spacing - middle).max(0)
    unit = float(reach[:AXIAL].max() if stack else reach.max())
    half = np.array([unit, unit, reach[AXIAL] if stack else unit])
    step = 2 * half / SIDE
    width = np.maximum(step, spacing if stack else spacing.max())  # a volume is blurred alike along all axes
    for profile, *axis in zip(profiles, middle, step, spacing, width, strict=True):
        voxels = np.tensordot(voxels, _hats(len(profile), *axis), axes=(0, 1))  # takes the first axis, appends the new
    edges = np.array([[-0.5, len(one) - 0.5] for one in profiles]).T * spacing - middle
    cut = np.array([one[[0, -1]] > CUT * one.max() for one in profiles]).T
    if stack:
        cut[:, AXIAL] = False  # a pixel is only compared with one of its own slice
    low, high = np.where(cut, edges / unit, [[-np.inf], [np.inf]])
    scaled = [one.astype(np.float32) for one in (step / unit, reach / unit, low, high)]
    return Cube(voxels / max(float(voxels.max()), 1e-12), *scaled), middle, unit


def _hats(length: int, middle: float, step: float, spacing: float, width: float) -> np.ndarray:
    """Make triangular filters of half-width `width` mm about the cube's places along one axis, `[SIDE, length]`."""
    places = np.arange(length) * spacing
    # The scan is continued as it ends, so that an end that cuts the brain does not look like its border.
    grid = np.clip(middle + (np.arange(SIDE) - (SIDE - 1) / 2) * step, 0, places[-1])
    weights = np.clip(1 - np.abs(grid[:, None] - places) / width, 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


# A plane is `theta` [3]: its normal is along (1, theta[0], theta[1]), theta[2] is its distance from the origin.


def sample_points() -> np.ndarray:
    """Choose points `[P, 3]` on the right of the plane, in units of the reach: a regular grid within an ellipsoid."""
    ticks = (np.arange(TICKS) + 0.5) * 2 / TICKS - 1
    grid = np.stack(np.meshgrid(ticks[TICKS // 2 :], ticks, ticks, indexing="ij"), -1).reshape(-1, 3)
    return grid[(grid**2).sum(1) < 1.2].astype(np.float32)


def jackknife_blocks(points: np.ndarray) -> np.ndarray:
    """Mark which of eight parts of the brain each point is in, `[P, 8]` of 0 and 1, for the jackknife."""
    return (((points > (0.4, 0, 0)) @ (4, 2, 1))[:, None] == np.arange(8)).astype(np.float32)


def _frame(theta: jax.Array, stack: bool) -> tuple[jax.Array, jax.Array]:
    """Map the straightened frame to the scan's, by a matrix `[3, 3]` and a shift `[3]`."""
    if stack:
        x, y = jnp.stack([jnp.ones(()), theta[0]]) / jnp.sqrt(1 + theta[0] ** 2)
        rows = [[x, -y, -theta[1]], [y, x, 0], [0, 0, 1]]
        return jnp.array(rows), theta[2] * jnp.array([x, y, 0])
    x, y, z = jnp.stack([jnp.ones(()), *theta[:2]]) / jnp.sqrt(1 + theta[0] ** 2 + theta[1] ** 2)
    both = -y * z / (1 + x)
    rows = [[x, -y, -z], [y, 1 - y * y / (1 + x), both], [z, both, 1 - z * z / (1 + x)]]
    return jnp.array(rows), theta[2] * jnp.array([x, y, z])


def _pairs(theta, image, cube: Cube, points, stack: bool) -> tuple[jax.Array, jax.Array]:
    """Read intensities `[2, P]` at the points and at their mirror images, and which pairs `[P]` show brain."""
    linear, shift = _frame(theta, stack)
    sides = jnp.stack([points, points * jnp.array([[-1.0, 1.0, 1.0]])]) * cube.reach[None, None]
    places = sides @ linear.T + shift[None, None]
    index = places / cube.step[None, None] + (SIDE - 1) / 2
    values = map_coordinates(image, list(jnp.moveaxis(index, -1, 0)), order=1)
    known = ((places > cube.low[None, None]) & (places < cube.high[None, None])).all((0, 2))
    return values, (known & (values.max(0) > FAINTEST)).astype(jnp.float32)


def _similarity(theta, *scan) -> jax.Array:
    values, brain = _pairs(theta, *scan)
    count = jnp.maximum(brain.sum(), 1)
    first, second = (values - (values * brain[None]).sum() / (2 * count)) * brain[None]
    return 2 * (first * second).sum() / jnp.maximum((first**2 + second**2).sum(), 1e-5 * count)


def _spread(theta, *scan) -> jax.Array:
    """Estimate the standard deviation of the differences between the sides from their median absolute value."""
    values, brain = _pairs(theta, *scan)
    middle = jnp.nanmedian(jnp.where(brain > 0, jnp.abs(values[0] - values[1]), jnp.nan))
    return jnp.maximum(1.4826 * jnp.nan_to_num(middle), 1e-3)


def normal_equations(theta, limit, blocks, *scan):
    """Compute the mean cost and each block's normal equations: matrices `[8, 3, 3]`, right-hand sides `[8, 3]`."""

    def difference(theta):
        values, brain = _pairs(theta, *scan)
        values = (values[0] - values[1]) * brain
        return values, (values, brain)

    slopes, (values, brain) = jax.jacfwd(difference, has_aux=True)(theta)
    share, ratio = brain / jnp.maximum(brain.sum(), 1), (values / limit) ** 2
    weights = blocks * (share / (1 + ratio) ** 2)[:, None]
    matrices = jnp.einsum("pb,pi,pj->bij", weights, slopes, slopes)
    return (share * ratio / (1 + ratio)).sum(), matrices, jnp.einsum("pb,pi,p->bi", weights, slopes, values)


def _fit(theta, softness, blocks, *scan):
    """Fit the plane by Levenberg-Marquardt steps from `theta`; the blocks' equations there follow."""
    limit = softness * _spread(theta, *scan)

    def step(state, _):
        theta, damping, cost, matrices, sides = state
        matrix = matrices.sum(0)
        moved = theta - jnp.linalg.solve(matrix + jnp.diag(damping * jnp.diag(matrix) + 1e-7), sides.sum(0))
        moved = jnp.clip(moved, -STEEPEST, STEEPEST)
        new_cost, *new = normal_equations(moved, limit, blocks, *scan)
        better = new_cost < cost
        taken = (moved, damping * 0.2, new_cost, *new), (theta, damping * 5, cost, matrices, sides)
        return jax.tree.map(partial(jnp.where, better), *taken), None

    # With nothing to solve the first step only takes the measure of where it stands.
    start = theta, jnp.asarray(0.05), jnp.asarray(jnp.inf), jnp.zeros((8, 3, 3)), jnp.zeros((8, 3))
    (theta, _, _, matrices, sides), _ = jax.lax.scan(step, start, length=STEPS)
    return theta, (matrices, sides)


def _jackknife(matrices, sides, angles: int) -> jax.Array:
    """Estimate the tilt's standard error in radians from how the first `angles` move without each block."""
    left = matrices.sum(0)[None] - matrices + 1e-9 * jnp.eye(3)[None]
    moves = jnp.linalg.solve(left, (sides.sum(0)[None] - sides)[..., None])[:, :angles, 0]
    return jnp.sqrt(7 / 8 * ((moves - moves.mean(0, keepdims=True)) ** 2).sum())


def _blur(image, sigma) -> jax.Array:
    place = jnp.arange(SIDE)
    kernel = jnp.exp(-0.5 * ((place[:, None] - place[None]) / sigma) ** 2)
    kernel = kernel / kernel.sum(1, keepdims=True)  # what lies beyond the cube is not known
    for _ in range(3):
        image = jnp.tensordot(image, kernel, axes=(0, 1))
    return image


@partial(jax.jit, static_argnames="stack")
def register_all(cubes: Cube, points, blocks, starts, levels: jax.Array, stack: bool):
    """Register each cube: its plane `[B, 3]`, frame, standard error in radians `[B]` and similarity `[B]`."""

    def register(cube):
        images = jax.vmap(partial(_blur, cube.image))(levels[0])
        few = cube, points[::8], stack
        alike = jax.vmap(lambda start: _similarity(start, images[0], *few))(starts)

        def descend(theta, level):
            return _fit(theta, level[1], blocks, level[0], cube, points, stack)

        def fit(start):
            theta, equations = jax.lax.scan(descend, start, (images, levels[1]))
            error = _jackknife(*(one[JUDGED] for one in equations), angles=1 if stack else 2)
            return theta, *_frame(theta, stack), error, _similarity(theta, images[-1], cube, points, stack)

        # What looks best on the coarsest level can be a trap; most heads lie nearly straight.
        fits = jax.vmap(fit)(jnp.stack([starts[alike.argmax()], jnp.zeros(3)]))
        return jax.tree.map(lambda fit: fit[fits[-1].argmax()], fits)

    return jax.vmap(register)(cubes)

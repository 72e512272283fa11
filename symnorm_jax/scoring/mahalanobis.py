"""The healthy Gaussian: streamed moments, shrunk covariance, and the distance to it (Mahalanobis 1936).

Embeddings are seen a batch at a time, and the sums of any number of batches or hosts merge by the parallel
formula of Chan, Golub & LeVeque (1983): memory does not grow with their number, and nothing is squared before
it is centred. Sums run on the device in float32; the covariance is shrunk and factored on the host in float64.
"""

from collections.abc import Callable
from functools import cache, partial, reduce
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from symnorm_jax.errors import EmbeddingError
from symnorm_jax.files import load_arrays, save_arrays
from symnorm_jax.training.sharding import by_example, make_mesh, put_whole, replicated

EPSILON = float(np.finfo(np.float32).eps)
MAX_CONDITION = 1 / EPSILON  # beyond it the smallest eigenvalue of a float32 covariance is rounding error
CANDIDATES = 1 / (1 + np.exp(-np.linspace(-9, 7, 33)))  # shrinkages from 1e-4 to 0.999, even in log odds

_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)  # accelerators use bfloat16 or TF32 otherwise


class Moments(NamedTuple):
    """Sums over the n vectors seen, c = z - mean; the last two give Ledoit-Wolf without a second pass."""

    n: jax.Array  # [] int32
    mean: jax.Array  # [D]
    m2: jax.Array  # [D, D] sum of c c'
    lost: jax.Array  # [D, D] what rounding has taken from m2, a digit or more over thousands of batches
    third: jax.Array  # [D] sum of |c|^2 c
    fourth: jax.Array  # [] sum of |c|^4


class Gaussian(NamedTuple):
    """The healthy embeddings, summarised."""

    mean: jax.Array  # [D] float32
    cholesky: jax.Array  # [D, D] float32, lower factor of the shrunk covariance
    n: int  # vectors it was fitted from
    shrinkage: float  # share of (trace / D) I in the covariance
    effective_rank: float  # exp of the entropy of the unshrunk, normalised eigenvalues (Roy & Vetterli 2007)
    condition: float  # largest over smallest eigenvalue of the shrunk covariance


def zeros(dim: int) -> Moments:
    """The moments of no vectors of length `dim`."""
    vector, square = jnp.zeros(dim), jnp.zeros((dim, dim))
    return Moments(jnp.int32(0), vector, square, square, vector, jnp.float32(0))


@jax.jit
def merge(a: Moments, b: Moments) -> Moments:
    """The moments of two disjoint sets of vectors together; associative and commutative up to rounding."""
    n = a.n + b.n
    mean = a.mean + (b.mean - a.mean) * (b.n / jnp.maximum(n, 1))
    a, b = _about(a, mean), _about(b, mean)
    m2, lost = _exact_sum(a.m2, b.m2)
    return Moments(n, mean, m2, lost + a.lost + b.lost, a.third + b.third, a.fourth + b.fourth)


@jax.jit
def update(moments: Moments, z: jax.Array, valid: jax.Array) -> Moments:
    """The moments with a batch z `[B, D]` added, less the padding: rows where valid `[B]` is false."""
    z = jnp.where(valid[:, None], z.astype(jnp.float32), 0)
    n = valid.sum(dtype=jnp.int32)
    # Differences from one of the vectors are small and nearly exact: a large common offset costs no digits.
    origin = z[jnp.argmax(valid)]
    offset = jnp.where(valid[:, None], z - origin[None], 0)
    mean = offset.sum(0) / jnp.maximum(n, 1)
    centred = jnp.where(valid[:, None], offset - mean[None], 0)
    square = (centred**2).sum(1)
    m2, third, fourth = _matmul(centred.T, centred), _matmul(square, centred), _matmul(square, square)
    return merge(moments, Moments(n, origin + mean, m2, jnp.zeros_like(m2), third, fourth))


def stream(z: np.ndarray, batch: int = 1024) -> Moments:
    """The moments of z `[N, D]`, read about `batch` rows at a time and shared out to all devices of all hosts.

    z may be memory-mapped; every host has it whole. Devices sum up what they are given each for itself, and merge once.
    """
    mesh, dim = make_mesh(), z.shape[1]
    batch = -(-batch // mesh.size) * mesh.size
    begin, add, end = _on_devices(mesh)
    moments = begin(dim)
    for start in range(0, len(z), batch):
        rows = np.asarray(z[start : start + batch], np.float32)
        padded = np.pad(rows, ((0, batch - len(rows)), (0, 0)))  # one shape, so one compilation
        valid = np.arange(batch) < len(rows)
        parts = {"z": padded.reshape(mesh.size, -1, dim), "valid": valid.reshape(mesh.size, -1)}
        moments = add(moments, **put_whole(parts, mesh))
    return end(moments)


@cache
def _on_devices(mesh: Mesh) -> tuple[Callable, Callable, Callable]:
    """No moments, an update and a merger, of moments `[devices, ...]` that lie one on each device."""
    apart, devices = by_example(mesh), range(mesh.size)

    def begin(dim: int) -> Moments:
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (len(devices), *x.shape)), zeros(dim))

    def end(moments: Moments) -> Moments:
        return reduce(merge, (jax.tree.map(lambda x: x[device], moments) for device in devices))  # noqa: B023

    return (
        jax.jit(begin, static_argnums=0, out_shardings=apart),
        jax.jit(jax.vmap(update), out_shardings=apart, donate_argnums=0),
        jax.jit(end, out_shardings=replicated(mesh)),
    )


def oas(moments: Moments) -> float:
    """Oracle approximating shrinkage: Chen et al. (2010) eq. 23 without its 2/D terms, as in scikit-learn."""
    n, _, covariance = _sample(moments)
    dim = len(covariance)
    size, target = np.mean(covariance**2), (np.trace(covariance) / dim) ** 2
    excess = (n + 1) * (size - target / dim)
    return float(min((size + target) / excess, 1)) if excess > 0 else 0.0


def ledoit_wolf(moments: Moments) -> float:
    """The shrinkage of Ledoit & Wolf (2004), asymptotically optimal for independent vectors."""
    n, _, covariance = _sample(moments)
    spread = ((covariance - _sphere(covariance)) ** 2).sum()
    error = (float(moments.fourth) / n - (covariance**2).sum()) / n
    return float(np.clip(error / spread, 0, 1)) if spread > 0 else 0.0


def choose_shrinkage(
    z: np.ndarray,
    patients: np.ndarray,
    folds: int = 5,
    candidates: np.ndarray = CANDIDATES,
    batch: int = 1024,
) -> float:
    """The candidate that makes z `[N, D]` of held-out patients `[N]` most likely, over folds of whole patients.

    Slices of one patient resemble each other, so the formulas, which count slices, shrink too little. Candidates
    below D / MAX_CONDITION are raised to it: from there on any covariance can be solved in float32.
    """
    names, index = np.unique(patients, return_inverse=True)
    if len(names) < 2:
        raise EmbeddingError(f"Shrinkage 'auto' was given {len(names)} patient; it holds some out and needs 2.")
    # Round robin over sorted names: patients of one site tend to be named alike and so spread over the folds.
    fold = index % min(folds, len(names))
    parts = [stream(z[fold == held], batch) for held in range(fold.max() + 1)]
    candidates = np.clip(candidates, z.shape[1] / MAX_CONDITION, 1)
    likelihood = sum(
        _log_likelihood(reduce(merge, parts[:held] + parts[held + 1 :]), test, candidates)
        for held, test in enumerate(parts)
    )
    return float(candidates[np.argmax(likelihood)])


def fit(moments: Moments, shrinkage: float) -> Gaussian:
    """The Gaussian with covariance (1 - s) S + s (trace S / D) I; S has denominator n, s is the shrinkage.

    Raises EmbeddingError for fewer than two vectors, moments that are not finite, vectors that do not vary, a
    shrinkage outside [0, 1], and a covariance whose condition number exceeds MAX_CONDITION.
    """
    if not 0 <= shrinkage <= 1:
        raise EmbeddingError(f"The shrinkage is {shrinkage:g}; 0 to 1 is allowed.")
    n, mean, covariance = _sample(moments)
    eigenvalues = _rank_limited(np.linalg.eigvalsh(covariance), n)
    spectrum = _shrink(eigenvalues, shrinkage)
    condition = spectrum[-1] / spectrum[0] if spectrum[0] > 0 else np.inf
    if condition > MAX_CONDITION:
        raise EmbeddingError(
            f"The covariance of {n} embeddings in {len(mean)} dimensions has condition number {condition:.2g} "
            f"at shrinkage {shrinkage:g}; at most {MAX_CONDITION:.2g} is allowed, so shrink more."
        )
    share = eigenvalues[eigenvalues > 0] / eigenvalues.sum()
    cholesky = np.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * _sphere(covariance))
    return Gaussian(
        mean=jnp.asarray(mean, jnp.float32),
        cholesky=jnp.asarray(cholesky, jnp.float32),
        n=n,
        shrinkage=float(shrinkage),
        effective_rank=float(np.exp(-(share * np.log(share)).sum())),
        condition=float(condition),
    )


def estimate(z: np.ndarray, patients: np.ndarray, shrinkage: str | float = "auto", batch: int = 1024) -> Gaussian:
    """The Gaussian of healthy z `[N, D]` of patients `[N]`; shrinkage is oas, ledoit_wolf, auto or a number.

    Raises EmbeddingError, see `fit`.
    """
    moments = stream(z, batch)
    if shrinkage == "auto":
        return fit(moments, choose_shrinkage(z, patients, batch=batch))
    return fit(moments, RULES[shrinkage](moments) if shrinkage in RULES else _number(shrinkage))


RULES = {"oas": oas, "ledoit_wolf": ledoit_wolf}


def check_shrinkage(shrinkage: str | float) -> None:
    """Raise EmbeddingError unless `estimate` knows this shrinkage."""
    if shrinkage != "auto" and shrinkage not in RULES:
        _number(shrinkage)


def distance(gaussian: Gaussian, z: jax.Array) -> jax.Array:
    """Mahalanobis distance `[N]` of z `[N, D]`, in healthy standard deviations; NaN where z is."""
    dim = len(gaussian.mean)
    if z.ndim != 2 or z.shape[1] != dim:
        raise EmbeddingError(f"The embeddings have shape {z.shape}; [N, {dim}] is what the Gaussian was fitted on.")
    return _distance(gaussian.mean, gaussian.cholesky, z)


def report(gaussian: Gaussian) -> dict[str, int | float]:
    """What a reader needs to judge the fit, as plain numbers; `Gaussian` says what they mean."""
    return {"dimensions": len(gaussian.mean)} | dict(zip(gaussian._fields[2:], gaussian[2:], strict=True))


def save(path: Path, gaussian: Gaussian) -> None:
    """Write a Gaussian as npz, arrays only; the file appears whole or not at all."""
    save_arrays(path, {name: np.asarray(value) for name, value in gaussian._asdict().items()})


def load(path: Path) -> Gaussian:
    """The Gaussian that `save` wrote; a file that holds pickled objects is refused."""
    stored = load_arrays(path)
    arrays = [jnp.asarray(stored[name]) for name in ("mean", "cholesky")]
    return Gaussian(*arrays, *(stored[name].item() for name in Gaussian._fields[2:]))


@jax.jit
def _distance(mean, cholesky, z):
    centred = z.astype(jnp.float32) - mean[None]
    return jnp.linalg.norm(jax.scipy.linalg.solve_triangular(cholesky, centred.T, lower=True), axis=0)


def _about(moments: Moments, point) -> Moments:
    """The sums with c = z - point `[D]`: binomials of c + e about the mean, where the sum of c vanishes."""
    n, mean, m2, lost, third, fourth = moments
    e = mean - point
    square, total, along = _matmul(e, e), jnp.trace(m2), _matmul(m2, e)
    fourth += 4 * _matmul(third + along, e) + 2 * total * square + n * square**2
    third += total * e + 2 * along + n * square * e
    m2, rounding = _exact_sum(m2, n * jnp.outer(e, e))
    return Moments(n, point, m2, lost + rounding, third, fourth)


def _exact_sum(a, b):
    """a + b as rounded, and exactly what the rounding took from it (Knuth's two-sum)."""
    total = a + b
    kept = total - a
    return total, (a - (total - kept)) + (b - kept)


def _scatter(moments: Moments) -> np.ndarray:
    return np.asarray(moments.m2, np.float64) + np.asarray(moments.lost, np.float64)


def _sample(moments: Moments) -> tuple[int, np.ndarray, np.ndarray]:
    """n, mean `[D]` and covariance S `[D, D]` in float64, or the reason why there is no Gaussian in them."""
    n = int(moments.n)
    if n < 2:
        raise EmbeddingError(f"The healthy Gaussian was given {n} embeddings; at least 2 are needed.")
    for name, value in moments._asdict().items():
        if bad := int((~np.isfinite(value)).sum()):
            raise EmbeddingError(
                f"{bad} of {np.size(value)} entries of the healthy embeddings' {name} are NaN or infinite; every "
                f"embedding must be finite and, for float32 sums, below about 1e6."
            )
    mean, covariance = np.asarray(moments.mean, np.float64), _scatter(moments) / n
    level, spread = np.sqrt(np.mean(mean**2)), np.sqrt(np.trace(covariance) / len(mean))
    if spread <= EPSILON * level:
        raise EmbeddingError(
            f"The healthy embeddings have standard deviation {spread:.2g} about a mean of size {level:.2g}; it "
            f"must exceed {EPSILON * level:.2g}, the resolution of float32."
        )
    return n, mean, covariance


def _number(shrinkage: str | float) -> float:
    try:
        number = float(shrinkage)
    except ValueError:
        number = np.nan
    if not 0 <= number <= 1:
        allowed = "oas, ledoit_wolf, auto or a number from 0 to 1"
        raise EmbeddingError(f"The shrinkage is {shrinkage!r}; {allowed} is allowed.")
    return number


def _sphere(covariance: np.ndarray) -> np.ndarray:
    """What shrinkage aims at: (trace S / D) I."""
    return np.trace(covariance) / len(covariance) * np.eye(len(covariance))


def _shrink(eigenvalues, shrinkage):
    return (1 - shrinkage) * eigenvalues + shrinkage * eigenvalues.mean()


def _rank_limited(eigenvalues: np.ndarray, n: int) -> np.ndarray:
    """Ascending eigenvalues `[D]` of the covariance of n vectors: at most n - 1 of them are more than rounding."""
    dim = len(eigenvalues)
    return np.where(np.arange(dim) < dim - (n - 1), 0, np.maximum(eigenvalues, 0))


def _log_likelihood(train: Moments, test: Moments, candidates: np.ndarray) -> np.ndarray:
    """Log-likelihood `[C]`, up to a constant, of one set of vectors under Gaussians fitted to another.

    Shrinkage moves no eigenvector: one decomposition serves all candidates; the test set enters by its moments.
    """
    n, _, covariance = _sample(train)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    power = np.einsum("ij,ij->j", vectors, _scatter(_about(test, train.mean)) @ vectors)
    spectrum = _shrink(_rank_limited(eigenvalues, n), candidates[:, None])
    return -0.5 * (int(test.n) * np.log(spectrum) + power / spectrum).sum(1)

"""The healthy Gaussian, shrunk and factored on the host in float64, and float32 distances to it (Mahalanobis 1936)."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from symnorm_jax.errors import EmbeddingError
from symnorm_jax.files import load_arrays, save_arrays
from symnorm_jax.scoring import shrinkage as rules
from symnorm_jax.scoring.moments import Moments, stream


class Gaussian(NamedTuple):
    """The healthy embeddings, summarised."""

    mean: jax.Array  # [D] float32
    cholesky: jax.Array  # [D, D] float32, lower factor of the shrunk covariance
    n: int  # vectors it was fitted from
    shrinkage: float  # share of (trace / D) I in the covariance
    effective_rank: float  # exp of the entropy of the unshrunk, normalised eigenvalues (Roy & Vetterli 2007)
    condition: float  # largest over smallest eigenvalue of the shrunk covariance


def fit(moments: Moments, shrinkage: float) -> Gaussian:
    """Fit the Gaussian with covariance (1 - s) S + s (trace S / D) I; S has denominator n, s is the shrinkage.

    Raises EmbeddingError for s outside [0, 1], what `sample` refuses, and a condition number above MAX_CONDITION.
    """
    if not 0 <= shrinkage <= 1:
        raise EmbeddingError(f"The shrinkage is {shrinkage:g}; 0 to 1 is allowed.")
    n, mean, covariance = rules.sample(moments)
    eigenvalues = rules.rank_limited(np.linalg.eigvalsh(covariance), n)
    spectrum = rules.shrink(eigenvalues, shrinkage)
    condition = spectrum[-1] / spectrum[0] if spectrum[0] > 0 else np.inf
    if condition > rules.MAX_CONDITION:
        found = f"{n} embeddings in {len(mean)} dimensions has condition number {condition:.2g}"
        most = f"at most {rules.MAX_CONDITION:.2g} is allowed, so shrink more."
        raise EmbeddingError(f"The covariance of {found} at shrinkage {shrinkage:g}; {most}")
    share = eigenvalues[eigenvalues > 0] / eigenvalues.sum()
    cholesky = np.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * rules.sphere(covariance))
    arrays, rank = (jnp.asarray(x, jnp.float32) for x in (mean, cholesky)), np.exp(-(share * np.log(share)).sum())
    return Gaussian(*arrays, n, float(shrinkage), float(rank), float(condition))


def estimate(z: np.ndarray, patients: np.ndarray, shrinkage: str | float = "auto", batch: int = 1024) -> Gaussian:
    """Fit, as `fit`, healthy z `[N, D]` of patients `[N]`; shrinkage is oas, ledoit_wolf, auto or a number."""
    moments = stream(z, batch)
    if shrinkage == "auto":
        return fit(moments, rules.choose_shrinkage(z, patients, batch=batch))
    known = rules.check_shrinkage(shrinkage)
    return fit(moments, rules.RULES[known](moments) if known in rules.RULES else known)


def distance(gaussian: Gaussian, z: jax.Array) -> jax.Array:
    """Measure the Mahalanobis distance `[N]` of z `[N, D]`, in healthy standard deviations; NaN where z is."""
    dim = len(gaussian.mean)
    if z.ndim != 2 or z.shape[1] != dim:
        raise EmbeddingError(f"The embeddings have shape {z.shape}; [N, {dim}] is what the Gaussian was fitted on.")
    return _distance(gaussian.mean, gaussian.cholesky, z)


def report(gaussian: Gaussian) -> dict[str, int | float]:
    """Give what a reader needs to judge the fit, as plain numbers; `Gaussian` says what they mean."""
    return {"dimensions": len(gaussian.mean)} | dict(zip(gaussian._fields[2:], gaussian[2:], strict=True))


def save(path: Path, gaussian: Gaussian) -> None:
    """Write a Gaussian as npz, arrays only; the file appears whole or not at all."""
    save_arrays(path, {name: np.asarray(value) for name, value in gaussian._asdict().items()})


def load(path: Path) -> Gaussian:
    """Read the Gaussian that `save` wrote; a file that holds pickled objects is refused."""
    stored = load_arrays(path)
    arrays = [jnp.asarray(stored[name]) for name in ("mean", "cholesky")]
    return Gaussian(*arrays, *(stored[name].item() for name in Gaussian._fields[2:]))


@jax.jit
def _distance(mean, cholesky, z):
    centred = z.astype(jnp.float32) - mean[None]
    return jnp.linalg.norm(jax.scipy.linalg.solve_triangular(cholesky, centred.T, lower=True), axis=0)

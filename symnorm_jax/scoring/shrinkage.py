"""How far a covariance is drawn, in float64, towards a sphere: by formula, or by what makes people left out likely."""

from contextlib import suppress
from functools import reduce

import numpy as np

from symnorm_jax.errors import ConfigError, EmbeddingError
from symnorm_jax.scoring.moments import Moments, about, merge, scatter, stream

Array = np.ndarray
EPSILON = float(np.finfo(np.float32).eps)
MAX_CONDITION = 1 / EPSILON  # beyond it the smallest eigenvalue of a float32 covariance is rounding error
SHARES = 1 / (1 + np.exp(-np.linspace(-9, 7, 33)))  # shrinkages from 1e-4 to 0.999, even in log odds


def oas(moments: Moments) -> float:
    """Oracle approximating shrinkage: Chen et al. (2010) eq. 23 without its 2/D terms, as in scikit-learn."""
    n, _, covariance = sample(moments)
    dim = len(covariance)
    size, target = np.mean(covariance**2), (np.trace(covariance) / dim) ** 2
    excess = (n + 1) * (size - target / dim)
    return float(min((size + target) / excess, 1)) if excess > 0 else 0.0


def ledoit_wolf(moments: Moments) -> float:
    """Estimate the shrinkage of Ledoit & Wolf (2004), asymptotically optimal for independent vectors."""
    n, _, covariance = sample(moments)
    spread = ((covariance - sphere(covariance)) ** 2).sum()
    error = (float(moments.fourth) / n - (covariance**2).sum()) / n
    return float(np.clip(error / spread, 0, 1)) if spread > 0 else 0.0


def choose_shrinkage(z: Array, patients: Array, folds: int = 5, candidates: Array = SHARES, batch: int = 1024) -> float:
    """Choose the candidate that makes z `[N, D]` of held-out patients `[N]` most likely, over folds of whole patients.

    Slices of a patient are alike, so formulas, which count slices, shrink too little. From D / MAX_CONDITION, to which
    candidates are raised, any covariance can be solved in float32.
    """
    names, index = np.unique(patients, return_inverse=True)
    if len(names) < 2:
        raise EmbeddingError(f"Shrinkage 'auto' was given {len(names)} patient; it holds some out and needs 2.")
    # Round robin over sorted names: patients of one site tend to be named alike and so spread over the folds.
    fold = index % min(folds, len(names))
    parts = [stream(z[fold == held], batch) for held in range(fold.max() + 1)]
    candidates = np.clip(candidates, z.shape[1] / MAX_CONDITION, 1)
    rest = (reduce(merge, parts[:held] + parts[held + 1 :]) for held in range(len(parts)))
    likelihood = sum(log_likelihood(train, test, candidates) for train, test in zip(rest, parts, strict=True))
    return float(candidates[np.argmax(likelihood)])


RULES = {"oas": oas, "ledoit_wolf": ledoit_wolf}


def check_shrinkage(shrinkage: str | float) -> str | float:
    """Give back auto, one of RULES, or a number. Raises ConfigError for what is none of these, or outside [0, 1]."""
    if shrinkage == "auto" or shrinkage in RULES:
        return shrinkage
    with suppress(ValueError):
        if 0 <= float(shrinkage) <= 1:
            return float(shrinkage)
    raise ConfigError(f"score.shrinkage={shrinkage!r}; oas, ledoit_wolf, auto or a number from 0 to 1 is allowed.")


def sample(moments: Moments) -> tuple[int, Array, Array]:
    """Give n, mean `[D]` and covariance S `[D, D]` in float64. Raises EmbeddingError where they make no Gaussian."""
    n = int(moments.n)
    if n < 2:
        raise EmbeddingError(f"The healthy Gaussian was given {n} embeddings; at least 2 are needed.")
    for name, value in moments._asdict().items():
        if bad := int((~np.isfinite(value)).sum()):
            needed = "every embedding must be finite and, for float32 sums, below about 1e6."
            entries = f"{bad} of {np.size(value)} entries of the healthy embeddings' {name}"
            raise EmbeddingError(f"{entries} are NaN or infinite; {needed}")
    mean, covariance = np.asarray(moments.mean, np.float64), scatter(moments) / n
    level, spread = np.sqrt(np.mean(mean**2)), np.sqrt(np.trace(covariance) / len(mean))
    if spread <= EPSILON * level:
        found = f"standard deviation {spread:.2g} about a mean of size {level:.2g}"
        least = f"it must exceed {EPSILON * level:.2g}, the resolution of float32."
        raise EmbeddingError(f"The healthy embeddings have {found}; {least}")
    return n, mean, covariance


def sphere(covariance: Array) -> Array:
    """Give what shrinkage aims at: (trace S / D) I."""
    return np.trace(covariance) / len(covariance) * np.eye(len(covariance))


def shrink(eigenvalues: Array, shrinkage) -> Array:
    """Draw eigenvalues `[D]` to their mean by a shrinkage, or shrinkages `[C, 1]`."""
    return (1 - shrinkage) * eigenvalues + shrinkage * eigenvalues.mean()


def rank_limited(eigenvalues: Array, n: int) -> Array:
    """Clear ascending eigenvalues `[D]` of the covariance of n vectors of rounding: at most n - 1 are more than 0."""
    dim = len(eigenvalues)
    return np.where(np.arange(dim) < dim - (n - 1), 0, np.maximum(eigenvalues, 0))


def log_likelihood(train: Moments, test: Moments, candidates: Array) -> Array:
    """Log-likelihood `[C]`, up to a constant, of test moments; shrinkage moves no eigenvector, so all share them."""
    n, _, covariance = sample(train)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    power = np.einsum("ij,ij->j", vectors, scatter(about(test, train.mean)) @ vectors)
    spectrum = shrink(rank_limited(eigenvalues, n), candidates[:, None])
    return -0.5 * (int(test.n) * np.log(spectrum) + power / spectrum).sum(1)

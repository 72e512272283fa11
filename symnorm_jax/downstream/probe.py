"""What needs no training of a network: linear probes of features that stay as they are, and what a ruler tells.

A probe is a regularised linear model of scikit-learn, whose penalty is what does best on the validation people.
"""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, mean_absolute_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from symnorm_jax.data.store import SampleSource

PENALTIES = 10.0 ** np.arange(-2, 6)  # of standardised features; from hardly any to nothing but the mean

Known = tuple[np.ndarray, np.ndarray]  # features [N, D] and targets [N]: numbers, or 1 and 0


def predict(train: Known, val: Known, features: np.ndarray, kind: str) -> np.ndarray:
    """Give what a probe says of `features` `[M, D]`, `[M]`: a number, or the probability of the class.

    People to learn from who are all of one class teach only how frequent it is.
    """
    x, target = train
    if kind == "class" and len(np.unique(target)) < 2:
        return np.full(len(features), target[0])
    fitted = [_model(penalty, kind).fit(x, target) for penalty in PENALTIES]
    best = min(fitted, key=lambda model: _loss(model, *val, kind))  # the weakest of penalties that do as well
    return _answer(best, features, kind)


def _model(penalty: float, kind: str) -> BaseEstimator:
    # Newton's method: with more features than people and a weak penalty L-BFGS does not converge.
    logistic = LogisticRegression(C=1 / penalty, solver="newton-cholesky", max_iter=1000)
    return make_pipeline(StandardScaler(), Ridge(alpha=penalty) if kind == "number" else logistic)


def _answer(model: BaseEstimator, features: np.ndarray, kind: str) -> np.ndarray:
    return model.predict(features) if kind == "number" else model.predict_proba(features)[:, 1]


def _loss(model: BaseEstimator, x: np.ndarray, target: np.ndarray, kind: str) -> float:
    answer = _answer(model, x, kind)
    return mean_absolute_error(target, answer) if kind == "number" else log_loss(target, answer, labels=[0.0, 1.0])


def measured(source: SampleSource, spacing: float) -> np.ndarray:
    """Measure the brain's volume in ml and its length, width and height in mm, of each volume of `source`, `[N, 4]`.

    The size of the brain stands for that of the head, of which a prepared volume keeps nothing. A side is that of a
    solid ellipsoid with the same variance along it, side ** 2 / 20, so it is known to a fraction of a voxel.
    """
    found = []
    for brain in (source[i]["brain"][..., 0] > 0 for i in range(len(source))):
        profiles = [brain.sum(tuple({0, 1, 2} - {axis})) for axis in range(3)]
        sides = [np.sqrt(20) * np.sqrt(_variance(profile)) * spacing for profile in profiles]
        found.append([brain.sum() * spacing**3 / 1000, *sides])
    return np.array(found)


def _variance(profile: np.ndarray) -> float:
    """Compute the variance, in voxels, of where along an axis the voxels lie."""
    place, share = np.arange(len(profile)), profile / max(profile.sum(), 1)
    return float(share @ place**2 - (share @ place) ** 2)

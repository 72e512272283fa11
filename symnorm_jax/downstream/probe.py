"""Linear probes: a regularised linear model on features that stay as they are, from scikit-learn.

The strength of its penalty is what does best on the validation people.
"""

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, mean_absolute_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

PENALTIES = 10.0 ** np.arange(-2, 6)  # of standardised features; from hardly any to nothing but the mean

Known = tuple[np.ndarray, np.ndarray]  # features [N, D] and targets [N]: numbers, or 1 and 0


def predict(train: Known, val: Known, features: np.ndarray, kind: str) -> np.ndarray:
    """What a probe says of `features` `[M, D]`, `[M]`: a number, or the probability of the class.

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
    linear = Ridge(alpha=penalty) if kind == "number" else logistic
    return make_pipeline(StandardScaler(), linear)


def _answer(model: BaseEstimator, features: np.ndarray, kind: str) -> np.ndarray:
    return model.predict(features) if kind == "number" else model.predict_proba(features)[:, 1]


def _loss(model: BaseEstimator, x: np.ndarray, target: np.ndarray, kind: str) -> float:
    answer = _answer(model, x, kind)
    return mean_absolute_error(target, answer) if kind == "number" else log_loss(target, answer, labels=[0.0, 1.0])

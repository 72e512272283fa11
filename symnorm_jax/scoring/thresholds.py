"""Operating points, fitted on the validation split alone. A score at or above its threshold is called abnormal."""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve


def roc(score: np.ndarray, positive: np.ndarray, quantile: float) -> float:
    """The threshold that maximises sensitivity + specificity (Youden 1950)."""
    fpr, tpr, values = _curve(score, positive)
    return float(values[np.argmax(tpr - fpr)])


def max_accuracy(score: np.ndarray, positive: np.ndarray, quantile: float) -> float:
    """The threshold that maximises accuracy at the prevalence of the validation split."""
    fpr, tpr, values = _curve(score, positive)
    return float(values[np.argmax(tpr * positive.sum() - fpr * (~positive).sum())])


def healthy_quantile(score: np.ndarray, positive: np.ndarray, quantile: float) -> float:
    """The threshold below which a share `quantile` of the healthy lies; needs no diseased case."""
    return float(np.quantile(score[~positive], quantile, method="higher"))


def _curve(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    fpr, tpr, values = roc_curve(positive, score, drop_intermediate=False)
    values[0] = np.nextafter(score.max(), np.inf)  # scikit-learn's infinity, which calls nothing abnormal
    return fpr, tpr, values


RULES = {"roc": roc, "max_accuracy": max_accuracy, "healthy_quantile": healthy_quantile}


def fit_thresholds(cases: pd.DataFrame, names: list[str], quantile: float) -> dict:
    """`{score: {rule: {"value", "origin", ...}}}` from validation cases with columns `positive` and the scores.

    A rule that needs both classes has the value None where the validation split has one.
    """
    positive = cases.positive.to_numpy(bool)
    origin = {"origin": "val", "healthy": int((~positive).sum()), "abnormal": int(positive.sum())}
    found: dict = {name: {} for name in names}
    for name in names:
        for rule, fit in RULES.items():
            enough = (~positive).any() and (positive.any() or rule == "healthy_quantile")
            value = fit(cases[name].to_numpy(float), positive, quantile) if enough else None
            about = {"quantile": quantile} if rule == "healthy_quantile" else {}
            found[name][rule] = {"value": value, **origin, **about}
    return found

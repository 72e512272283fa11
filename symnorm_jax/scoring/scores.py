"""Raw scores of every embedded slice, one table; larger is more abnormal. Nothing here is fitted on the test split."""

from functools import partial

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from symnorm_jax.scoring.embed import Arrays
from symnorm_jax.scoring.mahalanobis import Gaussian, distance
from symnorm_jax.training.runlog import progress

ABOUT = ("patient", "session", "slice", "position", "brain_mm2", "lesion_mm2", "healthy_person", "label", "split")
BASELINE = "baseline_"


def score_table(manifest: pd.DataFrame, embedded: dict[str, Arrays], gaussian: Gaussian) -> pd.DataFrame:
    """The scores of the slices in `embedded`, `{split: arrays}`, with what the manifest says of them.

    Columns: those of `ABOUT`, each score of the system, `mahalanobis`, their sums such as `mse+mahalanobis`, and the
    trivial baselines `baseline_*`.
    """
    parts = []
    for arrays in embedded.values():
        part = manifest.loc[arrays["index"], list(ABOUT)]
        names = [name for name in arrays if name.startswith("score.")]
        part = part.assign(**{name.removeprefix("score."): arrays[name] for name in names})
        part["mahalanobis"] = _distances(gaussian, arrays["z"])
        parts.append(part)
    table = pd.concat(parts)
    for name in score_names(table):
        if name != "mahalanobis":
            table[f"{name}+mahalanobis"] = _standardised(table, name) + _standardised(table, "mahalanobis")
    return _with_baselines(table)


def names_of(scores: tuple[str, ...]) -> list[str]:
    """The columns that a system with these scores has in a score table, baselines apart."""
    return [*scores, "mahalanobis", *(f"{name}+mahalanobis" for name in scores)]


def score_names(table: pd.DataFrame, baselines: bool = False) -> list[str]:
    """The columns of a score table that are scores of the system or, with `baselines`, the trivial ones."""
    return [name for name in table if name not in ABOUT and name.startswith(BASELINE) == baselines]


def validation(table: pd.DataFrame, label: str) -> pd.DataFrame:
    """The validation slices with this label."""
    return table[(table.split == "val") & (table.label == label)]


def _standardised(table: pd.DataFrame, name: str) -> pd.Series:
    """A score in deviations of the healthy validation slices from their mean."""
    healthy = validation(table, "healthy")[name]
    return (table[name] - healthy.mean()) / max(healthy.std(), np.finfo(np.float32).tiny)


def _with_baselines(table: pd.DataFrame) -> pd.DataFrame:
    """Adds slice position and brain area; what is free in a baseline is chosen in its favour, on validation."""
    centre = validation(table, "abnormal").position.median()
    table["baseline_position"] = -(table.position - (0.5 if np.isnan(centre) else centre)).abs()
    table["baseline_area"] = table.brain_mm2
    labelled = table[(table.split == "val") & (table.label != "neither")]
    if labelled.label.nunique() == 2:
        auroc = partial(roc_auc_score, labelled.label == "abnormal")
        for name in ("baseline_area", "baseline_brightness"):
            table[name] *= 1.0 if auroc(labelled[name]) >= 0.5 else -1.0
    return table


def _distances(gaussian: Gaussian, z: np.ndarray, block: int = 1024) -> np.ndarray:
    starts = range(0, len(z), block)
    return np.concatenate(
        [distance(gaussian, z[start : start + block]) for start in progress(starts, "scoring", len(starts))]
    )

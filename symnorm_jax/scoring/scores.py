"""Raw scores of every embedded slice, one table; larger is more abnormal. Nothing here is fitted on the test split."""

from functools import partial

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from symnorm_jax.progress import progress
from symnorm_jax.scoring.embed import Arrays
from symnorm_jax.scoring.mahalanobis import Gaussian, distance

ABOUT = ("patient", "session", "slice", "position", "brain_mm2", "lesion_mm2", "healthy_person", "label", "split")
TRIVIAL = "trivial_"  # of scores that need no network
ZERO_SHOT = "zero_shot"  # the score that a run calls headline, by the run it started from as that one is


Moments = dict[str, dict[str, float]]  # {score: {"mean", "sd"}} of healthy validation slices


def score_table(
    manifest: pd.DataFrame, embedded: dict[str, Arrays], gaussian: Gaussian, moments: Moments | None = None
) -> pd.DataFrame:
    """The scores of the slices in `embedded`, `{split: arrays}`, with what the manifest says of them.

    Scores are summed in deviations from the healthy, by `moments` or else by those of the table's own validation split.
    Columns: those of `ABOUT`, each score of the system, `mahalanobis`, their sums such as `mse+mahalanobis`, and the
    trivial scores `trivial_*`.
    """
    parts = []
    for arrays in embedded.values():
        part = manifest.loc[arrays["index"], list(ABOUT)]
        names = [name for name in arrays if name.startswith("score.")]
        part = part.assign(**{name.removeprefix("score."): arrays[name] for name in names})
        part["mahalanobis"] = _distances(gaussian, arrays["z"])
        parts.append(part)
    table = pd.concat(parts)
    moments = moments or healthy_moments(table)
    deviation = {name: (table[name] - m["mean"]) / m["sd"] for name, m in moments.items()}
    for name in (name for name in moments if name != "mahalanobis"):
        table[f"{name}+mahalanobis"] = deviation[name] + deviation["mahalanobis"]
    return _with_trivial(table)


def healthy_moments(table: pd.DataFrame) -> Moments:
    """Mean and deviation of each of the system's scores, sums apart, over the healthy validation slices."""
    healthy = validation(table, "healthy")
    names = [name for name in score_names(table) if "+" not in name]
    tiny = np.finfo(np.float32).tiny
    return {name: {"mean": float(healthy[name].mean()), "sd": float(max(healthy[name].std(), tiny))} for name in names}


def names_of(scores: tuple[str, ...]) -> list[str]:
    """The columns that a system with these scores has in a score table, trivial ones apart."""
    return [*scores, "mahalanobis", *(f"{name}+mahalanobis" for name in scores)]


def own(name: str) -> bool:
    """Tell whether a score is the system's own, and neither trivial nor that of the run it started from."""
    return not name.startswith(TRIVIAL) and name != ZERO_SHOT


def score_names(table: pd.DataFrame, trivial: bool = False) -> list[str]:
    """The columns of a score table that are scores of the system or, with `trivial`, the others."""
    return [name for name in table if name not in ABOUT and own(name) != trivial]


def validation(table: pd.DataFrame, label: str) -> pd.DataFrame:
    """The validation slices with this label."""
    return table[(table.split == "val") & (table.label == label)]


def _with_trivial(table: pd.DataFrame) -> pd.DataFrame:
    """Adds slice position, brain area and both in a logistic regression, which needs abnormal slices in validation.

    What is free in a baseline is chosen in its favour, on validation.
    """
    centre = validation(table, "abnormal").position.median()
    table["trivial_position"] = -(table.position - (0.5 if np.isnan(centre) else centre)).abs()
    table["trivial_area"] = table.brain_mm2
    labelled = table[(table.split == "val") & (table.label != "neither")]
    if labelled.label.nunique() == 2:
        auroc = partial(roc_auc_score, labelled.label == "abnormal")
        for name in ("trivial_area", "trivial_brightness", "trivial_fluid"):
            table[name] *= 1.0 if auroc(labelled[name]) >= 0.5 else -1.0
        model = make_pipeline(StandardScaler(), LogisticRegression())
        model.fit(_place(labelled), labelled.label == "abnormal")
        table["trivial_position_and_area"] = model.decision_function(_place(table))
    return table


def _place(table: pd.DataFrame) -> np.ndarray:
    """Slice position, its square, for lesions are most frequent half-way up, and brain area, `[N, 3]`."""
    return np.column_stack([table.position, table.position**2, table.brain_mm2])


def _distances(gaussian: Gaussian, z: np.ndarray, block: int = 1024) -> np.ndarray:
    starts = range(0, len(z), block)
    return np.concatenate(
        [distance(gaussian, z[start : start + block]) for start in progress(starts, "scoring", len(starts))]
    )

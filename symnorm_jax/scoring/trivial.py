"""Scores that need no network, which every method has to beat: what an image, or its place in the head, gives away."""

from functools import partial

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from symnorm_jax.geometry import mirror_batch

Arrays = dict[str, np.ndarray]
FLUID = 0.35  # between fluid, about 0.15, and grey matter, about 0.6, where white matter on T1 is about 0.9


def trivial_scores(batch: Arrays) -> Arrays:
    """Score what an image gives away without any learning, `{name: [B]}`.

    `trivial_brightness` is the 99.5th percentile in the brain, `trivial_mirror` the mean absolute difference from the
    mirror image where both are brain, `trivial_fluid` the dark share of the brain, which is fluid on T1 and FLAIR.
    """
    image, brain = batch["image"][..., 0], batch["brain"][..., 0] > 0
    axes = tuple(range(1, image.ndim))
    both = (brain & mirror_batch(brain)).sum(axes)
    return {
        "trivial_brightness": np.array([np.percentile(x[m], 99.5) for x, m in zip(image, brain, strict=True)]),
        "trivial_fluid": (brain & (image < FLUID)).sum(axes) / np.maximum(brain.sum(axes), 1),
        "trivial_mirror": mirror_difference(image, brain).sum(axes) / np.maximum(both, 1),
    }


def mirror_difference(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Absolute difference `[B, *S]` of images from their mirror images where both are brain, zero elsewhere."""
    return np.abs(image - mirror_batch(image)) * (brain & mirror_batch(brain))


def with_place(table: pd.DataFrame) -> pd.DataFrame:
    """Add slice position, area and, fitted on validation, both in one; what is free, such as a sign, is favourable."""
    labelled = table[(table.split == "val") & (table.label != "neither")]
    abnormal = labelled.label == "abnormal"
    centre = labelled.position[abnormal].median()
    table["trivial_position"] = -(table.position - (0.5 if np.isnan(centre) else centre)).abs()
    table["trivial_area"] = table.brain_mm2
    if labelled.label.nunique() == 2:
        auroc = partial(roc_auc_score, abnormal)
        for name in ("trivial_area", "trivial_brightness", "trivial_fluid"):
            table[name] *= 1.0 if auroc(table.loc[labelled.index, name]) >= 0.5 else -1.0
        # Position comes with its square, for lesions are most frequent half-way up.
        place = np.column_stack([table.position, table.position**2, table.brain_mm2])
        model = make_pipeline(StandardScaler(), LogisticRegression())
        model.fit(place[table.index.isin(labelled.index)], abnormal)
        table["trivial_position_and_area"] = model.decision_function(place)
    return table

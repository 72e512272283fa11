"""What a run takes over from the finished run that it starts from: the healthy Gaussian, and the thresholds."""

from pathlib import Path

import pandas as pd

from symnorm_jax.files import read_json
from symnorm_jax.scoring.embed import Arrays
from symnorm_jax.scoring.mahalanobis import Gaussian, load
from symnorm_jax.scoring.scores import Moments, score_table

THRESHOLDS = ("source", "target")
ZERO_SHOT = "baseline_zero_shot"  # the score that this run calls headline, by the source as it is


def gaussian_of(run: str) -> Gaussian:
    """The healthy Gaussian of a run."""
    return load(Path(run) / "gaussian.npz")


def moments_of(run: str) -> Moments:
    """The means and deviations by which a run sums its scores."""
    return read_json(Path(run) / "thresholds.json")["moments"]


def thresholds_of(run: str, level: str, aggregate: str) -> dict[str, dict]:
    """`{score: {rule: fit}}` of a run at a level, the run named as their origin.

    Values are None for patients whose scores that run makes otherwise than by this `aggregate` of their slices.
    """
    fitted = read_json(Path(run) / "thresholds.json")[level]
    other = level == "patient" and read_json(Path(run) / "config.json")["score"]["patient"] != aggregate
    changes = {"value": None} if other else {}
    return {
        score: {rule: fit | changes | {"origin": f"{run}: {fit['origin']}"} for rule, fit in rules.items()}
        for score, rules in fitted.items()
    }


def zero_shot(run: str, manifest: pd.DataFrame, embedded: dict[str, Arrays], headline: str) -> pd.Series:
    """The `headline` score of a run on slices that its own networks have embedded, nothing fitted anew."""
    return score_table(manifest, embedded, gaussian_of(run), moments_of(run))[headline]

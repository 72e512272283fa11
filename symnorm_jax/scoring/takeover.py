"""What a run takes over from the finished run that it starts from: the healthy Gaussian, and the thresholds."""

from pathlib import Path

import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.files import read_json
from symnorm_jax.rundir import converted, read_config
from symnorm_jax.scoring.embed import Arrays
from symnorm_jax.scoring.mahalanobis import Gaussian, load
from symnorm_jax.scoring.scores import Moments, score_table

THRESHOLDS = ("source", "target")


def source_of(config: ConfigDict) -> str | None:
    """Name the finished run that one starts from; None from scratch, and from converted weights, only networks."""
    return config.init_from if config.init_from and not converted(config.init_from) else None


def gaussian_of(run: str) -> Gaussian:
    """Read the healthy Gaussian of a run."""
    return load(Path(run) / "gaussian.npz")


def moments_of(run: str) -> Moments:
    """Read the means and deviations by which a run sums its scores."""
    return read_json(Path(run) / "thresholds.json")["moments"]


def thresholds_of(run: str, level: str, score: ConfigDict) -> dict[str, dict]:
    """Take over the thresholds of a run at a level, the run named as their origin: `{score: {rule: fit}}`.

    Values are None for patients whose scores that run makes of their slices otherwise than the section `score` here
    does, or by comparing them with its own slices (`calibrated`). Thresholds of groups are taken over where the same
    groups are asked for here.
    """
    fitted = read_json(Path(run) / "thresholds.json")
    there = read_config(Path(run)).score
    same = all(there[key] == score[key] for key in ("patient", "top_k")) and score.patient != "calibrated"
    reason = f"{run} makes the scores of patients otherwise"
    changes = {} if same or level == "sample" else {"value": None, "promise": None, "reason": reason}

    def taken(fit: dict) -> dict:
        other = list(score.groups) != fit.get("groups", [])
        kept = {key: value for key, value in fit.items() if not (other and "group" in key)}
        return kept | changes | {"origin": f"{run}: {fit['origin']}"}

    return {name: {rule: taken(fit) for rule, fit in rules.items()} for name, rules in fitted[level].items()}


def zero_shot(run: str, manifest: pd.DataFrame, embedded: dict[str, Arrays], headline: str) -> pd.Series:
    """Give the `headline` score of a run to samples that its own networks have embedded, nothing fitted anew."""
    return score_table(manifest, embedded, gaussian_of(run), moments_of(run))[headline]

"""Raw scores of every embedded sample, one table, and what is taken over from the finished run that a run starts from.

Larger is more abnormal. Nothing is fitted on the test split.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.files import read_json
from symnorm_jax.lineage import converted
from symnorm_jax.progress import progress
from symnorm_jax.rundir import read_config
from symnorm_jax.scoring.embed import Arrays
from symnorm_jax.scoring.mahalanobis import Gaussian, distance, load
from symnorm_jax.scoring.trivial import with_place

ABOUT = ("patient", "session", "slice", "position", "brain_mm2", "lesion_mm2", "healthy_person", "label", "split")
THRESHOLDS = ("source", "target")  # whose a run uses
TRIVIAL = "trivial_"  # of scores that need no network
ZERO_SHOT = "zero_shot"  # the score that a run calls headline, by the run it started from as that one is
BLOCK = 1024  # embeddings whose distances are taken together

Table = pd.DataFrame
Moments = dict[str, dict[str, float]]  # {score: {"mean", "sd"}} of healthy validation samples


def score_table(
    manifest: Table, embedded: dict[str, Arrays], gaussian: Gaussian, moments: Moments | None = None
) -> Table:
    """Score the samples in `embedded`, `{split: arrays}`, beside what the manifest says of them.

    Columns: those of `ABOUT`, each score of the system, `mahalanobis`, sums such as `mse+mahalanobis`, and trivial
    scores `trivial_*`. Sums are of deviations from the healthy, by `moments` or those of the table's validation split.
    """
    parts = []
    for arrays in embedded.values():
        starts = range(0, len(arrays["z"]), BLOCK)
        z = (arrays["z"][start : start + BLOCK] for start in progress(starts, "scoring", len(starts)))
        scores = of_arrays(arrays) | {"mahalanobis": np.concatenate([distance(gaussian, block) for block in z])}
        parts.append(manifest.loc[arrays["index"], list(ABOUT)].assign(**scores))
    table = pd.concat(parts)
    moments = moments or healthy_moments(table)
    deviation = {name: (table[name] - m["mean"]) / m["sd"] for name, m in moments.items()}
    for name in (name for name in moments if name != "mahalanobis"):
        table[f"{name}+mahalanobis"] = deviation[name] + deviation["mahalanobis"]
    return with_place(table)


def of_arrays(arrays: Arrays) -> Arrays:
    """Give the scores `{name: [N]}` among the arrays of a split."""
    return {name.removeprefix("score."): x for name, x in arrays.items() if name.startswith("score.")}


def healthy_moments(table: Table) -> Moments:
    """Measure each of the system's scores, sums apart, over the healthy validation samples: mean and deviation."""
    healthy, tiny = validation(table, "healthy"), np.finfo(np.float32).tiny
    names = [name for name in score_names(table) if "+" not in name]
    return {name: {"mean": float(healthy[name].mean()), "sd": float(max(healthy[name].std(), tiny))} for name in names}


def names_of(scores: tuple[str, ...]) -> list[str]:
    """List the columns that a system with these scores has in a score table, trivial ones apart."""
    return [*scores, "mahalanobis", *(f"{name}+mahalanobis" for name in scores)]


def own(name: str) -> bool:
    """Tell whether a score is the system's own, and neither trivial nor that of the run it started from."""
    return not name.startswith(TRIVIAL) and name != ZERO_SHOT


def score_names(table: Table, trivial: bool = False) -> list[str]:
    """List the columns of a score table that are scores of the system or, with `trivial`, the others."""
    return [name for name in table if name not in ABOUT and own(name) != trivial]


def validation(table: Table, label: str) -> Table:
    """Select the validation samples with this label."""
    return table[(table.split == "val") & (table.label == label)]


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

    Values are None for patients whose scores that run makes of slices otherwise than the section `score` here does, or
    by comparing them with its own slices (`calibrated`). Those of groups are taken over where the groups are the same.
    """
    fitted, there = read_json(Path(run) / "thresholds.json"), read_config(Path(run)).score
    same = all(there[key] == score[key] for key in ("patient", "top_k")) and score.patient != "calibrated"
    reason = f"{run} makes the scores of patients otherwise"
    changes = {} if same or level == "sample" else {"value": None, "promise": None, "reason": reason}

    def taken(fit: dict) -> dict:
        other = list(score.groups) != fit.get("groups", [])
        kept = {key: value for key, value in fit.items() if not (other and "group" in key)}
        return kept | changes | {"origin": f"{run}: {fit['origin']}"}

    return {name: {rule: taken(fit) for rule, fit in rules.items()} for name, rules in fitted[level].items()}


def zero_shot(run: str, manifest: Table, embedded: dict[str, Arrays], headline: str) -> pd.Series:
    """Give the `headline` score of a run to samples that its own networks have embedded, nothing fitted anew."""
    return score_table(manifest, embedded, gaussian_of(run), moments_of(run))[headline]

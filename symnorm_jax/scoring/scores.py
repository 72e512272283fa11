"""Raw scores of every embedded sample, one table, and what is taken over from the finished run that a run starts from.

Larger is more abnormal. Nothing is fitted on the test split.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.files import load_arrays, read_json
from symnorm_jax.progress import progress
from symnorm_jax.rundir import CALIBRATION, EMBEDDINGS, GAUSSIAN, MANIFEST, THRESHOLDS, converted, read_config
from symnorm_jax.scoring.embed import HIGHEST, Arrays
from symnorm_jax.scoring.mahalanobis import Gaussian, distance, load
from symnorm_jax.systems.contract import System

ABOUT = ("patient", "session", "slice", "position", "brain_mm2", "lesion_mm2", "healthy_person", "label", "split")
TRIVIAL = "trivial_"  # of scores that need no network
ZERO_SHOT = "zero_shot"  # the score that a run calls headline, by the run it started from as that one is
BLOCK = 1024  # embeddings whose distances are taken together

Table = pd.DataFrame
Moments = dict[str, dict[str, float]]  # {score: {"mean", "sd"}} of healthy validation samples


def score_table(
    manifest: Table,
    embedded: dict[str, Arrays],
    gaussian: Gaussian,
    moments: Moments | None = None,
    fitting: Table | None = None,
) -> Table:
    """Score the samples in `embedded`, `{split: arrays}`, beside what the manifest says of them, ABOUT.

    Scores are the system's, `mahalanobis`, sums such as `mse+mahalanobis`, and `trivial_*`. Sums are of deviations from
    the healthy, by `moments` or by the table's validation split; trivial scores are fitted on `fitting` or on that.
    """
    parts = []
    for arrays in embedded.values():
        starts = range(0, len(arrays["z"]), BLOCK)
        z = (arrays["z"][start : start + BLOCK] for start in progress(starts, "scoring", len(starts)))
        scores = of_arrays(arrays) | {"mahalanobis": np.concatenate([distance(gaussian, block) for block in z])}
        parts.append(manifest.loc[arrays["index"], list(ABOUT)].assign(**scores))
    table = pd.concat(parts)
    return with_place(summed(table, moments or healthy_moments(table)), fitting)


def summed(table: Table, moments: Moments) -> Table:
    """Add the sums of each score and `mahalanobis`, in deviations from the healthy by `moments`."""
    deviation = {name: (table[name] - m["mean"]) / m["sd"] for name, m in moments.items()}
    far = deviation.pop("mahalanobis")
    return table.assign(**{f"{name}+mahalanobis": x + far for name, x in deviation.items()})


def with_place(table: Table, fitting: Table | None = None) -> Table:
    """Add slice position, area and, fitted on validation, both in one; what is free, such as a sign, is favourable.

    Validation is that of the table, or of `fitting`, as `validation_of` reads it.
    """
    from sklearn.linear_model import LogisticRegression  # here, for those who only score wait seconds for it
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labelled = table if fitting is None else fitting
    labelled = labelled[(labelled.split == "val") & (labelled.label != "neither")]
    labelled = labelled.assign(trivial_area=labelled.brain_mm2)
    abnormal = labelled.label == "abnormal"
    centre = labelled.position[abnormal].median()
    table["trivial_position"] = -(table.position - (0.5 if np.isnan(centre) else centre)).abs()
    table["trivial_area"] = table.brain_mm2
    if labelled.label.nunique() == 2:
        auroc = partial(roc_auc_score, abnormal)
        for name in ("trivial_area", "trivial_brightness", "trivial_fluid"):
            table[name] *= 1.0 if auroc(labelled[name]) >= 0.5 else -1.0
        # Position comes with its square, for lesions are most frequent half-way up.
        place = lambda of: np.column_stack([of.position, of.position**2, of.brain_mm2])  # noqa: E731
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(place(labelled), abnormal)
        table["trivial_position_and_area"] = model.decision_function(place(table))
    return table


def of_arrays(arrays: Arrays) -> Arrays:
    """Give the scores `{name: [N]}` among the arrays of a split."""
    return {name.removeprefix("score."): x for name, x in arrays.items() if name.startswith("score.")}


def healthy_moments(table: Table) -> Moments:
    """Measure each of the system's scores, sums apart, over the healthy validation samples: mean and deviation."""
    healthy, tiny = validation(table, "healthy"), np.finfo(np.float32).tiny
    names = [name for name in score_names(table) if "+" not in name]
    return {name: {"mean": float(healthy[name].mean()), "sd": float(max(healthy[name].std(), tiny))} for name in names}


def names_of(system: System) -> list[str]:
    """List the columns that a system has in a score table, trivial ones apart."""
    names = [*system.scores, *([HIGHEST] if system.residual else [])]
    return [*names, "mahalanobis", *(f"{name}+mahalanobis" for name in names)]


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
    return load(Path(run) / GAUSSIAN)


def moments_of(run: str) -> Moments:
    """Read the means and deviations by which a run sums its scores."""
    return read_json(Path(run) / THRESHOLDS)["moments"]


def validation_of(run: str) -> Table:
    """Read the validation samples of a run with what its networks have not touched: ABOUT and trivial scores."""
    rows = read_manifest(Path(run) / MANIFEST)
    arrays = load_arrays(Path(run) / EMBEDDINGS / "val.npz", "index", f"score.{TRIVIAL}")
    return rows.loc[arrays["index"], list(ABOUT)].assign(**of_arrays(arrays))


def calibration_of(run: str, level: str, score: ConfigDict) -> dict[str, dict]:
    """Take over how a run makes probabilities at a level, with the run as origin: `{score: {method: fit}}`.

    None for patients whose scores are made otherwise there.
    """
    fitted = read_json(Path(run) / CALIBRATION)[level]
    changes = {} if level == "sample" else _otherwise(run, score, "parameters")
    taken = lambda fit: fit | changes | {"origin": f"{run}: {fit['origin']}"}  # noqa: E731
    return {name: {method: taken(fit) for method, fit in methods.items()} for name, methods in fitted.items()}


def thresholds_of(run: str, level: str, score: ConfigDict) -> dict[str, dict]:
    """Take over the thresholds of a run at a level, the run named as their origin: `{score: {rule: fit}}`.

    None for patients scored otherwise there or by its own slices (`calibrated`); groups have theirs where these are the
    same.
    """
    fitted = read_json(Path(run) / THRESHOLDS)
    changes = {} if level == "sample" else _otherwise(run, score, "value", "promise")

    def taken(fit: dict) -> dict:
        other = list(score.groups) != fit.get("groups", [])
        kept = {key: value for key, value in fit.items() if not (other and "group" in key)}
        return kept | changes | {"origin": f"{run}: {fit['origin']}"}

    return {name: {rule: taken(fit) for rule, fit in rules.items()} for name, rules in fitted[level].items()}


def _otherwise(run: str, score: ConfigDict, *keys: str) -> dict[str, str | None]:
    """Give what a fit of a run loses, and why, where patients' scores are made otherwise there; else nothing."""
    there = read_config(Path(run)).score
    if all(there[key] == score[key] for key in ("patient", "top_k")) and score.patient != "calibrated":
        return {}
    return dict.fromkeys(keys) | {"reason": f"{run} makes the scores of patients otherwise"}


def zero_shot(run: str, manifest: Table, embedded: dict[str, Arrays], headline: str) -> pd.Series:
    """Give the `headline` score of a run to samples that its own networks have embedded, nothing fitted anew."""
    return score_table(manifest, embedded, gaussian_of(run), moments_of(run))[headline]

"""Negative controls of a run: what its evaluation says of labels that mean nothing, and what a leak would add.

Only here are slices of one patient, or volumes, ever put on both sides of a split, to measure how much that flatters.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from ml_collections import ConfigDict
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from symnorm_jax.data.manifest import normal, read_manifest
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.cases import sample_cases
from symnorm_jax.evaluation.evaluate import read_scores
from symnorm_jax.evaluation.levels import resamples
from symnorm_jax.evaluation.measures import sample_of
from symnorm_jax.files import load_arrays
from symnorm_jax.progress import progress
from symnorm_jax.rundir import MANIFEST
from symnorm_jax.scoring.mahalanobis import distance, estimate
from symnorm_jax.statistics.intervals import as_json, difference, interval
from symnorm_jax.statistics.metrics import auroc

REPEATS = 1000
FOLDS, NEIGHBOURS, COMPONENTS = 5, 5, 50


def controls(workdir: Path, config: ConfigDict) -> dict:
    """Make every control of a run, as JSON. Raises RunError for a test split of one patient or one class."""
    table = read_scores(workdir, read_manifest(workdir / MANIFEST))
    test, noun = sample_cases(table, "test"), sample_of(config).noun
    if test.patient.nunique() < 2 or test.positive.nunique() < 2:
        raise RunError(f"{workdir}: the controls need two test patients, and abnormal and healthy test {noun}s.")
    found = {"shuffled": shuffled(test, config.score.headline, config.seed)}
    if not table.patient.is_unique:
        found["leak"] = leak(workdir, table, config)
    found["gaussian"] = gaussian(workdir, table, config)
    return found | {"notes": _notes(found, noun)}


def shuffled(cases: pd.DataFrame, name: str, seed: int, repeats: int = REPEATS) -> dict:
    """Draw patients as ill by lot, all slices of one alike: mean AUROC, 95 % range, and standard error of draws."""
    rng, values = np.random.default_rng(seed), []
    score, (names, patient) = cases[name].to_numpy(float), np.unique(cases.patient, return_inverse=True)
    for _ in progress(range(repeats), "shuffling labels", repeats):
        values.append(float(auroc(score, (rng.permutation(len(names)) < len(names) // 2)[patient])))
    low, high = np.quantile(values, [0.025, 0.975]).tolist()
    about = {"expected": 0.5, "repeats": repeats, "error": float(np.std(values) / np.sqrt(repeats))}
    return {"auroc": {"value": float(np.mean(values)), "low": low, "high": high}} | about


def leak(workdir: Path, table: pd.DataFrame, config: ConfigDict) -> list[dict]:
    """Classify embeddings with folds of whole patients and of slices, for true and shuffled labels: the AUROC of each.

    Neighbours remember, as networks do: Yagis et al., Sci. Rep. 11, 2021, saw 96 % accuracy for random labels.
    """
    cases = pd.concat([sample_cases(table, split) for split in ("val", "test")])
    z, drawn = _embeddings(workdir, ("val", "test")).loc[cases.index].to_numpy(), resamples(cases, config)
    count = len(drawn.patients)
    lot = (np.random.default_rng(config.seed).permutation(count) < count // 2)[drawn.index]
    mixed = partial(KFold, shuffle=True, random_state=config.seed)
    found = []
    for labels, positive in (("true", cases.positive.to_numpy()), ("shuffled", lot)):
        for split, folds in (("patient", GroupKFold), (sample_of(config).noun, mixed)):
            groups = drawn.index if split == "patient" else None
            score = _out_of_fold(z, positive, groups, folds(n_splits=min(FOLDS, count)))
            of = interval(partial(auroc, score, positive, patient=drawn.index), drawn.patient_weight)
            found.append({"labels": labels, "split": split, "auroc": as_json(of)})
    return found


def gaussian(workdir: Path, table: pd.DataFrame, config: ConfigDict) -> list[dict]:
    """Measure the AUROC of the distance to the healthy Gaussian, and to one with slices of test patients in it.

    Half of the healthy test slices take the place of training slices, the rest are judged: the least a leak would add.
    """
    test, rng, noun = sample_cases(table, "test"), np.random.default_rng(config.seed), sample_of(config).noun
    healthy = rng.permutation(test.index[~test.positive])
    leaked, judged = healthy[: len(healthy) // 2], test.drop(healthy[: len(healthy) // 2])
    z, manifest = _embeddings(workdir, ("train", "test")), read_manifest(workdir / MANIFEST)
    own, patients = z.index[: len(z) - len(table[table.split == "test"])], manifest.patient
    if config.data.train_on == "everyone":  # else the healthy alone were trained on
        own = own[normal(manifest.loc[own], config.data.train_on)]
    kept = rng.permutation(own)[: max(len(own) - len(leaked), 0)]
    drawn, areas = resamples(judged, config), {}
    for split, rows in (("patient", own), (noun, np.concatenate([kept, leaked]))):
        fitted = estimate(z.loc[rows].to_numpy(), patients.loc[rows].to_numpy(), config.score.shrinkage)
        score = np.asarray(distance(fitted, z.loc[judged.index].to_numpy()))
        areas[split] = partial(auroc, score, judged.positive.to_numpy(), patient=drawn.index)
    found = {split: interval(of, drawn.patient_weight) for split, of in areas.items()}
    found[f"{noun} minus patient"] = difference(areas[noun], areas["patient"], drawn.patient_weight)
    return [{"split": split, "auroc": as_json(of)} for split, of in found.items()]


def _out_of_fold(z: np.ndarray, positive: np.ndarray, groups: np.ndarray | None, folds) -> np.ndarray:
    """Of each case, the share of positives among its nearest neighbours in the folds without it."""
    components = min(COMPONENTS, z.shape[1], len(z) // 2)
    model = make_pipeline(StandardScaler(), PCA(components, random_state=0), KNeighborsClassifier(NEIGHBOURS))
    return cross_val_predict(model, z, positive, groups=groups, cv=folds, method="predict_proba")[:, -1]


def _embeddings(workdir: Path, splits: tuple[str, ...]) -> pd.DataFrame:
    parts = [load_arrays(workdir / "embeddings" / f"{split}.npz", "index", "z") for split in splits]
    return pd.concat([pd.DataFrame(part["z"], index=part["index"]) for part in parts])


def _notes(found: dict, noun: str) -> list[str]:
    value, error = found["shuffled"]["auroc"]["value"], found["shuffled"]["error"]
    sound = abs(value - 0.5) <= max(4 * error, 0.005)
    verdict = "as it must be" if sound else "further from 0.5 than chance takes it: doubt the evaluation itself"
    notes = [f"With labels drawn by lot for each patient the AUROC is {value:.3f} on the average, {verdict}."]
    if "leak" not in found:
        return [*notes, f"Every patient has one {noun}, so that no split can part the {noun}s of a patient."]
    leaks = {(one["labels"], one["split"]): one["auroc"]["value"] for one in found["leak"]}
    for labels, what in (("true", "the true labels"), ("shuffled", "labels drawn by lot")):
        apart, mixed = leaks[labels, "patient"], leaks[labels, noun]
        if None not in (apart, mixed):
            reached = f"A classifier of embeddings reaches an AUROC of {mixed:.3f} for {what} when {noun}s of one"
            notes.append(f"{reached} patient stand on both sides of the split, and {apart:.3f} when they do not.")
    return notes

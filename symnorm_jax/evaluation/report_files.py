"""The files of a finished run that its report and its model card are made from."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data import manifest
from symnorm_jax.evaluation.evaluate import group_columns
from symnorm_jax.evaluation.levels import WITHIN
from symnorm_jax.evaluation.report_tables import best_baseline, label
from symnorm_jax.evaluation.templates import Table, interval
from symnorm_jax.files import read_json
from symnorm_jax.scoring import mahalanobis

LABELS = ("healthy", "abnormal", "neither", manifest.UNLABELLED)


class Files(NamedTuple):
    """What stands in a run directory; `cost` is empty and `controls` None where there is no such file."""

    name: str
    config: ConfigDict
    results: dict  # metrics.json
    thresholds: dict
    cost: dict
    controls: dict | None
    environment: dict
    overrides: dict
    gaussian: dict  # mahalanobis.report
    rows: pd.DataFrame  # manifest.csv
    table: pd.DataFrame  # scores.csv, with the groups of the manifest


def read_files(workdir: Path, config: ConfigDict) -> Files:
    """The files of an evaluated run."""
    rows = manifest.read_manifest(workdir / "manifest.csv")
    found = {name: workdir / f"{name}.json" for name in ("cost", "controls")}
    return Files(
        name=workdir.absolute().name,
        config=config,
        results=read_json(workdir / "metrics.json"),
        thresholds=read_json(workdir / "thresholds.json"),
        cost=read_json(found["cost"]) if found["cost"].exists() else {},
        controls=read_json(found["controls"]) if found["controls"].exists() else None,
        environment=read_json(workdir / "environment.json"),
        overrides=read_json(workdir / "overrides.json"),
        gaussian=mahalanobis.report(mahalanobis.load(workdir / "gaussian.npz")),
        rows=rows,
        table=manifest.read_table(workdir / "scores.csv").join(rows[group_columns(rows)]),
    )


def counts(rows: pd.DataFrame) -> Table:
    """Patients and slices of each label by split."""
    splits = (*manifest.SPLITS, manifest.UNLABELLED)
    parts = {split: rows[rows.split == split] for split in splits}
    body = [
        [split, str(part.patient.nunique()), *(str(int((part.label == label).sum())) for label in LABELS)]
        for split, part in parts.items()
        if len(part)
    ]
    return Table("Patients and slices by split", ["split", "patients", *(f"{one} slices" for one in LABELS)], body)


def trained_on(rows: pd.DataFrame, config: ConfigDict) -> str:
    """`640 slices of 20 people`: what the networks and the healthy Gaussian learned from."""
    part = rows[manifest.trainable(rows, config.data.train_on)]
    if config.init_from:
        part = manifest.few(part, config.finetune.patients, config.seed)
    return f"{len(part):,} slices of {part.patient.nunique():,} people"


def midline(rows: pd.DataFrame) -> str:
    """What was taken out of the scans, and how many were flagged, as the end of a sentence."""
    scans = rows[rows.split != "excluded"].drop_duplicates("store")
    tilt = np.hypot(scans.roll, scans.yaw)
    return (
        f"tilt {tilt.median():.1f} degrees at the median and {tilt.max():.1f} at most, likeness to the mirror image "
        f"{scans.mirror_similarity.median():.3f}; {int((scans.flag != '').sum())} of {len(scans)} scans flagged"
    )


def left_out(rows: pd.DataFrame) -> int:
    """Slices with too little brain, over all scans that are used."""
    return int(rows[rows.split != "excluded"].drop_duplicates("store").slices_left_out.sum())


def verdict(files: Files) -> str:
    """The first sentence of a reader's interest: the headline score beside the best trivial baseline."""
    headline, best = files.config.score.headline, best_baseline(files.results)
    found = files.results["slice"].get(headline, {}).get(WITHIN)
    if best is None or not found or found["value"] is None:
        return f"How well {label(headline)} tells slices apart is undefined on this test split."
    return (
        f"{label(headline)} tells abnormal from healthy slices of the same height with an AUROC of {interval(found)}; "
        f"of the trivial baselines {label(best[0]).removeprefix('baseline ')} does best here, with {interval(best[1])}."
    )

"""The files of a finished run that its report and its model card are made from."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data import manifest, targets
from symnorm_jax.data.manifest import group_columns
from symnorm_jax.evaluation.wording import Sample, levels_of, named, sample_of, told
from symnorm_jax.files import read_json
from symnorm_jax.report.score_tables import best_trivial, label
from symnorm_jax.report.table import Table, interval
from symnorm_jax.scoring import mahalanobis

LABELS = ("healthy", "abnormal", "neither", manifest.UNLABELLED)


class Files(NamedTuple):
    """What stands in a run directory; `cost` is empty and `controls` None where there is no such file."""

    name: str
    config: ConfigDict
    sample: Sample
    levels: dict[str, str]  # samples.levels_of
    results: dict  # metrics.json as it is told, its levels by their names
    thresholds: dict  # by the names of the levels
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
    table = manifest.read_table(workdir / "scores.csv").join(rows[group_columns(rows)])
    sample, levels = sample_of(config), levels_of(table, config)
    found = {name: workdir / f"{name}.json" for name in ("cost", "controls")}
    return Files(
        name=workdir.absolute().name,
        config=config,
        sample=sample,
        levels=levels,
        results=told(read_json(workdir / "metrics.json"), levels),
        thresholds=named(read_json(workdir / "thresholds.json"), levels),
        cost=read_json(found["cost"]) if found["cost"].exists() else {},
        controls=read_json(found["controls"]) if found["controls"].exists() else None,
        environment=read_json(workdir / "environment.json"),
        overrides=read_json(workdir / "overrides.json"),
        gaussian=mahalanobis.report(mahalanobis.load(workdir / "gaussian.npz")),
        rows=rows,
        table=table,
    )


def counts(rows: pd.DataFrame, noun: str) -> Table:
    """Patients, and slices or volumes as `noun` says, of each label by split."""
    splits = (*manifest.SPLITS, manifest.UNLABELLED)
    parts = {split: rows[rows.split == split] for split in splits}
    body = [
        [split, str(part.patient.nunique()), *(str(int((part.label == label).sum())) for label in LABELS)]
        for split, part in parts.items()
        if len(part)
    ]
    header = ["split", "patients", *(f"{one} {noun}s" for one in LABELS)]
    return Table(f"Patients and {noun}s by split", header, body)


def trained_on(rows: pd.DataFrame, config: ConfigDict) -> str:
    """`640 slices of 20 people`: what the networks and the healthy Gaussian learned from."""
    part = targets.training_rows(rows, config)
    return f"{len(part):,} {sample_of(config).noun}s of {part.patient.nunique():,} people"


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
    """The first sentence of a reader's interest: the headline score beside the best trivial score."""
    headline, sample = files.config.score.headline, files.sample
    best = best_trivial(files.results, sample)
    found = files.results[sample.noun].get(headline, {}).get(sample.primary)
    if best is None or not found or found["value"] is None:
        return f"How well {label(headline)} tells {sample.noun}s apart is undefined on this test split."
    return (
        f"{label(headline)} tells abnormal from healthy {sample.noun}s{sample.alike} with an AUROC of "
        f"{interval(found)}; of the trivial scores {label(best[0]).removeprefix('baseline ')} does best here, with "
        f"{interval(best[1])}."
    )

"""A model adapted to the healthy scans of one's own scanner: what depends on it is measured anew, networks stay.

Anew are what healthy people show in maps, the Gaussian, moments, thresholds and reference. A Gaussian is nearer to whom
it was fitted to, so thresholds and reference are of scores out of fold: each person's by a fit to the others.
"""

import os
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from absl import logging
from ml_collections import ConfigDict

from symnorm_jax.data.parallel import in_parallel
from symnorm_jax.data.volumes import Scan, digest
from symnorm_jax.errors import ScanError
from symnorm_jax.evaluation.cases import LEVELS, cases_at
from symnorm_jax.evaluation.pixels import Thresholds, fit_pixel_thresholds
from symnorm_jax.evaluation.postprocess import chain, processed, stacks
from symnorm_jax.inference import model, quality, told
from symnorm_jax.inference.card import handed_on
from symnorm_jax.inference.model import Model
from symnorm_jax.inference.reading import prepared
from symnorm_jax.inference.refit import Cohort, fitted, out_of_fold
from symnorm_jax.inference.scorer import Scorer
from symnorm_jax.progress import progress
from symnorm_jax.rundir import claimed
from symnorm_jax.scoring import calibration, thresholds
from symnorm_jax.scoring.scores import healthy_moments, summed

PEOPLE = 20  # healthy ones, at the least
ORIGIN = "own healthy people, out of fold"


def adapted(scorer: Scorer, source: Path, scans: list[Scan], folder: Path, kind: str, jobs: int) -> Scorer:
    """Adapt a model to healthy scans, with brain masks of a `kind`, and keep it in `folder`, or read what stands there.

    Licence and attribution of its `source`, a model's folder or a run, go along.

    Raises ScanError for somebody who is ill, and for fewer than PEOPLE whose scans can be used.
    """
    if ill := [scan.name for scan in scans if scan.labelled and not scan.healthy]:
        raise ScanError(f"--adapt: {ill[0]} is abnormal; healthy people alone are allowed.")
    files = [file for scan in scans for file in (*scan.files, *scan.others, *scan.extras)]
    told_of = (f"{scan.recipe}, {sorted(scan.groups.items())}" for scan in scans)
    made_of = digest(files, *told_of, kind, scorer.checksum)
    with claimed(folder.parent, "--output"):
        if not ((folder / model.SUMS).exists() and _adapted_from(model.of_folder(folder)) == made_of):
            cohort = _cohort(scorer, scans, kind, jobs)
            about = {"people": cohort.rows.patient.nunique(), "from": scorer.checksum, "made_of": made_of}
            terms = handed_on(source) if (source / model.WEIGHTS).exists() else (None, "")  # a run has no card
            model.write(_model(scorer, cohort, about), folder, *terms)
        return Scorer(model.of_folder(folder))


def refuse_both(healthy: list[Scan], scans: list[Scan]) -> None:
    """Raise ScanError where one of the `scans` to be judged is one that the model is fitted to."""
    files = {os.path.realpath(file) for scan in healthy for file in scan.files}
    for scan in scans:
        if any(os.path.realpath(file) in files for file in scan.files):
            raise ScanError(f"--adapt: {scan.name} is in --input too; whom a model is fitted to it cannot judge.")


def _adapted_from(found: Model) -> str | None:
    return found.reference["adapted"]["made_of"] if "adapted" in found.reference else None


def _cohort(scorer: Scorer, scans: list[Scan], kind: str, jobs: int) -> Cohort:
    data, made = scorer.model.config.data, []
    work = in_parallel([joblib.delayed(prepared)(scan, data, kind) for scan in scans], jobs)
    for scan, one in zip(scans, progress(work, "reading healthy people", len(scans)), strict=True):
        if isinstance(one, str):
            logging.warning("--adapt: %s is left out: %s", scan.name, one)
        else:
            made.append(one)
    if (count := len({one.scan.patient for one in made})) < PEOPLE:
        raise ScanError(f"--adapt: scans of {count} people can be used; {PEOPLE} healthy people or more are needed.")
    rows = pd.concat([one.rows for one in made], ignore_index=True).rename_axis("index")
    rows = rows.assign(healthy_person=True, label="healthy", split="val")
    held = np.concatenate([one.arrays for one in made])
    return Cohort(made, rows, held, scorer.embedder.whole(rows, "healthy people", held=held))


def _model(scorer: Scorer, cohort: Cohort, about: dict) -> Model:
    base, config = scorer.model, _config(scorer.model.config)
    table, maps = out_of_fold(scorer, cohort)
    moments, name, how = healthy_moments(table), config.score.headline, config.score
    table = summed(table, moments)
    cases = {level: cases_at(level, table, "val", how.patient, how.top_k) for level in LEVELS}
    fits = {level: _named(thresholds.fit_thresholds(of, [name], how)[name]) for level, of in cases.items()}
    whole = fitted(scorer, cohort, np.ones(len(table), bool))
    parts = [quality.measured(one.rows, one.arrays, one.about, config) for one in cohort.made]
    anew = {"people": {"own healthy": about["people"], "healthy validation": about["people"]}, "adapted": about}
    anew |= {"told": told.people_of(one.scan.groups for one in cohort.made), "results": {}}
    anew |= {"scores": quality.scores_of(table, config), **quality.ranges_of(parts, config)}
    return base._replace(
        config=config,
        healthy=whole.healthy,
        gaussian=whole.gaussian,
        thresholds={"moments": moments, "pixel": _pixel(cohort, table, maps, config)} | fits,
        calibration={level: calibration.fit_calibration(of, [name])[name] for level, of in cases.items()},
        reference=base.reference | anew,
    )


def _config(config: ConfigDict) -> ConfigDict:
    """Choose a rule that healthy people can fit, and the same threshold for all groups."""
    config = config.copy_and_resolve_references()
    healthy_alone = thresholds.NEEDED.get(config.score.threshold, (1, 0))[1] == 0
    with config.unlocked():
        config.score.threshold = config.score.threshold if healthy_alone else "healthy_quantile"
        config.score.groups = ()
    return config


def _named(fits: dict[str, dict]) -> dict[str, dict]:
    """Say where thresholds come from; out of fold, people and new ones are not quite exchangeable."""
    fits = fits | {"conformal": thresholds.unpromised(fits["conformal"])}
    return {rule: fit | {"origin": ORIGIN} for rule, fit in fits.items()}


def _pixel(cohort: Cohort, table: pd.DataFrame, maps: np.ndarray | None, config: ConfigDict) -> Thresholds:
    made = [] if maps is None else stacks(cohort.found, table, maps)
    fits = fit_pixel_thresholds([processed(stack, chain(config)) for stack in made], chain(config))
    return {rule: fit | {"origin": ORIGIN} for rule, fit in fits.items()}

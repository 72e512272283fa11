"""A run from its first arrow to its last. Every step leaves files in the run directory and is skipped where they stand.

scans -> manifest.csv -> <stage>/ckpt -> embeddings/ -> gaussian.npz, scores.csv, thresholds.json
      -> metrics.json -> report.html
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data import manifest, slices
from symnorm_jax.data.pipeline import training_batches
from symnorm_jax.data.prepare import prepare
from symnorm_jax.data.store import SliceSource, holds
from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.evaluation.cases import LEVELS
from symnorm_jax.evaluation.evaluate import evaluate
from symnorm_jax.evaluation.report import write_report
from symnorm_jax.files import load_arrays, save_arrays, write_json, write_text
from symnorm_jax.scoring import mahalanobis
from symnorm_jax.scoring.embed import Arrays, embed_split, make_embed
from symnorm_jax.scoring.scores import names_of, score_names, score_table
from symnorm_jax.scoring.thresholds import RULES, fit_thresholds
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.contract import System
from symnorm_jax.training.runlog import progress
from symnorm_jax.training.sharding import check_batch_size
from symnorm_jax.training.train import train

FROM_SCORES = ("gaussian.npz", "scores.csv", "thresholds.json")
FROM_METRICS = ("metrics.json", "report.html")


class Run:
    """The steps of a run with a config, in `workdir`. Each reads what the ones before it wrote."""

    def __init__(self, config: ConfigDict, workdir: Path):
        self.config, self.workdir = config, workdir
        self._system = _checked(config)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return all((self.workdir / name).exists() for name in (*FROM_SCORES, *FROM_METRICS))

    def everything(self) -> None:
        """All steps, from wherever the run stands."""
        self.prepare()
        self.train_and_embed()
        self.score()
        self.evaluate()

    def prepare(self) -> None:
        """Scans to slices and `manifest.csv`; again if slices have gone from the store.

        Raises RunError where the scans are no longer those that the run was begun with.
        """
        path = self.workdir / "manifest.csv"
        if path.exists() and holds(self.config.data.store, self.manifest):
            return
        text = prepare(self.config.data, self.config.seed, progress).to_csv()
        if path.exists() and path.read_text() != text:
            raise RunError(f"{path}: the scans have changed since this run was prepared; choose another --workdir.")
        write_text(path, text)

    def train_and_embed(self) -> None:
        """Every training stage, then `embeddings/{train,val,test}.npz`."""
        folder = self.workdir / "embeddings"
        missing = [split for split in manifest.SPLITS if not (folder / f"{split}.npz").exists()]
        if not missing:
            return
        source = SliceSource(self.config.data.store, self._training_rows)
        variables = train(
            self._system,
            self.config,
            lambda size, start: training_batches(source, self.config, size, start),
            self.workdir,
        )
        folder.mkdir(exist_ok=True)
        embed = make_embed(self._system)
        for split in missing:
            rows = self._training_rows if split == "train" else self.manifest[self.manifest.split == split]
            source, size = SliceSource(self.config.data.store, rows), self.config.score.batch_size
            arrays = embed_split(embed, variables, source, size, split, pictures=split == "test")
            save_arrays(folder / f"{split}.npz", arrays)

    def score(self, anew: bool = False) -> None:
        """Embeddings to `gaussian.npz`, `scores.csv` and `thresholds.json`; with `anew` though they are there."""
        if anew:
            self._forget(*FROM_SCORES, *FROM_METRICS)
        if all((self.workdir / name).exists() for name in FROM_SCORES):
            return
        healthy = self._embedded("train")
        patients = self.manifest.patient.loc[healthy["index"]].to_numpy()
        gaussian = mahalanobis.estimate(healthy["z"], patients, self.config.score.shrinkage)
        mahalanobis.save(self.workdir / "gaussian.npz", gaussian)
        embedded = {split: self._embedded(split) for split in ("val", "test")}
        table = score_table(self.manifest, embedded, gaussian)
        write_text(self.workdir / "scores.csv", table.to_csv())
        names = score_names(table) + score_names(table, baselines=True)
        cases = {level: of_split(table, "val") for level, of_split in LEVELS.items()}
        fitted = {level: fit_thresholds(case, names, self.config.score.quantile) for level, case in cases.items()}
        write_json(self.workdir / "thresholds.json", fitted)

    def evaluate(self, anew: bool = False) -> None:
        """Scores to `metrics.json`, `figures/` and `report.html`; with `anew` though they are there."""
        if anew:
            self._forget(*FROM_METRICS)
        if not (self.workdir / "metrics.json").exists():
            write_json(self.workdir / "metrics.json", evaluate(self.workdir, self.config))
        write_report(self.workdir, self.config)

    @cached_property
    def manifest(self) -> pd.DataFrame:
        return manifest.read_table(self.workdir / "manifest.csv")

    @cached_property
    def _training_rows(self) -> pd.DataFrame:
        return self.manifest[manifest.trainable(self.manifest, self.config.data.train_on)]

    def _embedded(self, split: str) -> Arrays:
        """The embeddings and scores of a split, without its pictures."""
        return load_arrays(self.workdir / "embeddings" / f"{split}.npz", "index", "z", "score.")

    def _forget(self, *names: str) -> None:
        """Remove files, last first, so that what is left at any moment is a run cut off at an earlier step."""
        for name in names[::-1]:
            (self.workdir / name).unlink(missing_ok=True)


def _checked(config: ConfigDict) -> System:
    """The system of a config. Raises ConfigError, before anything is done, for a choice that would only fail later."""
    _refuse_unless_one_of("system", config.system, BUILD)
    system = BUILD[config.system](config)
    _refuse_unless_one_of("score.threshold", config.score.threshold, RULES)
    _refuse_unless_one_of("score.headline", config.score.headline, names_of(system.scores))
    _refuse_unless_one_of("data.train_on", config.data.train_on, manifest.TRAIN_ON)
    _refuse_unless_one_of("data.brain", config.data.brain, slices.BRAIN)
    mahalanobis.check_shrinkage(config.score.shrinkage)
    for name in system.stages:
        check_batch_size(f"train.{name}.batch_size", config.train[name].batch_size)
    check_batch_size("score.batch_size", config.score.batch_size)
    return system


def _refuse_unless_one_of(key: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}={value!r}; one of {sorted(allowed)} is allowed.")

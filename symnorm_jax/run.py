"""A run from its first arrow to its last. Every step leaves files in the run directory and is skipped where they stand.

scans -> manifest.csv -> <stage>/ckpt -> embeddings/, predictions.csv, cost.json
      -> gaussian.npz, scores.csv, thresholds.json, calibration.json -> metrics.json -> report.html, MODEL_CARD.md
"""

from functools import cached_property, partial
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.checks import check_devices, check_groups, checked
from symnorm_jax.data import manifest, targets
from symnorm_jax.data.audit import audit_source
from symnorm_jax.data.pipeline import scoring_batches, training_batches
from symnorm_jax.data.prepare import prepare
from symnorm_jax.data.store import SampleSource, holds
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.cases import LEVELS, cases_at
from symnorm_jax.evaluation.evaluate import evaluate
from symnorm_jax.files import load_arrays, save_arrays, write_json, write_text
from symnorm_jax.hosts import by_lead, on_lead
from symnorm_jax.lineage import converted, lineage, note_unaudited
from symnorm_jax.report.page import write_report
from symnorm_jax.rundir import read_config
from symnorm_jax.scoring import mahalanobis, takeover
from symnorm_jax.scoring.calibration import fit_calibration
from symnorm_jax.scoring.cost import cost
from symnorm_jax.scoring.embed import Arrays, embed_split, make_embed
from symnorm_jax.scoring.mahalanobis import Gaussian
from symnorm_jax.scoring.predictions import prediction_table
from symnorm_jax.scoring.scores import ZERO_SHOT, healthy_moments, score_names, score_table
from symnorm_jax.scoring.thresholds import fit_thresholds, unpromised
from symnorm_jax.systems.contract import Variables
from symnorm_jax.training.sharding import make_mesh
from symnorm_jax.training.train import initial_variables, train
from symnorm_jax.training.transfer import check_source, restored, schedule

PICTURED = ("val", "test", manifest.UNLABELLED)  # splits whose maps are kept
PREDICTIONS = "predictions.csv"  # of runs with a target
FROM_SCORES = ("scores.csv", "thresholds.json", "calibration.json")
FROM_METRICS = ("metrics.json", "report.html")


class Run:
    """The steps of a run with a config, in `workdir`. Each reads what the ones before it wrote."""

    def __init__(self, config: ConfigDict, workdir: Path):
        self.config, self.workdir = config, workdir
        try:
            self._system = checked(config)
        except AttributeError as error:  # ml_collections' word for a key that is not there
            raise RunError(f"{workdir}: its config is of another version of symnorm_jax: {error}") from None

    def check_devices(self) -> None:
        """Raise ConfigError unless the run can be trained on the devices that are here."""
        check_devices(self.config, self._system)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return all(
            (self.workdir / name).exists() for name in ("cost.json", "gaussian.npz", *FROM_SCORES, *FROM_METRICS)
        )

    def everything(self) -> None:
        """All steps, from wherever the run stands."""
        if self.config.init_from:
            check_source(self.config, self._system)
        self.prepare()
        self.train_and_embed()
        self.predict()
        self.measure_cost()
        self.fit()
        self.score()
        self.evaluate()

    @by_lead
    def prepare(self) -> None:
        """Scans to slices and `manifest.csv`; again if slices have gone from the store.

        Raises RunError where the scans are no longer those that the run was begun with.
        """
        path = self.workdir / "manifest.csv"
        if path.exists() and holds(self.config.data.store, self.manifest):
            return
        of_splits = self.config.data.split_seed
        text = prepare(self.config.data, self.config.seed if of_splits is None else of_splits).to_csv()
        if path.exists() and path.read_text() != text:
            raise RunError(f"{path}: the scans have changed since this run was prepared; choose another --workdir.")
        write_text(path, text)

    def train_and_embed(self) -> None:
        """Every training stage, then `embeddings/<split>.npz`; those of the run started from in `embeddings/source`."""
        folder = self.workdir / "embeddings"
        if all((folder / f"{split}.npz").exists() for split in self._splits):
            return
        check_groups(self.config.score.groups, self.manifest)
        for run in lineage(self.config.init_from):
            if converted(run):
                on_lead(partial(note_unaudited, run, self.workdir))
                continue
            theirs, data = manifest.read_manifest(Path(run) / "manifest.csv"), read_config(Path(run)).data
            same = data.source == self.config.data.source != "phantom"  # whose people have the names of all others
            audit_source(self.manifest, theirs, run, same)
        source = SampleSource(self.config.data.store, self._training_rows, self._targets)
        if self.config.target.column:
            on_lead(partial(targets.warn_of_unknown, self.manifest, self.config))
        variables = train(
            self._system,
            self.config,
            lambda size, start: training_batches(source, self.config, size, start, self._system.asks),
            self.workdir,
        )
        if takeover.source_of(self.config) and schedule(self.config, self._system):
            self._embed(restored(self.config.init_from, self._system, variables), folder / "source", self._splits[1:])
        self._embed(variables, folder, self._splits)

    def measure_cost(self, anew: bool = False) -> None:
        """What a slice costs the trained system, to `cost.json`; with `anew` though it is there."""
        if (self.workdir / "cost.json").exists() and not anew:
            return
        config, rows = self.config, self.manifest[self.manifest.split == "test"]
        batch = next(scoring_batches(SampleSource(config.data.store, rows), config.score.batch_size))
        batch = {name: batch[name] for name in ("image", "brain", "index", "valid")}
        share = {name: x[: jax.local_device_count()] for name, x in batch.items()}
        mesh = make_mesh()
        variables = restored(str(self.workdir), self._system, initial_variables(self._system, config, share, mesh))
        measured = cost(self._system, variables, batch, mesh)
        on_lead(lambda: write_json(self.workdir / "cost.json", measured))

    def fit(self, anew: bool = False) -> None:
        """Embeddings of healthy training slices to `gaussian.npz`, on all devices; with `anew` though it is there."""
        if anew:
            self._forget("gaussian.npz", *FROM_SCORES, *FROM_METRICS, "controls.json")
        if (self.workdir / "gaussian.npz").exists():
            return
        gaussian = self._gaussian()
        on_lead(lambda: mahalanobis.save(self.workdir / "gaussian.npz", gaussian))

    @by_lead
    def score(self) -> None:
        """Embeddings and Gaussian to scores, thresholds and calibration.

        Raises RunError where there is no Gaussian.
        """
        if all((self.workdir / name).exists() for name in FROM_SCORES):
            return
        self._need("gaussian.npz")
        config, source = self.config, takeover.source_of(self.config)
        gaussian = mahalanobis.load(self.workdir / "gaussian.npz")
        moments = takeover.moments_of(source) if config.score.thresholds == "source" else None
        table = score_table(self.manifest, self._embedded(self._splits[1:]), gaussian, moments)
        if source:  # where no network was trained, the run's embeddings are the source's
            theirs = self._embedded(self._splits[1:], "source" if schedule(config, self._system) else "")
            table[ZERO_SHOT] = takeover.zero_shot(source, self.manifest, theirs, config.score.headline)
        write_text(self.workdir / "scores.csv", table.to_csv())
        validation = {level: self._validation(level, table) for level in LEVELS}
        fitted = {level: self._thresholds(level, cases, table) for level, cases in validation.items()}
        write_json(self.workdir / "thresholds.json", fitted | {"moments": moments or healthy_moments(table)})
        probable = {level: fit_calibration(cases, score_names(table)) for level, cases in validation.items()}
        write_json(self.workdir / "calibration.json", probable)

    @by_lead
    def predict(self) -> None:
        """What a run with a target says of validation and test people, to `predictions.csv`; nothing without one."""
        path, splits = self.workdir / PREDICTIONS, self._splits[1:]
        if self.config.target.column and not path.exists():
            table = prediction_table(self.manifest, self._embedded(splits), self._training_rows, self.config)
            write_text(path, table.to_csv())

    @by_lead
    def evaluate(self, anew: bool = False) -> None:
        """Scores to `metrics.json`, `figures/`, `report.html` and `MODEL_CARD.md`; with `anew` though they are there.

        Raises RunError where the run has not been scored.
        """
        self._need("gaussian.npz", *FROM_SCORES, *((PREDICTIONS,) if self.config.target.column else ()))
        if anew:
            self._forget(*FROM_METRICS)
        if not (self.workdir / "metrics.json").exists():
            write_json(self.workdir / "metrics.json", evaluate(self.workdir, self.config))
        write_report(self.workdir, self.config)

    @cached_property
    def manifest(self) -> pd.DataFrame:
        return manifest.read_manifest(self.workdir / "manifest.csv")

    @cached_property
    def _training_rows(self) -> pd.DataFrame:
        return targets.training_rows(self.manifest, self.config)

    @cached_property
    def _targets(self) -> np.ndarray | None:
        """What training rows are to be told by, standardised; None without a target."""
        section, rows = self.config.target, self._training_rows
        if not section.column:
            return None
        return targets.standardised(rows, section, targets.scale_of(rows, section))

    @cached_property
    def _splits(self) -> tuple[str, ...]:
        """The splits that are embedded; what is unlabelled only where there is any."""
        unlabelled = (self.manifest.split == manifest.UNLABELLED).any()
        return (*manifest.SPLITS, manifest.UNLABELLED) if unlabelled else manifest.SPLITS

    def _embed(self, variables: Variables, folder: Path, splits: tuple[str, ...]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        embed, size = make_embed(self._system, make_mesh(self.config.sharding.fsdp)), self.config.score.batch_size
        for split in splits:
            if (folder / f"{split}.npz").exists():
                continue
            rows = self._training_rows if split == "train" else self.manifest[self.manifest.split == split]
            source = SampleSource(self.config.data.store, rows)
            pictures = split in PICTURED and folder.name != "source"
            arrays = embed_split(embed, variables, source, size, split, pictures)
            on_lead(partial(save_arrays, folder / f"{split}.npz", arrays))

    def _embedded(self, splits: tuple[str, ...], folder: str = "") -> dict[str, Arrays]:
        """The embeddings and scores of each split, without pictures."""
        files = {split: self.workdir / "embeddings" / folder / f"{split}.npz" for split in splits}
        return {split: load_arrays(file, "index", "z", "score.", "predicted") for split, file in files.items()}

    def _gaussian(self) -> Gaussian:
        """Fitted on healthy training slices; that of the source where nothing is to be fine-tuned."""
        if self.config.init_from and self.config.finetune.kind == "none":
            return takeover.gaussian_of(self.config.init_from)
        healthy = self._embedded(("train",))["train"]
        patients = self.manifest.patient.loc[healthy["index"]].to_numpy()
        return mahalanobis.estimate(healthy["z"], patients, self.config.score.shrinkage)

    def _validation(self, level: str, table: pd.DataFrame) -> pd.DataFrame:
        """The validation cases of a level, with the groups that have thresholds of their own."""
        score = self.config.score
        grouped = table.join(self.manifest[list(score.groups)])
        return cases_at(level, grouped, "val", score.patient, score.top_k, score.groups)

    def _thresholds(self, level: str, cases: pd.DataFrame, table: pd.DataFrame) -> dict[str, dict]:
        """`{score: {rule: fit}}`, fitted on validation cases or, if so configured, taken over from the source."""
        config, own = self.config, score_names(table)
        fitted = fit_thresholds(cases, own + score_names(table, trivial=True), config.score)
        if level == "patient" and config.score.patient == "calibrated":
            # Validation patients were compared with the others of them, new ones are with all: not exchangeable.
            fitted = {name: rules | {"conformal": unpromised(rules["conformal"])} for name, rules in fitted.items()}
        source = takeover.source_of(config)
        if source:
            theirs = takeover.thresholds_of(source, level, config.score)
            kept = own if config.score.thresholds == "source" else []
            fitted |= {name: theirs[name] for name in kept} | {ZERO_SHOT: theirs[config.score.headline]}
        return fitted

    def _need(self, *names: str) -> None:
        missing = [name for name in names if not (self.workdir / name).exists()]
        if missing:
            raise RunError(f"{self.workdir}: {missing[0]} is missing; make it with launch/score.py first.")

    def _forget(self, *names: str) -> None:
        """Remove files, last first, so that what is left at any moment is a run cut off at an earlier step."""
        for name in names[::-1]:
            (self.workdir / name).unlink(missing_ok=True)

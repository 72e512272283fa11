"""A run from its first arrow to its last. Every step leaves files in the run directory and is skipped where they stand.

scans -> manifest.csv -> <stage>/ckpt -> embeddings/, predictions.csv, cost.json
      -> gaussian.npz, scores.csv, thresholds.json, calibration.json -> metrics.json -> report.html, MODEL_CARD.md
"""

from functools import cached_property, partial, wraps
from pathlib import Path

import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax import checks, lineage, rundir
from symnorm_jax.data import manifest, pipeline, prepare, store, targets
from symnorm_jax.errors import RunError
from symnorm_jax.evaluation.cases import LEVELS, cases_at
from symnorm_jax.evaluation.evaluate import evaluate
from symnorm_jax.evaluation.prediction import prediction_table
from symnorm_jax.files import load_arrays, save_arrays, write_json, write_text
from symnorm_jax.hosts import on_lead
from symnorm_jax.paths import check_place
from symnorm_jax.report.page import write_report
from symnorm_jax.scoring import calibration, embed, mahalanobis, scores, thresholds
from symnorm_jax.settings import check_choice, only_judges, target_of
from symnorm_jax.systems.contract import Variables
from symnorm_jax.training import passes, sharding, train, transfer

FROM_SCORES = (rundir.SCORES, rundir.THRESHOLDS, rundir.CALIBRATION)
FROM_METRICS = (rundir.METRICS, rundir.REPORT)
STEPS: dict[str, tuple[str, ...]] = {}  # by their names, in order: the files that every run has after them


def _step(*files: str, lead: bool = False):
    """Make a step of a method: taken by the lead alone or on all hosts and, with `anew`, though its files are there."""

    def of(take):
        STEPS[take.__name__] = files

        @wraps(take)
        def taken(run: "Run", anew: bool = False) -> None:
            if anew:
                on_lead(partial(run._forget, take.__name__))
            on_lead(partial(take, run)) if lead else take(run)

        return taken

    return of


class Run:
    """The steps of a run with a config, in `workdir`. Each reads what the ones before it wrote."""

    def __init__(self, config: ConfigDict, workdir: Path):
        self.config, self.workdir = config, workdir
        check_place(workdir)
        try:
            self._system = checks.checked(config)
        except AttributeError as error:  # ml_collections' word for a key that is not there
            raise RunError(f"{workdir}: its config is of another version of symnorm_jax: {error}") from None

    def check_devices(self) -> None:
        """Raise ConfigError unless the run can be trained on the devices that are here."""
        checks.check_devices(self.config, self._system)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self._has(*(name for files in STEPS.values() for name in files))

    def everything(self) -> None:
        """Take all steps, from wherever the run stands."""
        if self.config.init_from:
            transfer.check_source(self.config, self._system)
        for name in STEPS:
            getattr(self, name)()

    @_step(lead=True)
    def prepare(self) -> None:
        """Make slices and `manifest.csv` of scans; lost slices anew. Raises RunError where the scans have changed."""
        path, data = self.workdir / rundir.MANIFEST, self.config.data
        there = path.exists() and store.holds(data.store, self.manifest)
        if there and not len(store.without_prior(data.store, self._training_rows, self._prior)):
            return
        seed = self.config.seed if data.split_seed is None else data.split_seed
        text = prepare.prepare(data, seed, self._foresee, self._prior).to_csv()
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise RunError(f"{path}: the scans have changed since this run was prepared; choose another --workdir.")
        write_text(path, text)

    @_step()
    def train_and_embed(self) -> None:
        """Train every stage, then write `embeddings/<split>.npz`, and `embeddings/source` of the run started from."""
        place, splits = self.workdir / rundir.EMBEDDINGS, self._splits
        if all((place / f"{split}.npz").exists() for split in splits):
            return
        self._check_groups(self.manifest)
        lineage.audit_lineage(self.manifest, self.config, self.workdir)
        if only_judges(self.config):
            variables = transfer.restored(self.config.init_from, self._system, self._shapes)
            return self._embed(variables, place, splits, self.config.init_from)
        rows, target, wanted = self._training_rows, target_of(self.config), None
        self._check_healthy(rows)  # as it was foreseen, but for scans that could not be used
        if "lesion" in self._system.asks:
            targets.check_lesions(rows)
        if target:
            on_lead(partial(targets.warn_of_unknown, self.manifest, self.config))
            wanted = targets.standardised(rows, target, targets.scale_of(rows, target))
        known = {"prior": self._prior, "labels": "healthy" in self._system.asks}
        source = store.SampleSource(self.config.data.store, rows, wanted, **known)
        batches = partial(pipeline.training_batches, source, self.config, asks=self._system.asks)
        made = passes.Pass(self._system, self.config, rows, self.workdir)

        def with_maps(variables: Variables) -> train.Batches:
            mapped = store.SampleSource(self.config.data.store, rows, wanted, made.differences(variables))
            return partial(pipeline.training_batches, mapped, self.config, asks=())

        variables = train.train(self._system, self.config, batches, self.workdir, with_maps)
        differences = made.differences(variables) if self._system.residual else None
        if self._source_embeds:
            theirs = transfer.restored(self.config.init_from, self._system, variables)
            self._embed(theirs, place / "source", self._scored, self.config.init_from)
        self._embed(variables, place, splits, self.workdir, differences)

    @_step(lead=True)
    def predict(self) -> None:
        """Write what a run with a target says of validation and test people; nothing without one."""
        if target_of(self.config) and not self._has(rundir.PREDICTIONS):
            embedded = self._embedded(self._scored)
            table = prediction_table(self.manifest, embedded, self._training_rows, self.config)
            write_text(self.workdir / rundir.PREDICTIONS, table.to_csv())

    @_step(rundir.COST)
    def measure_cost(self) -> None:
        """Measure what a slice costs the trained system."""
        if self._has(rundir.COST):
            return
        config, mesh, rows = self.config, sharding.make_mesh(), self.manifest[self.manifest.split == "test"]
        source, size = store.SampleSource(config.data.store, rows), sharding.evenly(config.score.batch_size, mesh)
        batch = next(pipeline.scoring_batches(source, size))
        batch = {name: batch[name] for name in ("image", "brain", "index", "valid")}
        variables = transfer.restored(str(self.workdir), self._system, self._shapes)
        measured = embed.cost(self._system, variables, batch, mesh)
        on_lead(lambda: write_json(self.workdir / rundir.COST, measured))

    @_step(rundir.GAUSSIAN)
    def fit(self) -> None:
        """Fit the Gaussian of healthy training slices on all devices, or take over the source's."""
        if self._has(rundir.GAUSSIAN):
            return
        if self.config.init_from and self.config.finetune.kind == "none":
            gaussian = scores.gaussian_of(self.config.init_from)
        else:
            embedded = self._embedded(("train",))["train"]
            rows = self.manifest.loc[embedded["index"]]
            healthy = manifest.normal(rows, self.config.data.train_on).to_numpy()
            patients = rows.patient.to_numpy()[healthy]
            gaussian = mahalanobis.estimate(embedded["z"][healthy], patients, self.config.score.shrinkage)
        on_lead(lambda: mahalanobis.save(self.workdir / rundir.GAUSSIAN, gaussian))

    @_step(*FROM_SCORES, lead=True)
    def score(self) -> None:
        """Make scores, thresholds and calibration of embeddings and Gaussian. Raises RunError without a Gaussian."""
        if self._has(*FROM_SCORES):
            return
        self._need(rundir.GAUSSIAN)
        config, source = self.config, scores.source_of(self.config)
        gaussian = mahalanobis.load(self.workdir / rundir.GAUSSIAN)
        moments = scores.moments_of(source) if config.score.thresholds == "source" else None
        fitting = scores.validation_of(source) if only_judges(config) else None
        table = scores.score_table(self.manifest, self._embedded(self._scored), gaussian, moments, fitting)
        if self._zero_shot:
            theirs = self._embedded(self._scored, "source" if self._source_embeds else "")
            table[scores.ZERO_SHOT] = scores.zero_shot(source, self.manifest, theirs, config.score.headline)
        write_text(self.workdir / rundir.SCORES, table.to_csv())
        grouped, how = table.join(self.manifest[list(config.score.groups)]), config.score
        validation = {level: cases_at(level, grouped, "val", how.patient, how.top_k, how.groups) for level in LEVELS}
        fitted = {level: self._thresholds(level, cases, table) for level, cases in validation.items()}
        write_json(self.workdir / rundir.THRESHOLDS, fitted | {"moments": moments or scores.healthy_moments(table)})
        names = scores.score_names(table)
        probable = {level: calibration.fit_calibration(cases, names) for level, cases in validation.items()}
        if only_judges(config):
            probable = {level: scores.calibration_of(source, level, how) for level in LEVELS}
        write_json(self.workdir / rundir.CALIBRATION, probable)

    @_step(*FROM_METRICS, lead=True)
    def evaluate(self) -> None:
        """Make metrics, figures, report and model card of scores. Raises RunError where the run has not been scored."""
        self._need(rundir.GAUSSIAN, *FROM_SCORES, *((rundir.PREDICTIONS,) if target_of(self.config) else ()))
        if not self._has(rundir.METRICS):
            write_json(self.workdir / rundir.METRICS, evaluate(self.workdir, self.config))
        write_report(self.workdir, self.config)

    def _foresee(self, rows: pd.DataFrame) -> None:
        """Raise ConfigError for what a config asks of columns and people that are not there."""
        self._check_groups(rows)
        self._check_healthy(targets.training_rows(rows, self.config))

    def _check_healthy(self, rows: pd.DataFrame) -> None:
        if not self.config.init_from or self.config.finetune.kind != "none":
            targets.check_healthy(rows, self.config)

    def _check_groups(self, rows: pd.DataFrame) -> None:
        for name in self.config.score.groups:
            check_choice("score.groups", name, manifest.group_columns(rows))

    @cached_property
    def manifest(self) -> pd.DataFrame:
        return manifest.read_manifest(self.workdir / rundir.MANIFEST)

    @cached_property
    def _training_rows(self) -> pd.DataFrame:
        return targets.training_rows(self.manifest, self.config)

    @property
    def _prior(self) -> store.Prior | None:
        """The prior of tissue that a stage that is trained asks for."""
        asked = (self._system.stages[name].prior for name in transfer.schedule(self.config, self._system))
        return next(filter(None, asked), None)

    @cached_property
    def _splits(self) -> tuple[str, ...]:
        """The splits that are embedded: those in which there is anybody."""
        names = (*manifest.SPLITS, manifest.UNLABELLED)
        return tuple(name for name in names if (self.manifest.split == name).any())

    @property
    def _scored(self) -> tuple[str, ...]:
        return tuple(name for name in self._splits if name != "train")

    @property
    def _shapes(self) -> Variables:
        return transfer.shapes_of(self._system, self.config)

    @property
    def _source_embeds(self) -> bool:
        """Whether the embeddings of the run started from differ from the own: by networks, or by healthy maps."""
        fitted = transfer.schedule(self.config, self._system) or self._system.residual
        return bool(self._zero_shot and self.config.finetune.kind != "none" and fitted)

    @cached_property
    def _zero_shot(self) -> bool:
        """Whether the run started from could score these samples: what it fitted is of maps that are made alike."""
        return bool(scores.source_of(self.config)) and not transfer.fitted_otherwise(self.config, self._system)

    def _embed(self, variables: Variables, folder: Path, splits: tuple[str, ...], run: str | Path, maps=None) -> None:
        """Embed splits, by what `run` has measured of healthy people; `maps` are those of the training slices."""
        folder.mkdir(parents=True, exist_ok=True)
        healthy = passes.healthy_of(run, self.config) if self._system.residual else None
        mesh = sharding.make_mesh(self.config.sharding.fsdp)
        embedder = embed.Embedder(self._system, self.config, variables, healthy, mesh)
        for split in splits:
            if (folder / f"{split}.npz").exists():
                continue
            train = split == "train"
            rows = self._training_rows if train else self.manifest[self.manifest.split == split]
            pictures = not train and folder.name != "source"
            arrays = embedder.split(rows, split, pictures, maps if train else None)
            on_lead(partial(save_arrays, folder / f"{split}.npz", arrays))

    def _embedded(self, splits: tuple[str, ...], folder: str = "") -> dict[str, embed.Arrays]:
        """The embeddings and scores of each split, without pictures."""
        files = {split: self.workdir / rundir.EMBEDDINGS / folder / f"{split}.npz" for split in splits}
        return {split: load_arrays(file, "index", "z", "score.", "predicted") for split, file in files.items()}

    def _thresholds(self, level: str, cases: pd.DataFrame, table: pd.DataFrame) -> dict[str, dict]:
        """`{score: {rule: fit}}`, fitted on validation cases or, if so configured, taken over from the source."""
        config, own = self.config, scores.score_names(table)
        fitted = thresholds.fit_thresholds(cases, own + scores.score_names(table, trivial=True), config.score)
        if level == "patient" and config.score.patient == "calibrated":
            # Validation patients were compared with the others of them, new ones are with all: not exchangeable.
            for rules in fitted.values():
                rules["conformal"] = thresholds.unpromised(rules["conformal"])
        if source := scores.source_of(config):
            theirs = scores.thresholds_of(source, level, config.score)
            taken = theirs if only_judges(config) else own if config.score.thresholds == "source" else []
            fitted |= {name: theirs[name] for name in taken if name in theirs}  # a stage may add scores
            fitted |= {scores.ZERO_SHOT: theirs[config.score.headline]} if self._zero_shot else {}
        return fitted

    def _has(self, *names: str) -> bool:
        return all((self.workdir / name).exists() for name in names)

    def _need(self, *names: str) -> None:
        for name in names:
            if not self._has(name):
                raise RunError(f"{self.workdir}: {name} is missing; `symnorm evaluate --from=gaussian` makes it.")

    def _forget(self, name: str) -> None:
        """Remove files from a step on, last first, so that what is left at any moment is a run that was cut off."""
        steps = [name] if name == "measure_cost" else list(STEPS)[list(STEPS).index(name) :]
        controls = [rundir.CONTROLS, rundir.SHIFTS] if "score" in steps else []  # made of scores, by other commands
        for file in (*controls, *[file for step in steps for file in STEPS[step]][::-1]):
            (self.workdir / file).unlink(missing_ok=True)

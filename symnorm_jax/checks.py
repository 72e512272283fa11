"""What a config may say, looked at before anything is done."""

from collections.abc import Iterable

import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.data import brain, manifest, samples
from symnorm_jax.errors import ConfigError
from symnorm_jax.evaluation.cases import AGGREGATES
from symnorm_jax.evaluation.maps import chain
from symnorm_jax.scoring.calibration import METHODS
from symnorm_jax.scoring.scores import names_of
from symnorm_jax.scoring.shrinkage import check_shrinkage
from symnorm_jax.scoring.takeover import THRESHOLDS
from symnorm_jax.scoring.thresholds import RULES, check_settings
from symnorm_jax.statistics.intervals import KINDS
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.contract import System
from symnorm_jax.systems.encoder import FINETUNE
from symnorm_jax.training.profile import parse
from symnorm_jax.training.sharding import check_batch_size, check_sharding
from symnorm_jax.training.transfer import schedule
from symnorm_jax.training.writers import check_writers

DTYPES = ("float32", "bfloat16")


def checked(config: ConfigDict) -> System:
    """The system of a config. Raises ConfigError, before anything is done, for a choice that would only fail later."""
    _refuse_unless_one_of("system", config.system, BUILD)
    system = BUILD[config.system](config)
    _refuse_unless_one_of("score.threshold", config.score.threshold, RULES)
    _refuse_unless_one_of("score.headline", config.score.headline, names_of(system.scores))
    _refuse_unless_one_of("data.train_on", config.data.train_on, manifest.TRAIN_ON)
    _refuse_unless_one_of("data.midline", config.data.midline, samples.MIDLINE)
    _refuse_unless_one_of("data.poor_midline", config.data.poor_midline, samples.POOR_MIDLINE)
    _refuse_unless_one_of("score.patient", config.score.patient, AGGREGATES)
    _refuse_unless_one_of("score.calibration", config.score.calibration, METHODS)
    _refuse_unless_one_of("evaluation.interval", config.evaluation.interval, KINDS)
    check_settings(config.score)
    chain(config)
    _refuse_unless_positive("score.top_k", config.score.top_k)
    _refuse_unless_positive("evaluation.margin", config.evaluation.margin)
    _refuse_unless_one_of("score.thresholds", config.score.thresholds, THRESHOLDS if config.init_from else ("target",))
    brain.check_choice(config.data.brain, config.data.extractor)
    check_shrinkage(config.score.shrinkage)
    if len(config.data.size) not in (2, 3) or min(config.data.size) < 1:
        found = f"data.size={tuple(config.data.size)}"
        raise ConfigError(f"{found}; two positive sides, of slices, or three, of volumes, are allowed.")
    _refuse_unless_one_of("network.dtype", config.network.dtype, DTYPES)
    for key in ("accumulate", "log_every", "checkpoint_every"):
        _refuse_unless_positive(f"train.{key}", config.train[key])
    stages = schedule(config, system)
    _check_target(config, system, stages)
    for name, settings in stages.items():
        _refuse_unless_positive(f"{_section(config)}.{name}.steps", settings.steps)
    if config.train.profile:
        _refuse_unless_one_of("train.profile", parse(config.train.profile)[0], stages)
    return system


def _check_target(config: ConfigDict, system: System, stages: Iterable[str]) -> None:
    """Raise ConfigError for a target that nothing would be trained to predict."""
    column = config.target.column
    if column and "target" not in system.asks:
        raise ConfigError(f"target.column={column!r} with system={config.system!r}; only systems of volumes predict.")
    if column and FINETUNE not in stages:
        kinds = f"finetune.kind={config.finetune.kind!r}"
        raise ConfigError(f"target.column={column!r} with {kinds}; {FINETUNE!r} or a stage before it is needed.")


def check_devices(config: ConfigDict, system: System) -> None:
    """Raise ConfigError unless a config can be trained here: on these devices, with the libraries that there are."""
    check_sharding(config.sharding)
    check_writers(config.train.writers)
    for name, settings in schedule(config, system).items():
        key = f"{_section(config)}.{name}.batch_size"
        check_batch_size(key, settings.batch_size, config.train.accumulate)
    check_batch_size("score.batch_size", config.score.batch_size)


def _section(config: ConfigDict) -> str:
    return "finetune" if config.init_from else "train"


def check_groups(groups: tuple[str, ...], rows: pd.DataFrame) -> None:
    """Raise ConfigError unless the manifest `rows` have each of `score.groups` as a column that the source gave."""
    for name in groups:
        _refuse_unless_one_of("score.groups", name, manifest.group_columns(rows))


def _refuse_unless_one_of(key: str, value: str, allowed: Iterable[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}={value!r}; one of {sorted(allowed)} is allowed.")


def _refuse_unless_positive(key: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{key}={value}; a positive number is allowed.")

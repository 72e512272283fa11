"""What a network is to predict of a person, from a column of the source: a number, as age, or a class, as sex."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from absl import logging
from ml_collections import ConfigDict

from symnorm_jax.data import manifest
from symnorm_jax.errors import ConfigError
from symnorm_jax.settings import target_of

UNKNOWN = ("", "n/a", "na", "nan", "none", "unknown", "?")  # in any case


class Scale(NamedTuple):
    """What makes a number standardised: of the training people, so that nothing is known of the others."""

    mean: float
    deviation: float


def check(rows: pd.DataFrame, training: pd.DataFrame, section: ConfigDict) -> None:
    """Raise ConfigError unless `section.column` of a manifest has something to learn in its rows `training`.

    So does a value that is not what it seems: no number, or the class in other letters.
    """
    columns = manifest.group_columns(rows)
    if section.column not in columns:
        raise ConfigError(f"target.column={section.column!r}; one of {sorted(columns)} is allowed.")
    _check_values(_texts(rows[rows.split.isin(manifest.SPLITS)], section), section)
    known = values(training, section)
    if len(np.unique(known[np.isfinite(known)])) < 2:
        given = sorted(training[section.column].astype(str).unique())[:5]
        wanted = "two numbers or more" if section.kind == "number" else f"{section.positive!r} and another value"
        found = f"target.column={section.column!r} holds {given} in the training split"
        raise ConfigError(f"{found}, with target.kind={section.kind!r}; {wanted} are needed.")


def _check_values(texts: pd.Series, section: ConfigDict) -> None:
    known, column = texts[texts != ""], f"target.column={section.column!r}"
    if section.kind == "number":
        bad = known[~np.isfinite(pd.to_numeric(known, errors="coerce"))]
        wanted = "a number, or for what is not known nothing or n/a, is allowed"
    else:
        bad = known[(known != section.positive) & (known.str.lower() == section.positive.lower())]
        wanted = f"{section.positive!r} is target.positive, and its letters must be the same everywhere"
    if len(bad):
        raise ConfigError(f"{column} holds {bad.iloc[0]!r}; {wanted}.")


def training_rows(rows: pd.DataFrame, config: ConfigDict) -> pd.DataFrame:
    """The rows of a manifest that a config trains on: with a target, of people of whom it is known; then so many."""
    part = rows[manifest.trainable(rows, config.data.train_on)]
    if target_of(config):
        check(rows, part, config.target)
        part = part[np.isfinite(values(part, config.target))]
    section = "finetune" if config.init_from else "train"
    return manifest.few(part, config[section].patients, config.seed, f"{section}.patients")


def warn_of_unknown(rows: pd.DataFrame, config: ConfigDict) -> None:
    """Say in the log how many training people are left out of every stage because their target is not known."""
    part = rows[manifest.trainable(rows, config.data.train_on)]
    known = part[np.isfinite(values(part, config.target))]
    if lost := part.patient.nunique() - known.patient.nunique():
        told = "target.column=%r is not known of %d of %d training people, who are left out of all stages"
        logging.warning(told, config.target.column, lost, part.patient.nunique())


def values(rows: pd.DataFrame, section: ConfigDict) -> np.ndarray:
    """The target of each row, `[N]` float: in its own unit, or 1 for `section.positive` and 0 else; NaN if unknown."""
    texts = _texts(rows, section)
    if section.kind == "number":
        return pd.to_numeric(texts, errors="coerce").to_numpy(float)
    return np.where(texts == "", np.nan, texts == section.positive)


def _texts(rows: pd.DataFrame, section: ConfigDict) -> pd.Series:
    """The column as text, empty where it says that it is not known."""
    texts = rows[section.column].fillna("").astype(str).str.strip()
    return texts.mask(texts.str.lower().isin(UNKNOWN), "")


def scale_of(training: pd.DataFrame, section: ConfigDict) -> Scale:
    """Mean and deviation of a number over the training rows; of a class those that change nothing."""
    if section.kind == "class":
        return Scale(0.0, 1.0)
    known = values(training, section)
    known = known[np.isfinite(known)]
    return Scale(float(known.mean()), float(known.std()) or 1.0)  # a few people may all be of one age


def standardised(rows: pd.DataFrame, section: ConfigDict, scale: Scale) -> np.ndarray:
    """The target of each row as a loss takes it, `[N]` float32; NaN if unknown."""
    return ((values(rows, section) - scale.mean) / scale.deviation).astype(np.float32)


def restored(predicted: np.ndarray, section: ConfigDict, scale: Scale) -> np.ndarray:
    """What a network predicted, `[N]`, in the unit of the target, or as the probability of its class."""
    predicted = predicted.astype(float)
    if section.kind == "class":
        return 1 / (1 + np.exp(-np.clip(predicted, -500, 500)))
    return predicted * scale.deviation + scale.mean

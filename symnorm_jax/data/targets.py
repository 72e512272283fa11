"""What a network is to predict, from a column of the source: a number, as age, or a class, as sex; or the label."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from absl import logging
from ml_collections import ConfigDict

from symnorm_jax.data import manifest
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.settings import check_choice, target_of

LABEL = "label"  # a column of every manifest, whose classes are healthy and abnormal
UNKNOWN = ("", "n/a", "na", "nan", "none", "unknown", "?")  # in any case


class Scale(NamedTuple):
    """What standardises a number: of the training people, so that nothing is known of the others."""

    mean: float
    deviation: float


def check(rows: pd.DataFrame, training: pd.DataFrame, section: ConfigDict) -> None:
    """Raise ConfigError where a manifest's `section.column` has nothing to learn in `training`, or odd values."""
    check_choice("target.column", section.column, (*manifest.group_columns(rows), LABEL))
    if section.column == LABEL:
        check_choice("target.positive", section.positive, manifest.KNOWN)
    texts = _texts(rows[rows.split.isin(manifest.SPLITS)], section)
    texts, key = texts[texts != ""], f"target.column={section.column!r}"
    if section.kind == "number":
        bad = texts[~np.isfinite(pd.to_numeric(texts, errors="coerce"))]
        allowed, wanted = "a number, or for what is not known nothing or n/a, is allowed", "two numbers or more"
    else:
        bad = texts[(texts != section.positive) & (texts.str.lower() == section.positive.lower())]
        allowed = f"{section.positive!r} is target.positive, and its letters must be the same everywhere"
        wanted = f"{section.positive!r} and another value"
        wanted += ", as with data.train_on='everyone'," * (section.column == LABEL)
    if len(bad):
        raise ConfigError(f"{key} holds {bad.iloc[0]!r}; {allowed}.")
    if pd.Series(values(training, section)).nunique() < 2:  # of those that are known
        found = f"{key} holds {sorted(training[section.column].astype(str).unique())[:5]} in the training split"
        raise ConfigError(f"{found}, with target.kind={section.kind!r}; {wanted} are needed.")


def training_rows(rows: pd.DataFrame, config: ConfigDict) -> pd.DataFrame:
    """Choose the rows of a manifest that a config trains on: with a target, of people of whom it is known."""
    part = rows[manifest.trainable(rows, config.data.train_on)]
    if target_of(config):
        check(rows, part, config.target)
        part = part[np.isfinite(values(part, config.target))]
    section = "finetune" if config.init_from else "train"
    return manifest.few(part, config[section].patients, config.seed, f"{section}.patients")


def check_healthy(training: pd.DataFrame, config: ConfigDict) -> None:
    """Raise ConfigError where those to train on hold too few healthy people for the shrinkage of a Gaussian."""
    people = training.patient[manifest.normal(training, config.data.train_on)].nunique()
    if config.score.shrinkage == "auto" and people < 2:
        found = f"score.shrinkage='auto' with {people} healthy people to learn from, of whom it holds some out"
        raise ConfigError(f"{found}; 2 or more of them, or oas, ledoit_wolf or a number, are allowed.")


def check_lesions(training: pd.DataFrame) -> None:
    """Raise ScanError where no row to train on shows a drawn lesion, or an abnormal one has none that was drawn.

    A network would learn to mark nothing, there or anywhere.
    """
    if not (training.lesion_mm2 > 0).any():
        held = f"none of the {len(training)} samples to learn from shows a drawn lesion"
        raise ScanError(f"{held}, of which the system learns; masks of lesions are needed.")
    undrawn = training[(training.label == "abnormal") & ~(training.lesion_mm2 > 0)]
    if len(undrawn):
        held = f"{len(undrawn)} abnormal samples to learn from have no drawn lesion, the first of"
        raise ScanError(f"{held} {undrawn.patient.iloc[0]}; draw them, or leave these people out.")


def warn_of_unknown(rows: pd.DataFrame, config: ConfigDict) -> None:
    """Log how many training people are left out of every stage because their target is not known."""
    part = rows[manifest.trainable(rows, config.data.train_on)]
    people, known = (one.patient.nunique() for one in (part, part[np.isfinite(values(part, config.target))]))
    if people > known:
        told = "target.column=%r is not known of %d of %d training people, who are left out of all stages"
        logging.warning(told, config.target.column, people - known, people)


def values(rows: pd.DataFrame, section: ConfigDict) -> np.ndarray:
    """Read the target of each row, `[N]` float: in its own unit, or 1 for `section.positive` else 0; NaN if unknown."""
    texts = _texts(rows, section)
    if section.kind == "number":
        return pd.to_numeric(texts, errors="coerce").to_numpy(float)
    return np.where(texts == "", np.nan, texts == section.positive)


def _texts(rows: pd.DataFrame, section: ConfigDict) -> pd.Series:
    """Read the column as text, empty where it says that it is not known."""
    texts = rows[section.column].fillna("").astype(str).str.strip()
    if section.column == LABEL:
        return texts.where(texts.isin(manifest.KNOWN), "")
    return texts.mask(texts.str.lower().isin(UNKNOWN), "")


def scale_of(training: pd.DataFrame, section: ConfigDict) -> Scale:
    """Measure the mean and deviation of a number over the training rows; a class has a scale that changes nothing."""
    if section.kind == "class":
        return Scale(0.0, 1.0)
    known = values(training, section)
    known = known[np.isfinite(known)]
    return Scale(float(known.mean()), float(known.std()) or 1.0)  # a few people may all be of one age


def standardised(rows: pd.DataFrame, section: ConfigDict, scale: Scale) -> np.ndarray:
    """Standardise the target of each row for a loss, `[N]` float32; NaN if unknown."""
    return ((values(rows, section) - scale.mean) / scale.deviation).astype(np.float32)


def restored(predicted: np.ndarray, section: ConfigDict, scale: Scale) -> np.ndarray:
    """Give what a network predicted, `[N]`, in the unit of the target, or as the probability of its class."""
    predicted = predicted.astype(float)
    if section.kind == "class":
        return 1 / (1 + np.exp(-np.clip(predicted, -500, 500)))
    return predicted * scale.deviation + scale.mean

"""A population kept for testing: what is learned on some people is tried on others unlike them, as of another site."""

import pandas as pd

from symnorm_jax.data.manifest import group_columns
from symnorm_jax.errors import ConfigError


def belongs(rows: pd.DataFrame, held_out: str) -> pd.Series:
    """Which rows are of a patient of the group `held_out`, as `site=IOP`, bool; none for an empty one.

    A patient is of the group if any of the scans is. Raises ConfigError for a column that is no group of the source and
    for a value that nobody has.
    """
    if not held_out:
        return pd.Series(False, rows.index)
    column, _, value = held_out.partition("=")
    if column not in group_columns(rows) or not value:
        raise ConfigError(f"data.held_out={held_out!r}; column=value with one of {group_columns(rows)} is allowed.")
    values = rows[column].fillna("").astype(str)
    if not (values == value).any():
        raise ConfigError(f"data.held_out={held_out!r}: that is nobody; {column} holds {sorted(values.unique())[:8]}.")
    return rows.patient.isin(rows.patient[values == value])


def keep_out(rows: pd.DataFrame, held_out: str) -> pd.DataFrame:
    """The table, before it is split, with everybody of the group `held_out` in the test split; errors as above."""
    free = rows.split.isin(("", "train"))  # what is excluded or unlabelled stays so
    return rows.assign(split=rows.split.mask(belongs(rows, held_out) & free, "test"))

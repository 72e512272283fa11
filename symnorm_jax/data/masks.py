"""What the values of a mask file mean: looked at, never guessed.

"Above 0" would take a probability map, what resampling leaves, or a part of a label map for the whole of a lesion, and
255 stored in a signed byte for none.
"""

from typing import NamedTuple

import numpy as np

from symnorm_jax.errors import ConfigError, ScanError

TWO, POSITIVE, SOFT = "two", "positive", "soft"
RESIDUE = 1e-3  # of the largest value, and of the step between labels: what scaling and resampling may leave
SHOWN = 6  # values that a message lists


class Reading(NamedTuple):
    """What a config allows of image files: how the values of masks are read, and what becomes of poor headers."""

    lesion: str = TWO
    brain: str = TWO
    header: str = "exclude"


STRICT = Reading()


def labels_of(key: str, how: str) -> tuple[int, ...]:
    """Read labels such as `1,3`; none for a word. Raises ConfigError, which names the `key`, for anything else."""
    if how in (TWO, POSITIVE, SOFT):
        return ()
    try:
        return tuple(int(label) for label in how.split(","))
    except ValueError:
        words = f"{TWO}, {POSITIVE}, {SOFT} or labels such as '1,3'"
        raise ConfigError(f"{key}={how!r}; {words} are allowed.") from None


def marked(values: np.ndarray, how: str, kind: str, name: str) -> np.ndarray:
    """Find what the `values` of a mask mark, bool, read as `data.<kind>_values` says; `name` is the file's.

    `two`: 0 and one other value. `positive`: whole numbers, all above 0. `soft`: from 0 to 1, cut at 0.5. Labels:
    whole numbers, of which these are marked. Raises ScanError for values that mean none of that.
    """
    if values.dtype == bool:
        return values
    labels, low, top = labels_of(f"data.{kind}_values", how), float(values.min()), float(values.max())
    if labels:
        return np.isin(_whole(values, kind, name), labels)
    residue = RESIDUE * max(top, -low)
    if low < -residue or 0 < top < RESIDUE or low == top != 0:
        allowed = f"0, of which there must be some, and values of {RESIDUE:g} or more are allowed"
        raise ScanError(f"{name}: the {kind} mask holds {_listed(values)}; {allowed}.")
    upper = values >= top - residue
    if how == SOFT and top <= 1 + RESIDUE:
        return values >= 0.5
    if (upper | (values <= residue)).all():
        return upper & (top > 0)
    if how == POSITIVE:
        return _whole(values, kind, name) > 0
    other = f"data.{kind}_values names labels as '1,3', takes all with '{POSITIVE}', or cuts probabilities as '{SOFT}'"
    raise ScanError(f"{name}: the {kind} mask holds {_listed(values)}; 0 and one other value are allowed, or {other}.")


def _whole(values: np.ndarray, kind: str, name: str) -> np.ndarray:
    """Round values to the labels they are. Raises ScanError where they are none."""
    rounded = np.round(values)
    if np.abs(values - rounded).max() > RESIDUE:
        raise ScanError(f"{name}: the {kind} mask holds {_listed(values)}; whole numbers, as labels are, are allowed.")
    return rounded


def _listed(values: np.ndarray) -> str:
    distinct = np.unique(values) + 0.0  # of which -0 becomes 0
    ends = f"{len(distinct)} values from {distinct[0]:.3g} to {distinct[-1]:.3g}"
    return ends if len(distinct) > SHOWN else ", ".join(f"{value:g}" for value in distinct)

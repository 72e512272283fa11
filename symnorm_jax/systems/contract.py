"""What a system is: pure functions and the order of its training stages. Trainer and scorer know no more.

Classes whose methods are such functions hold networks and settings, never variables.
`variables` is `{"params": {net: tree}, "stats": {net: tree}}`. `stats` holds what a loss measures and does not learn by
gradient, such as batch statistics.

A system of slices that compares them with what it expects says so by `residual`, slice by slice. Its maps are then
made of whole scans, alike for every system (`standardise.py`, and of several contrasts one, `channels.py`), those of
the training slices once and kept in the run. `embed`, and the loss of a stage that is `of_maps`, find them in the
batch. A `batch` is a dict of arrays:

===========  ================  ==============================================================================
`image`      `[B, *S, C]`      intensities of C contrasts, the leading one first, 0 outside the brain
`brain`      `[B, *S, 1]`      1.0 in the brain, else 0.0
`index`      `[B]` int         the sample's row in the manifest; keys its randomness
`valid`      `[B]` bool        False for the rows that pad the last batch
`hidden`     `[B, *grid]` bool the training mask, on the patch grid; in training batches of systems that ask for it
`target`     `[B]`             what is to be predicted, a number or 0 and 1; in training batches of systems that ask
`healthy`    `[B]`             1.0 of healthy people, 0.0 of others; in training batches of systems that ask for labels
`lesion`     `[B, *S]` bool    what somebody has drawn; in training batches of systems that ask for it
`patient`    `[B]` int         a number for each person trained on; in training batches only
`prior`      `[B, *S, K]`      shares of K tissues, 0 outside the brain; in training batches where a stage asks
`difference` `[B, *S, 1]`      the standardised map, 0 outside the brain; where it was made before
`progress`   `[]`              share of the stage's steps already taken, 0 to 1; in training batches only
===========  ================  ==============================================================================
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

DATA = ("data.size", "data.spacing", "data.normalise", "data.percentiles", "data.midline")  # of any network
Batch = dict[str, jax.Array]
Variables = dict[str, dict[str, Any]]


class Aux(NamedTuple):
    """What a loss returns beside its value."""

    metrics: dict[str, jax.Array]  # scalars, logged
    stats: dict[str, Any]  # the new `variables["stats"]`, whole


class Stage(NamedTuple):
    """One phase of training."""

    trains: tuple[str, ...]  # the networks this stage updates; every other one is frozen
    loss: Callable[[Variables, Batch, jax.Array], tuple[jax.Array, Aux]]
    measures: tuple[str, ...] = ()  # the stats it begins from 0: what a run starts from has measured other people
    of_maps: bool = False  # its batches have `difference`, made by the networks of the stages before
    prior: tuple[str, int] | None = None  # that its batches must have: labels or atlas, and K


class Residual(NamedTuple):
    """What a system finds in a batch of slices, each for itself; everything is per example."""

    map: jax.Array  # [B, *S, C], signed where its kind has a sign: slice less expectation; 0 outside the brain
    scalars: dict[str, jax.Array]  # {score name: [B]}, larger is more abnormal
    panels: dict[str, jax.Array] = {}  # {caption: [B, *S, 1]}, pictures for the report's gallery


class Embedding(NamedTuple):
    """What a system makes of a batch; everything is per example."""

    z: jax.Array  # [B, D]
    scalars: dict[str, jax.Array] = {}  # {score name: [B]}, larger is more abnormal
    predicted: jax.Array | None = None  # [B], of the target: a standardised number, or the log-odds of a class
    map: jax.Array | None = None  # [B, *S], of a system of volumes, larger is more abnormal; kept as it is


class System(NamedTuple):
    """A published method. `stages` is in training order, empty for a training-free one."""

    init: Callable[[jax.Array, Batch], Variables]  # drawn with a key; the batch gives shapes
    stages: dict[str, Stage]
    embed: Callable[[Variables, Batch], Embedding]
    residual: Callable[[Variables, Batch], Residual] | None = None  # of systems with a map
    scores: tuple[str, ...] = ()  # the names of the scalars
    passes: int = 1  # through a network that a sample takes
    meaning: tuple[str, ...] = ()  # config keys that must agree for one run to start from the networks of another
    of_network: dict[str, tuple[str, ...]] = {}  # {net: those that must agree where the other run has that network}
    fitted: tuple[str, ...] = ()  # those that must agree besides where what was fitted to its maps is taken over
    asks: tuple[str, ...] = ()  # for what is drawn for training batches only where it is asked for

    def asked(self, stage: str) -> tuple[str, ...]:
        """Name what a stage's batches have beside samples: what `asks` says or, of one `of_maps`, `difference`."""
        return ("difference",) if self.stages[stage].of_maps else self.asks


def example_keys(key: jax.Array, index: jax.Array) -> jax.Array:
    """Make one key per example, `[B]`, which depends on the example and not on its place in the batch or its host."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def folded(keys: jax.Array, number: jax.Array | int) -> jax.Array:
    """Make of each key, `[B]`, its key of a number, which is the same for all."""
    return jax.vmap(jax.random.fold_in, (0, None))(keys, number)

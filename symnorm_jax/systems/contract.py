"""What a system is: three pure functions and the order of its training stages. Trainer and scorer know no more.

Classes whose methods are such functions hold networks and settings, never variables.
`variables` is `{"params": {net: tree}, "stats": {net: tree}}`. `stats` holds what a loss measures and does not learn by
gradient, such as batch statistics. A `batch` is a dict of arrays:

===========  ================  ==============================================================================
`image`      `[B, *S, C]`      intensities, 0 outside the brain
`brain`      `[B, *S, 1]`      1.0 in the brain, else 0.0
`index`      `[B]` int         the sample's row in the manifest; keys its randomness
`valid`      `[B]` bool        False for the rows that pad the last batch
`hidden`     `[B, *grid]` bool the training mask, on the patch grid; in training batches of systems that ask for it
`target`     `[B]`             what is to be predicted, a number or 0 and 1; in training batches of systems that ask
`progress`   `[]`              share of the stage's steps already taken, 0 to 1; in training batches only
===========  ================  ==============================================================================
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

DATA = ("data.size", "data.spacing", "data.percentiles", "data.midline")  # what networks of any system depend on
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


class Embedding(NamedTuple):
    """What a system makes of a batch; everything is per example."""

    z: jax.Array  # [B, D]
    scalars: dict[str, jax.Array]  # {score name: [B]}, larger is more abnormal
    map: jax.Array | None = None  # [B, *S, 1], larger is more abnormal
    panels: dict[str, jax.Array] = {}  # {caption: [B, *S, 1]}, pictures for the report's gallery
    predicted: jax.Array | None = None  # [B], of the target: a standardised number, or the log-odds of a class


class System(NamedTuple):
    """A published method. `stages` is in training order, empty for a training-free one."""

    init: Callable[[jax.Array, Batch], Variables]  # drawn with a key; the batch gives shapes
    stages: dict[str, Stage]
    embed: Callable[[Variables, Batch], Embedding]
    scores: tuple[str, ...] = ()  # the names of the embedding's scalars
    passes: int = 1  # through a network that `embed` takes for a sample
    meaning: tuple[str, ...] = ()  # config keys that must agree for one run to start from the networks of another
    asks: tuple[str, ...] = ()  # for what is drawn for training batches only where it is asked for


def example_keys(key: jax.Array, index: jax.Array) -> jax.Array:
    """Make one key per example, `[B]`, which depends on the example and not on its place in the batch or its host."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)

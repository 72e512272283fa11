"""Batches of prepared slices through Grain. Training batch t is a pure function of (seed, t).

That is why no iterator state is saved: a run that stops at step t goes on with `start=t`, on any number of hosts.
"""

from collections.abc import Iterator

import grain
import jax
import numpy as np
from ml_collections import ConfigDict

from symnorm_jax.data.store import SampleSource
from symnorm_jax.geometry import mirror
from symnorm_jax.masking import draw, patch_grid


class DrawMask(grain.transforms.RandomMap):
    """Adds `hidden`, a random mask on the patch grid, `[*grid]` bool, of the family that `config.mask` names."""

    def __init__(self, config: ConfigDict):
        self._mask = config.mask
        self._grid = patch_grid(config.data.size, config.mask.patch)

    def random_map(self, element: dict, rng: np.random.Generator) -> dict:
        return element | {"hidden": draw(self._mask.kind, self._grid, self._mask.ratio, rng)}


class Flip(grain.transforms.RandomMap):
    """Mirrors half of the examples. It teaches indifference to side, so it is off unless asked for."""

    def random_map(self, element: dict, rng: np.random.Generator) -> dict:
        if rng.random() < 0.5:
            return element
        return element | {name: mirror(element[name]) for name in ("image", "brain", "lesion")}


def training_batches(
    source: SampleSource, config: ConfigDict, batch_size: int, start: int = 0, asks: tuple[str, ...] = ("hidden",)
) -> Iterator[dict]:
    """This host's part of the endless training batches from step `start`, each `{name: [B / hosts, ...]}`.

    A mask is drawn where `asks` holds `hidden`; `target` comes from the source, where it has one.

    Hosts slice after shuffling and drawing, so that their batches together are those of a single host.
    """
    data = grain.MapDataset.source(source).seed(config.seed).shuffle().repeat()
    if config.data.flip:
        data = data.random_map(Flip())
    if "hidden" in asks:
        data = data.random_map(DrawMask(config))
    data = data[jax.process_index() :: jax.process_count()].batch(
        batch_size // jax.process_count(), drop_remainder=True
    )[start:]
    return iter(data.to_iter_dataset(grain.ReadOptions(num_threads=config.data.threads, prefetch_buffer_size=8)))


def scoring_batches(source: SampleSource, batch_size: int) -> Iterator[dict]:
    """Every slice once and in order; the last batch is padded with its own last slice, and `valid` `[B]` says so."""
    data = grain.MapDataset.source(source).batch(batch_size, drop_remainder=False)
    for batch in data:
        missing = batch_size - len(batch["index"])
        valid = np.arange(batch_size) < batch_size - missing
        padded = {name: np.concatenate([x, np.repeat(x[-1:], missing, 0)]) for name, x in batch.items()}
        yield padded | {"valid": valid}

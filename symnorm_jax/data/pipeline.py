"""Batches of prepared samples through Grain. Training batch t is a pure function of (seed, t).

So no iterator state is saved: a run that stops at step t goes on with `start=t`, on any number of hosts.
"""

from collections.abc import Iterator

import grain
import jax
import numpy as np
from ml_collections import ConfigDict

from symnorm_jax.data.store import SampleSource
from symnorm_jax.geometry import mirror
from symnorm_jax.masking import draw, patch_grid


def _flipped(element: dict, rng: np.random.Generator) -> dict:
    """Mirror half of the examples. It teaches indifference to side, so it is off unless asked for."""
    if rng.random() < 0.5:
        return element
    sided = [name for name in ("image", "brain", "lesion", "difference", "prior") if name in element]
    return element | {name: mirror(element[name]) for name in sided}


def _without_lesion(element: dict) -> dict:
    return {name: x for name, x in element.items() if name != "lesion"}


def training_batches(
    source: SampleSource, config: ConfigDict, batch_size: int, start: int = 0, asks: tuple[str, ...] = ("hidden",)
) -> Iterator[dict]:
    """Draw this host's part of the endless training batches from step `start`, each `{name: [B / hosts, ...]}`.

    Where `asks` holds `hidden` a random mask on the patch grid, `[*grid]` bool, is drawn for each example; unless it
    holds `lesion`, no batch tells where lesions are. Hosts slice after shuffling and drawing, so that their batches
    together are what a single host has.
    """
    data = grain.MapDataset.source(source).seed(config.seed).shuffle().repeat()
    if "lesion" not in asks:
        data = data.map(_without_lesion)
    if config.data.flip:
        data = data.random_map(_flipped)
    if "hidden" in asks:
        grid, mask = patch_grid(config.data.size, config.mask.patch), config.mask
        data = data.random_map(lambda element, rng: element | {"hidden": draw(mask.kind, grid, mask.ratio, rng)})
    host, hosts = jax.process_index(), jax.process_count()
    data = data[host::hosts].batch(batch_size // hosts, drop_remainder=True)[start:]
    return iter(data.to_iter_dataset(grain.ReadOptions(num_threads=config.data.threads, prefetch_buffer_size=8)))


def scoring_batches(source: SampleSource, batch_size: int) -> Iterator[dict]:
    """Read every sample once and in order; the last batch is padded with its last sample, and `valid` `[B]` says so."""
    for batch in grain.MapDataset.source(source).batch(batch_size, drop_remainder=False):
        held = len(batch["index"])
        padded = {name: np.concatenate([x, np.repeat(x[-1:], batch_size - held, 0)]) for name, x in batch.items()}
        yield padded | {"valid": np.arange(batch_size) < held}

"""Run a trained system over the samples of a split, whose arrays are one npz file, and measure what that costs."""

from collections import defaultdict
from collections.abc import Callable
from timeit import repeat

import jax
import numpy as np
from jax.sharding import Mesh

from symnorm_jax.data.pipeline import scoring_batches
from symnorm_jax.data.store import SampleSource
from symnorm_jax.geometry import mirror_batch, plane
from symnorm_jax.progress import progress
from symnorm_jax.systems.contract import System, Variables
from symnorm_jax.training.sharding import put_whole, replicated

Arrays = dict[str, np.ndarray]
FLUID = 0.35  # between fluid, about 0.15, and grey matter, about 0.6, where white matter on T1 is about 0.9
REPEATS = 5  # of which the quickest counts: whatever else the machine does only ever adds time


def make_embed(system: System, mesh: Mesh) -> Callable:
    """Jit the system's `embed` for batches that every host has whole, which all devices share; so are answers."""
    jitted = jax.jit(lambda variables, batch: system.embed(variables, batch)._asdict(), out_shardings=replicated(mesh))
    return lambda variables, batch: jitted(variables, put_whole(batch, mesh))


def embed_split(
    embed: Callable, variables: Variables, source: SampleSource, batch_size: int, what: str, pictures: bool = True
) -> Arrays:
    """Collect what `embed` says of every sample of `source`, with the trivial scores, in the order of the source.

    Keys: `index` `[N]`, `z` `[N, D]`, `score.<name>` and with a target `predicted` `[N]`; with `pictures`, `[N, X, Y]`,
    of volumes the middle plane, `brain` and `lesion` bool, and `image`, `map` and `panel.<caption>` in half precision.
    """
    found, total = defaultdict(list), -(-len(source) // batch_size)
    for batch in progress(scoring_batches(source, batch_size), f"embedding {what}", total):
        seen = {name: batch[name] for name in ("image", "brain", "index", "valid")}
        out = jax.device_get(embed(variables, seen))
        arrays = {"index": batch["index"], "z": out["z"]}
        arrays |= {} if out["predicted"] is None else {"predicted": out["predicted"]}
        arrays |= {f"score.{name}": x for name, x in (out["scalars"] | trivial_scores(batch)).items()}
        for name, x in (arrays | (_pictures(batch, out) if pictures else {})).items():
            found[name].append(x[batch["valid"]])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def trivial_scores(batch: Arrays) -> Arrays:
    """Score what an image gives away without any learning, `{name: [B]}`.

    `trivial_brightness` is the 99.5th percentile in the brain, `trivial_mirror` the mean absolute difference from the
    mirror image where both are brain, `trivial_fluid` the dark share of the brain, which is fluid on T1 and FLAIR.
    """
    image, brain = batch["image"][..., 0], batch["brain"][..., 0] > 0
    axes = tuple(range(1, image.ndim))
    both = (brain & mirror_batch(brain)).sum(axes)
    return {
        "trivial_brightness": np.array([np.percentile(x[m], 99.5) for x, m in zip(image, brain, strict=True)]),
        "trivial_fluid": (brain & (image < FLUID)).sum(axes) / np.maximum(brain.sum(axes), 1),
        "trivial_mirror": mirror_difference(image, brain).sum(axes) / np.maximum(both, 1),
    }


def mirror_difference(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Absolute difference `[B, *S]` of images from their mirror images where both are brain, zero elsewhere."""
    return np.abs(image - mirror_batch(image)) * (brain & mirror_batch(brain))


def cost(system: System, variables: Variables, batch: Arrays, mesh: Mesh) -> dict[str, float | str]:
    """Measure what embedding a batch `{name: [B, ...]}` costs: passes, learned parameters, best seconds a sample."""
    embed = make_embed(system, mesh)

    def once() -> None:
        jax.block_until_ready(embed(variables, batch))

    once()
    return {
        "passes": system.passes,
        "parameters": sum(x.size for x in jax.tree.leaves(variables["params"])),
        "seconds_per_sample": min(repeat(once, number=1, repeat=REPEATS)) / len(batch["index"]),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    }


def _pictures(batch: Arrays, out: dict) -> Arrays:
    maps = {} if out["map"] is None else {"map": out["map"]}
    shown = {"image": batch["image"], **maps, **{f"panel.{caption}": x for caption, x in out["panels"].items()}}
    masks = {"lesion": batch["lesion"], "brain": batch["brain"][..., 0] > 0}
    both = masks | {name: x[..., 0].astype(np.float16) for name, x in shown.items()}
    return {name: np.stack([plane(sample) for sample in x]) for name, x in both.items()}

"""Run a trained system over the samples of a split, whose arrays are one npz file, and measure what that costs."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from timeit import repeat

import jax
import numpy as np
import pandas as pd
from jax.sharding import Mesh
from ml_collections import ConfigDict

from symnorm_jax.channels import MAP
from symnorm_jax.data.pipeline import scoring_batches
from symnorm_jax.data.store import SampleSource
from symnorm_jax.geometry import mirror_batch, plane
from symnorm_jax.progress import progress
from symnorm_jax.standardise import SIGNS, scans_of, standardised
from symnorm_jax.systems.contract import Batch, Embedding, System, Variables
from symnorm_jax.training.flops import count
from symnorm_jax.training.passes import SEEN, Healthy, map_of, maps_of, raw_maps, scan_of
from symnorm_jax.training.sharding import answering, evenly

Arrays = dict[str, np.ndarray]
# Between fluid, about 0.15, and grey matter, about 0.6, where white matter on T1 is about 0.9; by data.normalise. In 40
# brains of IXI the two mark 17.9 % and 18.1 % of the voxels, with a Dice of 0.95.
FLUID = {"percentiles": 0.35, "robust": -0.3}
TRIVIAL_INTENSITY = "trivial_intensity"  # the map of robust deviations of intensity, as it is
HIGHEST, TOP = "highest", 20  # the score of a map, and the pixels whose mean it is
REPEATS = 5  # of which the quickest counts: whatever else the machine does only ever adds time


class Embedder:
    """A trained system over the devices of a mesh, for splits of a manifest; of one with maps also its `healthy`."""

    def __init__(self, system: System, config: ConfigDict, variables: Variables, healthy: Healthy | None, mesh: Mesh):
        self.config, self.healthy, self.mapped = config, healthy, system.residual is not None
        self.size = evenly(config.score.batch_size, mesh)
        ask = lambda of: partial(answering(lambda *given: of(*given)._asdict(), mesh), variables)  # noqa: E731
        self.embed, self.residual = ask(system.embed), ask(system.residual)

    def split(
        self, rows: pd.DataFrame, what: str, pictures: bool = True, differences: np.ndarray | None = None
    ) -> Arrays:
        """Collect what the system says of `rows`, whole scans of a manifest, with the trivial scores, in their order.

        Keys: `index` `[N]`, `z` `[N, D]`, `score.<name>` and with a target `predicted` `[N]`; with `pictures`, `[N, X,
        Y]`, of volumes the middle plane or, with a map, `[N, X, Y, Z]`, `brain` and `lesion` bool, and in half
        precision `image` and, with maps, `map` and of slices `raw_map`, `trivial_*` and `panel.<caption>`. With
        `differences` `[N, X, Y]`, the standardised maps, no maps are made, nor the scores that come with them.
        """
        both = self.whole(rows, what, differences)
        kept = both if pictures else {name: x for name, x in both.items() if x.ndim < 3}
        return {name: x for name, x in kept.items() if name != "raw"}

    def whole(
        self, rows: pd.DataFrame, what: str, differences: np.ndarray | None = None, held: np.ndarray | None = None
    ) -> Arrays:
        """Collect what `split` says and, of slices with maps, `raw` `[N, X, Y, C]`, what the networks make of them.

        Samples that are in hand, `held` `[N, *S, C + 2]`, need not be in the store. No bar is shown where `what` is "".
        """
        made, ask = {}, partial(self._collect, rows, held)
        if self.mapped and differences is None:
            made = ask(what and f"maps of {what}", self.residual, _found)
            differences, of_scans = maps_of_scans(rows, made, self.healthy, self.config)
            made |= of_scans
        return ask(what and f"embedding {what}", self.embed, self._embedded, differences) | made

    def _collect(self, rows: pd.DataFrame, held, what: str, ask: Callable, take: Callable, differences=None) -> Arrays:
        """Go through the samples of `rows` in batches: what `take` makes of each batch and its answer."""
        source = SampleSource(self.config.data.store, rows, differences=differences, held=held)
        found, seen = defaultdict(list), [*SEEN, *(["difference"] if differences is not None else [])]
        for batch in progress(scoring_batches(source, self.size), what, -(-len(source) // self.size)):
            out = jax.device_get(ask({name: batch[name] for name in seen}))
            for name, x in take(batch, out).items():
                found[name].append(x[batch["valid"]])
        return {name: np.concatenate(parts) for name, parts in found.items()}

    def _embedded(self, batch: Arrays, out: dict) -> Arrays:
        arrays = {"index": batch["index"], "z": out["z"]}
        arrays |= {} if out["predicted"] is None else {"predicted": out["predicted"]}
        whole = {} if out["map"] is None else {MAP: out["map"].astype(np.float16)}
        scores = out["scalars"] | trivial_scores(batch, self.config.data.normalise)
        pictures = {} if self.mapped else _pictures(batch, (lambda x: x) if whole else plane)
        return arrays | {f"score.{name}": x for name, x in scores.items()} | pictures | whole


def _found(batch: Arrays, out: dict) -> Arrays:
    scores = {f"score.{name}": x for name, x in out["scalars"].items()}
    panels = {f"panel.{caption}": x[..., 0].astype(np.float16) for caption, x in out["panels"].items()}
    return scores | panels | {"raw": out["map"]} | _pictures(batch)


def maps_of_scans(rows: pd.DataFrame, made: Arrays, healthy: Healthy, config: ConfigDict) -> tuple[np.ndarray, Arrays]:
    """Make the maps of whole scans, `[N, X, Y]`: what is embedded, and maps and scores that are kept."""
    known = maps_of(config)
    plain = {name: how for name, how in known.items() if name.startswith("trivial_") and name in healthy.maps}
    kind = next(iter(known.values())).kind
    names = [MAP, *plain, TRIVIAL_INTENSITY]
    found = {name: np.empty(made["brain"].shape, np.float16) for name in names}
    differences, scores = np.empty_like(found[MAP]), {name: np.empty(len(rows), np.float32) for name in names}
    for place in scans_of(rows):
        brain = made["brain"][place]
        scan, raw = scan_of(rows.iloc[place], brain), raw_maps(made["raw"][place], made["image"][place], brain, config)
        z = {name: standardised(raw[name], scan, healthy.maps[name], how) for name, how in plain.items()}
        z = {name: SIGNS[kind](x) for name, x in (z | {TRIVIAL_INTENSITY: raw["trivial_asymmetry"]}).items()}
        z[MAP] = differences[place] = map_of(raw, scan, healthy, config)
        for name, x in z.items():
            found[name][place], scores[name][place] = np.abs(x), highest(np.abs(x), brain)
    kept = found | {"raw_map": np.abs(made["raw"]).max(-1).astype(np.float16)}
    return differences, kept | {f"score.{HIGHEST if name == MAP else name}": x for name, x in scores.items()}


def highest(values: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Average the TOP highest values in the brain of each slice `[N, X, Y]`, `[N]`; of a smaller brain all."""
    best = -np.sort(-np.where(brain, values, -np.inf).reshape(len(values), -1))[:, :TOP]
    there = np.isfinite(best)
    return np.where(there, best, 0).sum(1) / np.maximum(there.sum(1), 1)


def trivial_scores(batch: Arrays, normalise: str) -> Arrays:
    """Score what an image gives away without any learning, `{name: [B]}`.

    `trivial_brightness` is the 99.5th percentile in the brain, `trivial_mirror` the mean absolute difference from the
    mirror image where both are brain, `trivial_fluid` the dark share of the brain, which is fluid on T1 and FLAIR.
    """
    image, brain = batch["image"][..., 0], batch["brain"][..., 0] > 0
    axes = tuple(range(1, image.ndim))
    both = (brain & mirror_batch(brain)).sum(axes)
    return {
        "trivial_brightness": np.array([np.percentile(x[m], 99.5) for x, m in zip(image, brain, strict=True)]),
        "trivial_fluid": (brain & (image < FLUID[normalise])).sum(axes) / np.maximum(brain.sum(axes), 1),
        "trivial_mirror": mirror_difference(image, brain).sum(axes) / np.maximum(both, 1),
    }


def mirror_difference(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Absolute difference `[B, *S]` of images from their mirror images where both are brain, zero elsewhere."""
    return np.abs(image - mirror_batch(image)) * (brain & mirror_batch(brain))


def cost(system: System, variables: Variables, batch: Arrays, mesh: Mesh) -> dict[str, float | str]:
    """Measure what embedding a batch `{name: [B, ...]}` costs: passes, parameters, operations, best seconds a sample.

    Standardisation, which takes the host one or two milliseconds a slice of 64 x 64, is left out.
    """

    def whole(variables: Variables, batch: Batch) -> Embedding:
        made = {} if system.residual is None else {"difference": system.residual(variables, batch).map[..., :1]}
        return system.embed(variables, batch | made)

    embed = answering(whole, mesh)

    def once() -> None:
        jax.block_until_ready(embed(variables, batch))

    once()
    samples = len(batch["index"])
    return {
        "passes": system.passes,
        "parameters": sum(x.size for x in jax.tree.leaves(variables["params"])),
        "flops_per_sample": count(jax.make_jaxpr(whole)(variables, batch).jaxpr) / samples,
        "seconds_per_sample": min(repeat(once, number=1, repeat=REPEATS)) / samples,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    }


def _pictures(batch: Arrays, shown: Callable = plane) -> Arrays:
    masks = {"lesion": batch["lesion"], "brain": batch["brain"][..., 0] > 0}
    both = masks | {"image": batch["image"][..., 0].astype(np.float16)}
    return {name: np.stack([shown(sample) for sample in x]) for name, x in both.items()}

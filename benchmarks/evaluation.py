"""How long the evaluation of a run takes and how much memory, on a made-up run, as a Markdown table.

python benchmarks/evaluation.py --slices=10000 --replicates=2000
"""

import cProfile
import os
import platform
import pstats
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from absl import app, flags
from ml_collections import ConfigDict
from scipy import ndimage

from configs.base import base, finish
from symnorm_jax.data.manifest import NUMBERS, TEXTS
from symnorm_jax.errors import reported
from symnorm_jax.evaluation.evaluate import evaluate
from symnorm_jax.evaluation.pixels import OWN, WITHOUT
from symnorm_jax.files import save_arrays
from symnorm_jax.run import Run
from symnorm_jax.scoring.embed import trivial_scores

_SLICES = flags.DEFINE_integer("slices", 10_000, "Slices of the test split; validation has a third.", lower_bound=330)
_REPLICATES = flags.DEFINE_integer("replicates", 2000, "Replicates of the bootstrap over patients.", lower_bound=1)

DEPTH, SIZE = 33, 64  # slices of a scan; pixels a side
PARTS = {  # functions whose seconds are shown; those of a line with a dash are in the last line without one before it
    "read_scores": "scores read and checked",
    "of_cases": "slices and patients",
    "of_groups": "groups",
    "of_maps": "maps",
    "load_arrays": "- arrays read",
    "stacks": "- stacked to scans",
    "processed": "- post-processed",
    "of_pixels": "- pixels",
    "of_lesions": "- lesions",
}


def head(rng: np.random.Generator, ill: bool) -> dict[str, np.ndarray]:
    """A scan's `image`, `map`, `brain` and `lesion` `[DEPTH, SIZE, SIZE]`: noise in an ellipsoid, some lesions."""
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in (DEPTH, SIZE, SIZE)), indexing="ij"))
    brain = (place[0] ** 2 * 0.8 + (place[1] / 0.72) ** 2 + (place[2] / 0.85) ** 2) < 1
    image, noise = (ndimage.gaussian_filter(rng.standard_normal(brain.shape), sigma) for sigma in (2.0, 1.0))
    image, lesion = (0.7 + 2 * image) * brain, np.zeros_like(brain)
    for centre in place[:, brain].T[rng.choice(brain.sum(), 3 * ill)]:
        lesion |= brain & (((place - centre[:, None, None, None]) ** 2).sum(0) < rng.uniform(0.05, 0.25) ** 2)
    found = {"image": image + 0.3 * lesion, "map": (noise + 0.15 * lesion) * brain}
    found |= {name: found["map"] for name in (*OWN, *WITHOUT)}
    return {name: x.astype(np.float16) for name, x in found.items()} | {"brain": brain, "lesion": lesion}


def split(rng: np.random.Generator, name: str, slices: int, start: int) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Rows of a manifest and embeddings of so many slices, numbered from `start`; every other person is ill."""
    count = -(-slices // DEPTH)
    scans = [head(rng, person % 2 == 0 and name != "train") for person in range(count)]
    arrays = {key: np.concatenate([scan[key] for scan in scans])[:slices] for key in scans[0]}
    person, number = np.divmod(np.arange(slices), DEPTH)
    area, lesion = (9.0 * arrays[key].sum((1, 2)) for key in ("brain", "lesion"))
    rows = pd.DataFrame({"index": start + np.arange(slices), "healthy_person": (person % 2 == 1) | (name == "train")})
    rows = rows.assign(**dict.fromkeys(TEXTS, "") | dict.fromkeys(NUMBERS, 0.0) | {"split": name, "slice": number})
    rows = rows.assign(patient=[f"{name}{x:04}" for x in person], position=number / DEPTH, brain_mm2=area)
    rows = rows.assign(
        lesion_mm2=lesion, label=np.select([lesion > 78, lesion > 0], ["abnormal", "neither"], "healthy")
    )
    seen = {key: arrays[key][..., None].astype(np.float32) for key in ("image", "brain")}
    scores = trivial_scores(seen, "percentiles") | {"mse": rng.random(slices) + 0.3 * (lesion > 78)}
    z = rng.standard_normal((slices, 16)).astype(np.float32)
    return rows, arrays | {"index": rows["index"].to_numpy(), "z": z} | {f"score.{k}": x for k, x in scores.items()}


def write_run(workdir: Path, slices: int, replicates: int) -> ConfigDict:
    """A run directory that has been embedded and scored; gives its config."""
    rng, rows, start = np.random.default_rng(0), [], 0
    (workdir / "embeddings").mkdir()
    for name, size in (("train", 330), ("val", slices // 3), ("test", slices)):
        part, arrays = split(rng, name, size, start)
        save_arrays(workdir / "embeddings" / f"{name}.npz", arrays)
        rows.append(part)
        start += size
    pd.concat(rows).to_csv(workdir / "manifest.csv", index=False)
    config = finish(base(), "full")
    config.data.source, config.evaluation.replicates = "phantom", replicates
    run = Run(config, workdir)
    run.fit()
    run.score()
    return config


def seconds(profile: cProfile.Profile) -> dict[str, float]:
    """Seconds in each of PARTS, with all that it calls."""
    found = pstats.Stats(profile).stats
    return {part: sum(x[3] for (_, _, name), x in found.items() if name == part) for part in PARTS}


def main(_) -> None:
    with reported(), tempfile.TemporaryDirectory() as folder:
        with ProcessPoolExecutor(1, get_context("spawn")) as other:  # whose memory is not counted
            config = other.submit(write_run, Path(folder), _SLICES.value, _REPLICATES.value).result()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu, profile = time.perf_counter(), time.process_time(), cProfile.Profile(time.process_time)
        profile.runcall(evaluate, Path(folder), config)
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"jax {jax.__version__}, {platform.processor() or platform.machine()}, {os.cpu_count()} CPU cores; ", end="")
    print(f"{_SLICES.value} slices, {_REPLICATES.value} replicates\n\n| part | CPU seconds |\n|---|---|")
    rows = {PARTS[name]: spent for name, spent in seconds(profile).items()}
    for part, spent in (rows | {"**all**": cpu, "**all, on the clock**": wall}).items():
        print(f"| {part} | {spent:.1f} |")
    print(f"\nPeak memory {peak / 2**20:.2f} GiB, of which {before / 2**20:.2f} before the evaluation.")


if __name__ == "__main__":
    app.run(main)

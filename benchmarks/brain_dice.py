"""How well a brain extractor does on IXI heads, beside the outline of the head: Dice with the brain of DLMUSE.

python benchmarks/brain_dice.py --data=/data/ixi --heads=120 --extractor=deepbet
"""

import time

import numpy as np
from absl import app, flags, logging

from symnorm_jax.data.brain import EXTRACTORS, brain_mask, check
from symnorm_jax.data.sources import ixi
from symnorm_jax.data.volumes import Volume
from symnorm_jax.errors import ScanError, reported

_DATA = flags.DEFINE_string("data", None, "The folder with IXI-T1 and DLMUSE.", required=True)
_HEADS = flags.DEFINE_integer("heads", 120, "How many heads, the first by name.", lower_bound=1)
_EXTRACTOR = flags.DEFINE_enum("extractor", "deepbet", EXTRACTORS, "The extractor.")


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Overlap of two masks of one shape: 0 for none, 1 where they are equal."""
    return 2 * (a & b).sum() / max(a.sum() + b.sum(), 1)


def judge(volume: Volume, kind: str, extractor: str) -> tuple[float, float]:
    """Dice of the mask that `kind` gives, 0 where it gives none, and the seconds it took."""
    start = time.perf_counter()
    try:
        mask = brain_mask(volume, kind, extractor)
    except ScanError as error:
        logging.warning("no mask: %s", error)
        mask = np.zeros(volume.voxels.shape, bool)
    return dice(mask, volume.brain), time.perf_counter() - start


def row(name: str, results: list[tuple[float, float]]) -> str:
    found, seconds = np.transpose(results)
    cells = [f"{value:.3f}" for value in (found.mean(), np.median(found), found.min())]
    return f"| {' | '.join([name, str(len(found)), *cells, f'{np.median(seconds):.1f}'])} |"


def main(_) -> None:
    kinds = {f"extract, {_EXTRACTOR.value}": "extract", "head": "head"}
    results = {name: [] for name in kinds}
    with reported():
        check("extract", _EXTRACTOR.value)
        for scan in ixi.records(_DATA.value)[: _HEADS.value]:
            volume = scan.load()
            if volume.brain is None:
                raise ScanError(f"{scan.name}: no DLMUSE label map; the masks are compared with it.")
            for name, kind in kinds.items():
                results[name].append(judge(volume, kind, _EXTRACTOR.value))
    print("| brain | heads | mean Dice | median | min | median seconds a head |\n|---|---|---|---|---|---|")
    for name, found in results.items():
        print(row(name, found))


if __name__ == "__main__":
    app.run(main)

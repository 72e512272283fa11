"""How often sound scans are stopped before a verdict, and how often trouble is, as a Markdown table. No network runs.

python benchmarks/doubts.py --run=runs/ixi --scans=9 --others=brats:t1n=/data/brats,lgg:flair=/data/kaggle_3m

Of `--others`, scans of other releases, the first `--scans` are asked too, as they are and TURNED, with the brain masks
that `symnorm score` takes for itself. Shares have exact 95 % intervals; the last column counts what stopped.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict
from scipy import ndimage

from symnorm_jax.data.finding import as_configured, find_scans
from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.data.sources import SOURCES
from symnorm_jax.data.volumes import Scan, Volume
from symnorm_jax.errors import reported
from symnorm_jax.geometry import AXIAL, LEFT_RIGHT
from symnorm_jax.inference import distil, quality
from symnorm_jax.inference.reading import prepared
from symnorm_jax.inference.told import About
from symnorm_jax.rundir import read_config
from symnorm_jax.scoring.thresholds import proportion

BACK_FRONT = 1  # the axis between them

_RUN = flags.DEFINE_string("run", None, "A finished run whose scans are there.", required=True)
_SCANS = flags.DEFINE_integer("scans", 9, "Test scans, evenly chosen, that each trouble is done to.", lower_bound=1)
_TROUBLES = flags.DEFINE_list("troubles", None, "Which troubles, by their names; all unless given.")
_OTHERS = flags.DEFINE_list("others", [], "SOURCE:CHANNEL=ROOT of other releases.")


def tilted(volume: Volume, degrees: float = 20) -> Volume:
    turn = partial(ndimage.rotate, angle=degrees, axes=(LEFT_RIGHT, AXIAL), reshape=False)
    return volume._replace(voxels=turn(volume.voxels, order=1), brain=turn(volume.brain.astype(np.int8), order=0) > 0)


def thick(volume: Volume, times: int = 3) -> Volume:
    of = lambda x: x[..., : x.shape[AXIAL] // times * times].reshape(*x.shape[:2], -1, times).mean(-1)  # noqa: E731
    affine = volume.affine * [1, 1, times, 1]
    return volume._replace(voxels=of(volume.voxels), brain=of(volume.brain) > 0.5, affine=affine, lesion=None)


def half(volume: Volume, axis: int) -> Volume:
    """Take the lower, or the left, half of the brain out of its mask."""
    middle = int(np.argwhere(volume.brain)[:, axis].mean())
    place = np.indices(volume.brain.shape, sparse=True)[axis]
    return volume._replace(brain=volume.brain & (place >= middle))


def noisy(volume: Volume) -> Volume:
    noise = np.random.default_rng(0).normal(0, 0.3 * np.percentile(volume.voxels[volume.brain], 95), volume.brain.shape)
    return volume._replace(voxels=volume.voxels + noise.astype(np.float32))


def reordered(volume: Volume, order: Callable[[np.ndarray], np.ndarray]) -> Volume:
    """Lay the voxels another way, of which the header says nothing."""
    brain = None if volume.brain is None else order(volume.brain).copy()
    return volume._replace(voxels=order(volume.voxels).copy(), brain=brain)


def flipped(volume: Volume, *axes: int) -> Volume:
    return reordered(volume, partial(np.flip, axis=axes))


def quarter(volume: Volume, *axes: int) -> Volume:
    return reordered(volume, partial(np.rot90, axes=axes))


TROUBLE: dict[str, Callable[[Volume], Volume]] = {
    "tilted by 20 degrees": tilted,
    "upper half of the brain": partial(half, axis=AXIAL),
    "right half of the brain": partial(half, axis=LEFT_RIGHT),
    "slices three times as thick": thick,
    "noise, 30 % of the brightest": noisy,
    "inverted, as another contrast": lambda volume: volume._replace(voxels=volume.voxels.max() - volume.voxels),
    "upside down": lambda volume: flipped(volume, AXIAL),
    "back to front": lambda volume: flipped(volume, BACK_FRONT),
    "upside down and back to front": lambda volume: flipped(volume, AXIAL, BACK_FRONT),
    "a quarter turn about the line from ear to ear": lambda volume: quarter(volume, BACK_FRONT, AXIAL),
    "a quarter turn about the line from back to front": lambda volume: quarter(volume, LEFT_RIGHT, AXIAL),
    "a quarter turn about the upright line": lambda volume: quarter(volume, LEFT_RIGHT, BACK_FRONT),
    "left and right exchanged": lambda volume: flipped(volume, LEFT_RIGHT),
    "whole head as the brain": lambda volume: volume,
}
TURNED = ("upside down", "back to front")


def loaded(scan: Scan, trouble: Callable[[Volume], Volume], reading) -> Volume:
    return trouble(scan.load(reading=reading)._replace(lesion=None))


def main(_) -> None:
    logging.set_verbosity(logging.WARNING)  # Orbax tells a long story
    with reported():
        run = Path(_RUN.value)
        config, model, rows = read_config(run), distil.read(run), read_manifest(run / "manifest.csv")
        test = set(rows.patient[rows.split == "test"])
        scans = [scan for scan in find_scans(config.data) if scan.patient in test]
        some = scans[:: max(1, len(scans) // _SCANS.value)][: _SCANS.value]
        asked = partial(reasons, config=config, reference=model.reference)
        own = partial(asked, kind=config.data.brain)
        print("| scans | stopped | of | 95 % | by |\n|---|---|---|---|---|")
        for word, well in (("healthy", True), ("ill", False)):
            report(f"as they are, {word}", map(own, (scan for scan in scans if scan.healthy == well)))
        for name in TROUBLE if _TROUBLES.value is None else _TROUBLES.value:
            kind = "head" if name.startswith("whole head") else config.data.brain
            report(name, map(partial(asked, kind=kind), troubled(some, name)))
        for other in _OTHERS.value:
            source, channel, root = re.fullmatch("(.+?):(.+?)=(.+)", other).groups()
            listed = as_configured(SOURCES[source](root, channel=channel), config.data)[: _SCANS.value]
            report(f"{source}, {channel}", map(partial(asked, kind="auto"), listed))
            for name in TURNED:
                report(f"{source}, {channel}, {name}", map(partial(asked, kind="auto"), troubled(listed, name)))


def troubled(scans: list[Scan], name: str) -> Iterator[Scan]:
    return (scan._replace(load=partial(loaded, scan, TROUBLE[name])) for scan in scans)


def reasons(scan: Scan, kind: str, config: ConfigDict, reference: dict) -> set[str]:
    """Name the kinds of doubt that stop a scan."""
    made = prepared(scan, config.data, kind)
    if isinstance(made, str):
        return {"not usable"}
    one, about = (made.rows, made.arrays, made.about, config), About(scan.location, scan.groups, made.brain_from)
    return set(quality.asked(quality.measured(*one), about, config, reference)[1])


def report(name: str, found: Iterable[set[str]]) -> None:
    found = list(found)
    share, by = proportion(np.array([bool(one) for one in found])), Counter(kind for one in found for kind in one)
    interval = "" if share["low"] is None else f"{share['low']:.0%} to {share['high']:.0%}"
    told = ", ".join(f"{kind} {count}" for kind, count in by.most_common())
    print(f"| {name} | {share['called']} | {share['of']} | {interval} | {told} |", flush=True)


if __name__ == "__main__":
    app.run(main)

"""How often sound scans are stopped before a verdict, and how often trouble is, as a Markdown table. No network runs.

python benchmarks/doubts.py --run=runs/ixi --scans=9
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from absl import app, flags, logging
from scipy import ndimage

from symnorm_jax.data.finding import find_scans
from symnorm_jax.data.manifest import read_manifest
from symnorm_jax.data.volumes import Scan, Volume
from symnorm_jax.errors import reported
from symnorm_jax.geometry import AXIAL, LEFT_RIGHT
from symnorm_jax.inference import distil, quality
from symnorm_jax.inference.reading import prepared
from symnorm_jax.rundir import read_config

_RUN = flags.DEFINE_string("run", None, "A finished run whose scans are there.", required=True)
_SCANS = flags.DEFINE_integer("scans", 9, "Test scans, evenly chosen, that each trouble is done to.", lower_bound=1)


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


TROUBLE: dict[str, Callable[[Volume], Volume]] = {
    "tilted by 20 degrees": tilted,
    "upper half of the brain": partial(half, axis=AXIAL),
    "right half of the brain": partial(half, axis=LEFT_RIGHT),
    "slices three times as thick": thick,
    "noise, 30 % of the brightest": noisy,
    "inverted, as another contrast": lambda volume: volume._replace(voxels=volume.voxels.max() - volume.voxels),
    "upside down": lambda v: v._replace(voxels=v.voxels[..., ::-1].copy(), brain=v.brain[..., ::-1].copy()),
    "whole head as the brain": lambda volume: volume,
}


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
        work = [
            (f"as they are, {word}", [x for x in scans if x.healthy == well], lambda volume: volume)
            for word, well in (("healthy", True), ("ill", False))
        ]
        print("| scans | stopped | of |\n|---|---|---|")
        for name, those, trouble in [*work, *((name, some, of) for name, of in TROUBLE.items())]:
            kind = "head" if name.startswith("whole head") else config.data.brain
            made = (prepared(x._replace(load=partial(loaded, x, trouble)), config.data, kind) for x in those)
            stopped = [isinstance(x, str) or bool(quality.asked(x, config, model.reference)[1]) for x in made]
            print(f"| {name} | {sum(stopped)} | {len(those)} |", flush=True)


if __name__ == "__main__":
    app.run(main)

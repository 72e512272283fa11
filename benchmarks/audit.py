"""How often the leakage audit misses a copy of a head, and how often it takes another person for one.

python benchmarks/audit.py --data=/data/ixi --others=/data/kaggle_3m --heads=120 --copies=120

Heads are changed as a re-exported copy is, before they are prepared. Beside it stands what the audit did before:
thumbnails of 24 x 24 pixels of all slices, mirrored too, one pair of which correlates above 0.998.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from absl import app, flags
from ml_collections import ConfigDict
from scipy import ndimage
from scipy.spatial.transform import Rotation
from scipy.stats import binomtest

from configs import ixi as ixi_config
from configs import lgg as lgg_config
from symnorm_jax.data.audit import fingerprints, likeliest
from symnorm_jax.data.fingerprint import fingerprint
from symnorm_jax.data.prepare import read_scan, store_scans
from symnorm_jax.data.sources import ixi, lgg
from symnorm_jax.data.volumes import Scan, Volume
from symnorm_jax.errors import reported

_DATA = flags.DEFINE_string("data", None, "The folder with IXI-T1 and DLMUSE.", required=True)
_OTHERS = flags.DEFINE_string("others", None, "The folder of TCGA-LGG, in which too nobody is to be taken for another.")
_HEADS = flags.DEFINE_integer("heads", 120, "How many IXI heads, the first by name.", lower_bound=2)
_COPIES = flags.DEFINE_integer("copies", 120, "Of how many of them copies are made.", lower_bound=1)
_CHANGES = flags.DEFINE_list("changes", None, "Which changes; all without it.")
_STORE = flags.DEFINE_string("store", "runs/store", "Where prepared heads are kept.")
_WORKERS = flags.DEFINE_integer("workers", 0, "Processes that prepare heads; 0 for one a core.", lower_bound=0)

SEED, THUMBNAIL, BEFORE = 0, 24, 0.998


def placed(volume: Volume, axis: str = "z", degrees: float = 0.0, scale: float = 1.0) -> Volume:
    """The head turned about an axis of its array, made larger by `scale`, or both."""
    linear = Rotation.from_euler(axis, degrees, degrees=True).as_matrix().T / scale
    middle = (np.array(volume.voxels.shape) - 1) / 2
    move = partial(ndimage.affine_transform, matrix=linear, offset=middle - linear @ middle)
    return volume._replace(voxels=move(volume.voxels, order=1), brain=move(volume.brain, order=0))


def gamma(volume: Volume, power: float) -> Volume:
    voxels = np.maximum(volume.voxels, 0)
    return volume._replace(voxels=voxels.max() * (voxels / voxels.max()) ** power)


def noisy(volume: Volume, rng: np.random.Generator, share: float = 0.05) -> Volume:
    """Noise of this share of the brain's brightness, as magnitudes have it."""
    sd = share * np.percentile(volume.voxels[volume.brain], 98)
    real, imaginary = rng.normal(0, sd, (2, *volume.voxels.shape)).astype(np.float32)
    return volume._replace(voxels=np.hypot(volume.voxels + real, imaginary))


def biased(volume: Volume, rng: np.random.Generator, depth: float = 0.3) -> Volume:
    """A smooth field from `1 - depth` to `1 + depth`, as a coil or its correction leaves."""
    field = ndimage.zoom(rng.normal(size=(3, 3, 3)), np.array(volume.voxels.shape) / 3, order=3)
    field = 1 + depth * (2 * (field - field.min()) / np.ptp(field) - 1)
    return volume._replace(voxels=(volume.voxels * field).astype(np.float32))


def rolled(volume: Volume, voxels: int) -> Volume:
    roll = partial(np.roll, shift=(voxels,) * 3, axis=(0, 1, 2))
    return volume._replace(voxels=roll(volume.voxels), brain=roll(volume.brain))


def mirrored(volume: Volume) -> Volume:
    return volume._replace(voxels=volume.voxels[::-1].copy(), brain=volume.brain[::-1].copy())


def cropped(volume: Volume, share: float = 0.12) -> Volume:
    """The head without the lowest and the foremost part of its brain."""
    brain = np.argwhere(volume.brain)
    low, high = brain.min(0), brain.max(0) + 1
    cut = (
        slice(None),
        slice(0, int(high[1] - share * (high - low)[1])),
        slice(int(low[2] + share * (high - low)[2]), None),
    )
    return volume._replace(voxels=volume.voxels[cut].copy(), brain=volume.brain[cut].copy())


def together(volume: Volume, rng: np.random.Generator) -> Volume:
    return gamma(noisy(biased(placed(mirrored(volume), "z", 3, 0.97), rng), rng, 0.03), 0.8)


CHANGES = {
    "none": lambda volume, rng: volume,
    "gamma 0.7": lambda volume, rng: gamma(volume, 0.7),
    "gamma 1.4": lambda volume, rng: gamma(volume, 1.4),
    "bias field": biased,
    "roll by 1 voxel": lambda volume, rng: rolled(volume, 1),
    "roll by 3 voxels": lambda volume, rng: rolled(volume, 3),
    "turn by 2 degrees": lambda volume, rng: placed(volume, "z", 2),
    "turn by 5 degrees": lambda volume, rng: placed(volume, "z", 5),
    "pitch by 5 degrees": lambda volume, rng: placed(volume, "x", 5),
    "scale 0.95": lambda volume, rng: placed(volume, scale=0.95),
    "scale 1.05": lambda volume, rng: placed(volume, scale=1.05),
    "mirror": lambda volume, rng: mirrored(volume),
    "noise": noisy,
    "weak noise": lambda volume, rng: noisy(volume, rng, 0.02),
    "crop": lambda volume, rng: cropped(volume),
    "together": together,
}
OF_VOLUMES = ("pitch by 5 degrees",)  # changes that no slice can have


def changed(load: Callable[[], Volume], change: str, seed: tuple[int, ...]) -> Volume:
    volume = load()
    return CHANGES[change](volume, np.random.default_rng(seed))


def copies(scans: list[Scan], change: str) -> list[Scan]:
    """The same heads, which are changed before anything is made of them."""
    about = [(partial(changed, scan.load, change, (SEED, i)), scan) for i, scan in enumerate(scans)]
    recipe = f"{change}, seed {SEED}"
    return [one._replace(load=load, recipe=f"{one.recipe}, {recipe}", session=change) for load, one in about]


class Heads(NamedTuple):
    """Prepared people, and what is compared of them; `who` is the number of the person."""

    rows: pd.DataFrame
    scans: np.ndarray  # [N, *GRID] fingerprints
    slices: np.ndarray  # [M, *GRID]
    thumbnails: np.ndarray  # [M, THUMBNAIL ** 2]
    who: np.ndarray  # [N]
    whose: np.ndarray  # [M]
    seconds: float  # of CPU that the fingerprints took


def heads(scans: list[Scan], config: ConfigDict) -> Heads:
    config.store, config.workers = _STORE.value, _WORKERS.value
    rows = store_scans(scans, config)
    rows = rows[rows.split != "excluded"].reset_index(drop=True)
    read, began = partial(read_scan, Path(config.store)), time.process_time()
    (first, whole), (_, slices) = fingerprints(rows, read)
    seconds = time.process_time() - began
    small = [thumbnail(image) for _, part in rows.groupby("store", sort=False) for image in read(part)[0]]
    whose = rows.patient.to_numpy()
    return Heads(rows, np.stack(whole), np.stack(slices), np.stack(small), whose[first], whose, seconds)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """An image `[X, Y]` as the audit saw it before, a unit vector free of brightness and contrast."""
    edges = [np.linspace(0, side, THUMBNAIL + 1).astype(int) for side in image.shape]
    sums = np.add.reduceat(np.add.reduceat(image.astype(np.float32), edges[0][:-1], 0), edges[1][:-1], 1)
    small = (sums / np.outer(*(np.maximum(np.diff(one), 1) for one in edges))).ravel()
    small -= small.mean()
    return small / max(float(np.linalg.norm(small)), 1e-12)


def seen_before(mine: np.ndarray, theirs: np.ndarray) -> float:
    """The largest correlation of thumbnails `[N, F]`, or of mirrored ones, with others `[M, F]`."""
    mirrored = mine.reshape(-1, THUMBNAIL, THUMBNAIL)[:, ::-1].reshape(mine.shape)
    return float(max((view @ theirs.T).max() for view in (mine, mirrored)))


def seen(prints: np.ndarray, owners: np.ndarray, mine: np.ndarray, person: str) -> tuple[float, float]:
    """The largest likeness of `mine` `[N, *GRID]` with what the audit aligns of the person's, and of others'."""
    both, count, found = np.concatenate([prints, mine]), len(prints), []
    for there in (np.flatnonzero(owners == person), np.flatnonzero(owners != person)):
        pairs = likeliest(both, np.arange(count, len(both)), there, 1.0)
        found.append(max((like for _, _, like in pairs), default=-1.0))
    return found[0], found[1]


def judge(made: Heads, known: Heads) -> pd.DataFrame:
    """What is seen of each copied scan: itself, and the most like of other people, before and now."""
    rows = []
    for person in made.who:
        mine, own = made.thumbnails[made.whose == person], known.whose == person
        before = seen_before(mine, known.thumbnails[own]), seen_before(mine, known.thumbnails[~own])
        rows.append((*before, *seen(known.scans, known.who, made.scans[made.who == person], person)))
    return pd.DataFrame(rows, columns=["before", "before, others", "now", "now, others"])


def judge_slices(known: Heads, change: Callable, people: int) -> pd.DataFrame:
    """The same of one prepared slice a person, changed as a picture."""
    rows, read = [], partial(read_scan, Path(_STORE.value))
    for number, person in enumerate(known.who[:people]):
        rng = np.random.default_rng((SEED, number))
        row = known.rows[known.rows.patient == person].sample(1, random_state=number)
        image, brain = (np.moveaxis(one, 0, -1) for one in read(row))
        copy = change(Volume(image, np.eye(4), brain=brain), rng)
        image = np.clip(copy.voxels, 0, 1.5)[..., 0] * copy.brain[..., 0]
        mine, own = thumbnail(image)[None], known.whose == person
        before = seen_before(mine, known.thumbnails[own]), seen_before(mine, known.thumbnails[~own])
        rows.append((*before, *seen(known.slices, known.whose, fingerprint(image, copy.brain[..., 0])[None], person)))
    return pd.DataFrame(rows, columns=["before", "before, others", "now", "now, others"])


def share(count: int, of: int) -> str:
    """A share in percent with Wilson's interval."""
    low, high = binomtest(count, of).proportion_ci(method="wilson")
    return f"{100 * count / of:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def line(name: str, found: pd.DataFrame, limit: float) -> str:
    missed = [share(int((found[key] <= at).sum()), len(found)) for key, at in (("before", BEFORE), ("now", limit))]
    alarms = [
        share(int((found[f"{key}, others"] > at).sum()), len(found)) for key, at in (("before", BEFORE), ("now", limit))
    ]
    ends = [f"{found.now.min():.3f}", f"{found['now, others'].max():.3f}"]
    return f"| {' | '.join([name, str(len(found)), *missed, *alarms, *ends])} |"


def strangers(known: Heads, slices: bool) -> pd.DataFrame:
    """For each person the most like of the others."""
    rows = []
    prints, owners = (known.slices, known.whose) if slices else (known.scans, known.who)
    for person in known.who:
        own = known.whose == person
        before = seen_before(known.thumbnails[own], known.thumbnails[~own])
        rows.append((1.0, before, 1.0, seen(prints, owners, prints[owners == person], person)[1]))
    return pd.DataFrame(rows, columns=["before", "before, others", "now", "now, others"])


def main(_) -> None:
    with reported():
        config = ixi_config.get_config().data
        scans, limit = ixi.records(_DATA.value)[: _HEADS.value], config.duplicate
        known = heads(copies(scans, "none"), config)
        print(f"fingerprints of {len(known.scans)} scans of {len(known.slices)} slices: {known.seconds:.1f} s of CPU")
        columns = "|  | copies | missed before, % | missed now, % | false before, % | false now, % | least | others |"
        print(f"{columns}\n|{'---|' * 8}", flush=True)
        for name in _CHANGES.value or CHANGES:
            made = heads(copies(scans, name)[: _COPIES.value], config)
            print(line(f"scan, {name}", judge(made, known), limit), flush=True)
        for name in _CHANGES.value or CHANGES:
            if name not in OF_VOLUMES:
                found = judge_slices(known, CHANGES[name], _COPIES.value)
                print(line(f"slice, {name}", found, (1 + limit) / 2), flush=True)
        for name, people in ({"IXI": known} | ({"LGG": glioma()} if _OTHERS.value else {})).items():
            began = time.process_time()
            print(line(f"{name}, other people's scans", strangers(people, False), limit))
            print(line(f"{name}, other people's slices", strangers(people, True), (1 + limit) / 2))
            print(f"{time.process_time() - began:.1f} s of CPU")


def glioma() -> Heads:
    return heads(lgg.records(_OTHERS.value), lgg_config.get_config().data)


if __name__ == "__main__":
    app.run(main)

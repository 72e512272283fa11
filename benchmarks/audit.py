"""How often the leakage audit misses a copy of a head, and how often it takes another person for one."""

from functools import partial

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from symnorm_jax.data.volumes import Volume

SEED = 0


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
    "crop": lambda volume, rng: cropped(volume),
    "together": together,
}


def changed(load, change: str, seed: tuple[int, ...]) -> Volume:
    volume = load()
    return CHANGES[change](volume, np.random.default_rng(seed))


def copies(scans, change):
    def one(i, scan):
        load = partial(changed, scan.load, change, (SEED, i))
        return scan._replace(load=load, recipe=f"{scan.recipe}, {change}, seed {SEED}", session=change)

    return [one(i, scan) for i, scan in enumerate(scans)]

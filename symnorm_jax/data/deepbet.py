"""The brain of a head by the networks of deepbet: one sees where the brain lies, the other draws it.

Fisch et al., "deepbet: Fast brain extraction of T1-weighted MRI using convolutional neural networks", Computers in
Biology and Medicine 179, 2024. The networks are those of its version 1.0.2, see `weights/make_deepbet.py`; how a head
is laid before them, and what is made of what they say, is as there.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from threadpoolctl import threadpool_info

from symnorm_jax.errors import ConfigError, ScanError, one_line

WEIGHTS = Path(__file__).parent / "weights"
COARSE, FINE = (128,) * 3, (256,) * 3  # voxels that the first and the second network see
DARKEST, BRIGHTEST = 0.005, 0.995  # quantiles of the head between which intensities are told apart
MEAN, SPREAD = 0.449, 0.226  # of the intensities that the networks were trained on
CROSSED = 0.02  # share of a plane that is brain, from which the box of the brain reaches it
MARGIN = 0.1  # of a side of that box, added at either end
ANY_NEIGHBOUR = np.ones((3, 3, 3))  # voxels that share a corner are one region


def find_brain(voxels: np.ndarray) -> np.ndarray:
    """Find the brain `[X, Y, Z]` bool of a head `[X, Y, Z]` float32, RAS+.

    Raises ScanError where the networks see none, ConfigError where they cannot be loaded.
    """
    coarse = _nearest(voxels, COARSE)
    low, high = np.quantile(coarse, (DARKEST, BRIGHTEST)).astype(np.float32)
    if low == high:
        raise ScanError(f"deepbet found no brain: nearly all of the scan has the value {low:g}.")
    box = _box(_largest(_seen("deepbet_box", coarse, low, high)), voxels.shape)
    seen = _seen("deepbet_brain", _nearest(voxels[box], FINE), low, high)
    brain = np.zeros(voxels.shape, bool)
    brain[box] = ndimage.binary_fill_holes(_largest(_nearest(seen, brain[box].shape)))
    return brain


def _nearest(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Stretch an array to a shape: every voxel takes the value at its centre."""
    ends = zip(array.shape, shape, strict=True)
    return array[np.ix_(*(((np.arange(to) + 0.5) * side / to).astype(int) for side, to in ends))]


def _seen(name: str, head: np.ndarray, low: np.float32, high: np.float32) -> np.ndarray:
    """Mark as bool what a network takes for brain, rather than not, in a head of its size."""
    x = np.clip((head - low) / (high - low), 0, 1)
    x = (x - x.mean()) / x.std(ddof=1) * SPREAD + MEAN
    [log_odds] = _network(name).run(None, {"head": x[None, None].astype(np.float32)})
    return log_odds[0, 0] > 0


def _largest(mask: np.ndarray) -> np.ndarray:
    regions, count = ndimage.label(mask, ANY_NEIGHBOUR)
    if not count:
        raise ScanError("deepbet found no brain: no voxel looks like one.")
    return regions == np.bincount(regions[mask]).argmax()


def _box(mask: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Lay a box around a coarse mask, on the grid of a scan of `shape`."""
    sides = []
    for axis, length in enumerate(shape):
        crossed = np.flatnonzero(mask.mean(tuple({0, 1, 2} - {axis})) > CROSSED)
        if not crossed.size:
            raise ScanError(f"deepbet found no brain: {mask.mean():.2%} of the scan look like one.")
        voxel = length / mask.shape[axis]
        middle = round(voxel * (crossed[0] + crossed[-1] + 1) / 2)
        width = round((1 + 2 * MARGIN) * voxel * (crossed[-1] + 1 - crossed[0]))
        first, last = max(0, int(middle - width / 2)), min(length, int(middle + width / 2))
        if first >= last:
            raise ScanError(f"deepbet found no brain: a side of {length} voxels is too short for it.")
        sides.append(slice(first, last))
    return tuple(sides)


@lru_cache(maxsize=2)
def _network(name: str) -> Any:
    """Load a network once in a process, for as many threads as BLAS has there; always on the CPU."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # from 1.29 on onnxruntime reports to its makers, unless told before
    try:
        import onnxruntime

        how = onnxruntime.SessionOptions()
        how.intra_op_num_threads = min((library["num_threads"] for library in threadpool_info()), default=1)
        how.add_session_config_entry("session.intra_op.allow_spinning", "0")  # who waits leaves the core to others
        how.enable_cpu_mem_arena = how.enable_mem_pattern = False  # memory is given back between heads
        how.log_severity_level = 3  # errors
        network = (WEIGHTS / f"{name}.onnx").read_bytes()
        return onnxruntime.InferenceSession(network, how, providers=["CPUExecutionProvider"])
    except Exception as error:  # of the file, or the runtime's own
        raise ConfigError(f"data.extractor='deepbet' cannot be loaded ({one_line(error)}); install it anew.") from None

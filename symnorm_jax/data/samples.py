"""One volume to samples for a network: normalised axial slices or, where a size has three sides, the volume itself."""

from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from symnorm_jax.data import frame, midline, template
from symnorm_jax.data.volumes import Volume
from symnorm_jax.errors import ScanError
from symnorm_jax.geometry import AXIAL, voxel_sizes

MIDLINE = ("centred", "straight", "template")
POOR_MIDLINE = ("exclude", "flag")
TRACE = 0.02  # share of a pixel that is lesion, from which the slice shows a trace of one
BRIGHTEST = 1.5  # intensities are cut here, where 1 is the volume's upper percentile in the brain


class Samples(NamedTuple):
    """The slices kept of one volume, from inferior to superior, or the volume as the only sample."""

    arrays: np.ndarray  # [N, *S, 3] float16: image, brain (0 or 1), lesion (0 or 1)
    rows: list[dict]  # N manifest entries
    left_out: int  # slices with too little brain
    frame: frame.Frame  # where they lie in the volume


def cut(volume: Volume, brain: np.ndarray, healthy: bool, config: ConfigDict) -> Samples:
    """The samples of a volume with the mask `brain` `[X, Y, Z]`, on the grid of `config` (the `data` section).

    Raises ScanError where the brain has no contrast, no slice shows enough of it, or it is too unlike its mirror image
    or the template, and where a stack of pictures is to be registered to the template.
    """
    inside, voxel = volume.voxels[brain], voxel_sizes(volume.affine)
    if inside.size == 0 or inside.min() == inside.max():
        raise ScanError(f"the brain mask covers {inside.size} voxels of one value; a brain with contrast is needed.")
    image = np.where(brain, normalise(volume.voxels, inside, config.percentiles), 0).astype(np.float32)
    shared, plane = _find_midline(image, brain, voxel, volume.stack, config)
    lesion = np.zeros_like(brain) if volume.lesion is None else volume.lesion
    box = template.BOX if config.midline == "template" else None
    grid = frame.lay(brain, voxel, plane, config, volume.stack, box)
    image, brain, lesion = (frame.resample(array, grid, voxel) for array in (image, brain, lesion))
    trace = (lesion > TRACE).any((0, 1))  # also of what is too small to survive the new grid, or lies off the brain
    brain, lesion = brain >= 0.5, (lesion >= 0.5) & (brain >= 0.5)
    arrays = np.stack([image * brain, brain, lesion], -1).astype(np.float16)
    rows = _describe(brain, lesion, config)
    _label(rows, trace, healthy, volume.lesion is not None, config)
    if len(config.size) == 3:
        return Samples(arrays[None], [_whole(rows, healthy, volume.lesion is not None, config) | shared], 0, grid)
    kept = [i for i, row in enumerate(rows) if row["brain_mm2"] >= config.min_brain]
    if not kept:
        raise ScanError(f"no slice shows {config.min_brain:g} mm2 of brain; lower data.min_brain or check the mask.")
    rows = [rows[i] | shared | {"position": rank} for i, rank in zip(kept, _ranks(len(kept)), strict=True)]
    return Samples(np.moveaxis(arrays, AXIAL, 0)[kept], rows, arrays.shape[AXIAL] - len(kept), grid)


def normalise(voxels: np.ndarray, inside: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Intensities scaled so that two percentiles of the brain, `inside` `[N]`, become 0 and 1; cut at BRIGHTEST."""
    low, high = np.percentile(inside, percentiles)
    return np.clip((voxels - low) / max(high - low, np.finfo(np.float32).tiny), 0, BRIGHTEST)


def _find_midline(image: np.ndarray, brain: np.ndarray, voxel: np.ndarray, stack: bool, config: ConfigDict):
    """What the manifest says of the mid-line, and the Midline. Raises ScanError where a poor one is to be excluded."""
    likeness = {}
    if config.midline == "template":
        plane, likeness["template"] = template.register(image, brain, voxel, stack)
    else:
        plane = midline.find(image, voxel, stack) if config.midline == "straight" else midline.centre(image, voxel)
    flag = _flag(likeness | {"mirror image": plane.similarity}, config)
    middle = plane.normal @ ((np.array(image.shape) - 1) / 2 * voxel)
    measured = {
        "roll": plane.roll,
        "yaw": plane.yaw,
        "tilt_error": plane.error,
        "off_centre_mm": plane.offset - middle,
        "mirror_similarity": plane.similarity,
    }
    return {name: round(float(value), 4) for name, value in measured.items()} | {"flag": flag}, plane


def _flag(likeness: dict[str, float], config: ConfigDict) -> str:
    """What the brain is too unlike, if anything. Raises ScanError where such a scan is to be excluded."""
    for name, value in likeness.items():
        if value < config.min_similarity:
            flag = f"brain and {name} correlate by {value:.3f}; {config.min_similarity:g} is asked for"
            if config.poor_midline == "exclude":
                raise ScanError(f"{flag}; lower data.min_similarity or choose data.poor_midline='flag'.")
            return flag
    return ""


def _describe(brain: np.ndarray, lesion: np.ndarray, config: ConfigDict) -> list[dict]:
    pixel = config.spacing**2
    areas = zip((brain.sum((0, 1)) * pixel).tolist(), (lesion.sum((0, 1)) * pixel).tolist(), strict=True)
    return [{"slice": i, "brain_mm2": brain_area, "lesion_mm2": area} for i, (brain_area, area) in enumerate(areas)]


def _label(rows: list[dict], trace: np.ndarray, healthy: bool, drawn: bool, config: ConfigDict) -> None:
    """Label each slice `abnormal`, `healthy`, or `neither`: with a `trace` `[N]` of lesion, or in the margin of one.

    Where nobody has drawn lesions a slice is what its person is.
    """
    traces = np.flatnonzero(trace)
    for i, row in enumerate(rows):
        if not drawn:
            row["label"] = "healthy" if healthy else "abnormal"
        elif row["lesion_mm2"] >= max(config.min_lesion, config.spacing**2):
            row["label"] = "abnormal"
        else:
            row["label"] = "neither" if (abs(traces - i) <= config.margin).any() else "healthy"


def _whole(rows: list[dict], healthy: bool, drawn: bool, config: ConfigDict) -> dict:
    """The manifest entry of a volume, from those of its slices: areas are means over the slices that show brain.

    Raises ScanError where no slice shows enough brain.
    """
    seen = [row for row in rows if row["brain_mm2"] > 0]
    if max(row["brain_mm2"] for row in rows) < config.min_brain:
        raise ScanError(f"no slice shows {config.min_brain:g} mm2 of brain; lower data.min_brain or check the mask.")
    areas = {key: float(np.mean([row[key] for row in seen])) for key in ("brain_mm2", "lesion_mm2")}
    labels = {row["label"] for row in rows} if drawn else {"healthy" if healthy else "abnormal"}
    label = next(one for one in ("abnormal", "neither", "healthy") if one in labels)
    return {"slice": 0, "position": 0.5, "label": label, **areas}


def _ranks(count: int) -> list[float]:
    """Relative height of each of `count` slices, 0 at the lowest with enough brain, 1 at the highest."""
    return np.linspace(0, 1, count).round(4).tolist()

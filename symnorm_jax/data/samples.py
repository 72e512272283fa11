"""One volume to samples for a network: normalised axial slices or, where a size has three sides, the volume itself."""

from collections.abc import Iterable
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
MOST = 0.5  # of a brain that a lesion can fill, of a lesion that can lie outside it, of a brain that can be 0
BRIGHTEST = 1.5  # intensities are cut here, where 1 is the volume's upper percentile in the brain
UNIT, FARTHEST = 5.0, 3.0  # absolute deviations that are 1, about as wide as the percentiles; cut here, either way


class Samples(NamedTuple):
    """The slices kept of one volume, from inferior to superior, or the volume as the only sample."""

    arrays: np.ndarray  # [N, *S, C + 2] float16: image of C contrasts, brain (0 or 1), lesion (0 or 1)
    rows: list[dict]  # N manifest entries
    left_out: int  # slices with too little brain
    frame: frame.Frame  # where they lie in the volume
    kept: list[int]  # the slices of the frame that these are


def cut(volume: Volume, brain: np.ndarray, healthy: bool, config: ConfigDict) -> Samples:
    """Cut a volume with the mask `brain` `[X, Y, Z]` into samples, on the grid of `config` (the `data` section).

    Raises ScanError where the brain has no contrast, no slice shows enough of it, it is too unlike its mirror image or
    the template, or a stack of pictures is to be registered to the template. The leading contrast has the mid-line.
    """
    voxel, how = voxel_sizes(volume.affine), config.normalise
    lead = _scaled(volume.voxels, brain, {how, "percentiles"}, config)
    # Mid-lines are sought where brain is brighter than what is around it.
    shared, plane = _find_midline(lead["percentiles"], brain, voxel, volume.stack, config)
    images = [lead[how], *(_scaled(one, brain, {how}, config, f"{name}: ")[how] for name, one in volume.others.items())]
    lesion = np.zeros_like(brain) if volume.lesion is None else volume.lesion
    box = template.BOX if config.midline == "template" else None
    drawn, grid = lesion.any(), frame.lay(brain, voxel, plane, config, volume.stack, box)
    *images, brain, lesion = (frame.resample(array, grid, voxel) for array in (*images, brain, lesion))
    trace = (lesion > TRACE).any((0, 1))  # also of what is too small to survive the new grid, or lies off the brain
    brain, lesion = brain >= 0.5, lesion >= 0.5
    doubts = _doubts(lesion, brain, drawn) + ([] if volume.lesion is None else _at_odds(lesion & brain, healthy))
    shared["flag"] = "; ".join(filter(None, (*volume.notes, *doubts, shared["flag"])))
    lesion &= brain
    arrays = np.stack([*(image * brain for image in images), brain, lesion], -1).astype(np.float16)
    shared["geometry"] = volume.geometry
    person = ("healthy" if healthy else "abnormal") if volume.lesion is None else None
    rows = _describe(brain, lesion, trace, person, config)
    kept = [i for i, row in enumerate(rows) if row["brain_mm2"] >= config.min_brain]
    if not kept:
        raise ScanError(f"no slice shows {config.min_brain:g} mm2 of brain; lower data.min_brain or check the mask.")
    if len(config.size) == 3:
        return Samples(arrays[None], [_whole(rows) | shared], 0, grid, kept)
    heights, step = np.linspace(0, 1, len(kept)).round(4).tolist(), np.linalg.norm(grid.to_voxel[:3, AXIAL] * voxel)
    places = [{"position": x, "height_mm": round(i * float(step), 3)} for i, x in zip(kept, heights, strict=True)]
    rows = [rows[i] | shared | place for i, place in zip(kept, places, strict=True)]
    return Samples(np.moveaxis(arrays, AXIAL, 0)[kept], rows, arrays.shape[AXIAL] - len(kept), grid, kept)


def shares_of(labels: np.ndarray, made: Samples, voxel: np.ndarray, tissues: int) -> np.ndarray:
    """Cut labels 1 to K `[X, Y, Z]` of voxels of `voxel` mm as their volume was, to shares `[N, X, Y, K]` float32.

    They sum to 1 where a pixel of the brain has any. Raises ScanError for higher labels, and where no voxel has one.
    """
    if not 0 < labels.max() <= tissues:
        found = f"the labels of tissue reach {labels.max()}"
        raise ScanError(f"{found}; 1 to {tissues}, the classes of the anatomy, are allowed.")
    return cut_shares([labels == 1 + k for k in range(tissues)], made, voxel)


def cut_shares(maps: Iterable[np.ndarray], made: Samples, voxel: np.ndarray) -> np.ndarray:
    """Cut the maps of K tissues, each `[X, Y, Z]` of voxels of `voxel` mm, as their volume was: `[N, X, Y, K]`."""
    each = [frame.resample(one, made.frame, voxel)[:, :, made.kept] for one in maps]
    shares = np.moveaxis(np.stack(each, -1), AXIAL, 0) * (made.arrays[..., -2:-1] > 0)
    return shares / np.maximum(shares.sum(-1, keepdims=True), np.finfo(np.float32).tiny)


def _scaled(voxels: np.ndarray, brain: np.ndarray, ways: set[str], config: ConfigDict, what: str = "") -> dict:
    """Scale one contrast in each of the `ways`, float32, 0 outside the brain. Raises ScanError, see `cut`."""
    inside = voxels[brain]
    if inside.size == 0 or inside.min() == inside.max():
        one_value = f"the brain mask covers {inside.size} voxels of one value; a brain with contrast is needed"
        raise ScanError(f"{what}{one_value}.")
    if (black := (inside == 0).mean()) > MOST:
        raise ScanError(f"{what}{black:.0%} of the brain mask is 0 in the image, as what lies around a brain is.")
    scaled = {way: NORMALISE[way](voxels, inside, config.percentiles) for way in ways}
    return {way: np.where(brain, values, 0).astype(np.float32) for way, values in scaled.items()}


def by_percentiles(voxels: np.ndarray, inside: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Scale intensities so that two percentiles of the brain, `inside` `[N]`, become 0 and 1; cut at BRIGHTEST."""
    low, high = np.percentile(inside, percentiles)
    return np.clip((voxels - low) / max(high - low, np.finfo(np.float32).tiny), 0, BRIGHTEST)


def robust(voxels: np.ndarray, inside: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Scale intensities so that the brain's median is 0 and UNIT median absolute deviations from it are 1.

    Raises ScanError where most of the brain has one value, as that of a map of labels.
    """
    middle = np.median(inside)
    spread = np.median(np.abs(inside - middle))
    if not spread:
        found = f"half of the brain or more has the value {middle:g}, which data.normalise='robust' cannot scale"
        raise ScanError(f"{found}; 'percentiles' can.")
    return np.clip((voxels - middle) / (UNIT * spread), -FARTHEST, FARTHEST)


NORMALISE = {"percentiles": by_percentiles, "robust": robust}


def _doubts(lesion: np.ndarray, brain: np.ndarray, drawn: bool) -> list[str]:
    """Say how much of the brain is lesion, and of the lesion no brain, where it is more than there can be."""
    shares = {"brain is lesion": (lesion & brain).sum() / brain.sum() if brain.any() else 0}
    shares["lesion lies outside the brain"] = (lesion & ~brain).sum() / lesion.sum() if lesion.any() else 0
    lost = ["the lesion is too small for the grid of slices"] if drawn and not lesion.any() else []
    return lost + [f"{share:.0%} of the {what}" for what, share in shares.items() if share > MOST]


def _at_odds(lesion: np.ndarray, healthy: bool) -> list[str]:
    """Say how a lesion mask contradicts what is known of the person: one of the two belongs to somebody else."""
    if healthy == lesion.any():
        return ["a healthy person has a lesion" if healthy else "an abnormal person has no lesion in the brain"]
    return []


def _find_midline(image: np.ndarray, brain: np.ndarray, voxel: np.ndarray, stack: bool, config: ConfigDict) -> tuple:
    """Find the Midline and what the manifest says of it. Raises ScanError where a poor one is to be excluded."""
    likeness, flag = {}, ""
    if config.midline == "template":
        plane, likeness["template"] = template.register(image, brain, voxel, stack)
    else:
        plane = midline.find(image, voxel, stack) if config.midline == "straight" else midline.centre(image, voxel)
    for name, value in (likeness | {"mirror image": plane.similarity}).items():
        if value < config.min_similarity and not flag:
            flag = f"brain and {name} correlate by {value:.3f}; {config.min_similarity:g} is asked for"
    if flag and config.poor_midline == "exclude":
        raise ScanError(f"{flag}; lower data.min_similarity or choose data.poor_midline='flag'.")
    off_centre = plane.offset - plane.normal @ ((np.array(image.shape) - 1) / 2 * voxel)
    found = {"roll": plane.roll, "yaw": plane.yaw, "tilt_error": plane.error, "off_centre_mm": off_centre}
    found |= {"mirror_similarity": plane.similarity}
    return {name: round(float(value), 4) for name, value in found.items()} | {"flag": flag}, plane


def _describe(brain: np.ndarray, lesion: np.ndarray, trace: np.ndarray, person: str | None, config) -> list[dict]:
    """Measure and label each slice: as its `person`, or `abnormal`, `healthy`, or `neither`, in or near a `trace`."""
    pixel, traces, rows = config.spacing**2, np.flatnonzero(trace), []
    areas = ((mask.sum((0, 1)) * pixel).tolist() for mask in (brain, lesion))
    for i, (brain_mm2, lesion_mm2) in enumerate(zip(*areas, strict=True)):
        near = (abs(traces - i) <= config.margin).any()
        shown = "abnormal" if lesion_mm2 >= max(config.min_lesion, pixel) else "neither" if near else "healthy"
        rows.append({"slice": i, "brain_mm2": brain_mm2, "lesion_mm2": lesion_mm2, "label": person or shown})
    return rows


def _whole(rows: list[dict]) -> dict:
    """Describe a volume by its slices: areas are means over those that show brain, the label is the worst of all."""
    seen, labels = [row for row in rows if row["brain_mm2"] > 0], {row["label"] for row in rows}
    areas = {key: float(np.mean([row[key] for row in seen])) for key in ("brain_mm2", "lesion_mm2")}
    label = next(one for one in ("abnormal", "neither", "healthy") if one in labels)
    return {"slice": 0, "position": 0.5, "height_mm": 0.0, "label": label, **areas}

"""What a page shows of a scan: its brain alone, small enough to be sent about, in three planes or as one picture."""

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from symnorm_jax.data.volumes import encoded, to_ras
from symnorm_jax.errors import ScanError
from symnorm_jax.geometry import AXIAL, picture, voxel_sizes
from symnorm_jax.standardise import SIGNS

LIMIT = 16 * 2**20  # letters of the volumes in a page, which with the viewer is then below 20 MB
STEPS = 2047  # of a map's values on either side of 0
WHITE = 99.5  # percentile of the brain that is shown as white
EDGE = 4  # black voxels about the brain, where letters tell its sides
COLOURS = ((1.0, 0.6, 0.1), (0.2, 0.5, 1.0))  # of a still picture, above and below 0
STILL = 160  # its pixels along the longer side
TINY = np.finfo(np.float32).tiny


class Brain(NamedTuple):
    """The box of a brain on an RAS+ grid, black outside the brain."""

    grey: np.ndarray  # [X, Y, Z] uint8
    map: np.ndarray | None  # [X, Y, Z] float32, with its sign; None of a system without a map
    affine: np.ndarray  # [4, 4] voxel index to mm

    @property
    def strongest(self) -> float:
        """The value of the map furthest from 0, without its sign."""
        return 0.0 if self.map is None else float(abs(self.map).max())


def brain_of(scan, mask, map, kind: str) -> Brain:
    """Cut the brain's box out of nibabel images, `map` perhaps None, and make bytes of the scan's intensities.

    What the map shows counts as 0 unless it has the sign in which a lesion is expected, a `kind` of SIGNS. Raises
    ScanError where their grids differ or the mask is empty.
    """
    for image in (scan, map):
        if image is not None and (image.shape != mask.shape or not np.allclose(image.affine, mask.affine, atol=1e-3)):
            raise ScanError(f"an image of {image.shape} does not lie on the grid of its brain mask, {mask.shape}.")
    within, affine = to_ras(np.asarray(mask.dataobj) > 0, mask.affine)
    if not within.any():
        raise ScanError("the brain mask is empty.")
    [tight] = ndimage.find_objects(within.view(np.int8))
    box = tuple(slice(max(side.start - EDGE, 0), side.stop + EDGE) for side in tight)
    corner = affine @ [*(side.start for side in box), 1]
    within, affine = within[box], np.column_stack([affine[:, :3], corner])
    grey, over = (image and _voxels(image)[box] * within for image in (scan, map))
    over = None if over is None else np.where(SIGNS[kind](over) != 0, over, 0)
    low, high = min(0.0, float(grey[within].min())), float(np.percentile(grey[within], WHITE))
    grey = np.clip((grey - low) / max(high - low, TINY), 0, 1) * 255 * within
    return Brain(grey.round().astype(np.uint8), over, affine)


def embedded(brain: Brain) -> tuple[dict[str, str | None], list[int]]:
    """Encode a brain as base64 of gzipped NIfTI, its finest axes coarsened until LIMIT holds; also gives the factors.

    The keys are `scan` and `over`, the map, in STEPS of its strongest value.
    """
    factors = np.ones(3, int)
    while True:
        made = _texts(coarser(brain, factors))
        if sum(len(text or "") for text in made.values()) <= LIMIT:
            return made, factors.tolist()
        factors[np.argmin(voxel_sizes(brain.affine) * factors)] += 1


def coarser(brain: Brain, factors: np.ndarray) -> Brain:
    """Join `factors` `[3]` voxels along each axis: of the scan their mean, of the map the value furthest from 0."""
    if (factors == 1).all():
        return brain
    counts = -(-np.array(brain.grey.shape) // factors)
    room = [(0, more) for more in counts * factors - brain.grey.shape]
    blocks = lambda x: np.pad(x, room).reshape(np.stack([counts, factors], 1).ravel())  # noqa: E731
    centre = brain.affine @ [*(factors - 1) / 2, 1]
    affine, over = np.column_stack([brain.affine[:, :3] * factors, centre]), brain.map
    if over is not None:
        high, low = blocks(over).max((1, 3, 5)), blocks(over).min((1, 3, 5))
        over = np.where(high >= -low, high, low)
    return Brain(blocks(brain.grey).mean((1, 3, 5)).round().astype(np.uint8), over, affine)


def still_of(brain: Brain, threshold: float | None, place: list[float]) -> bytes:
    """Draw the axial slice at a `place`, RAS+ mm, with what the map shows beyond its threshold, as a PNG."""
    number = int(np.clip((np.linalg.inv(brain.affine) @ [*place, 1])[AXIAL].round(), 0, brain.grey.shape[AXIAL] - 1))
    colours = np.repeat(brain.grey[..., number, None] / 255, 3, -1)
    if brain.map is not None and threshold is not None:
        for sign, colour in zip((1, -1), COLOURS, strict=True):
            colours[sign * brain.map[..., number] >= threshold] = colour
    sides = colours.shape[:2] * voxel_sizes(brain.affine)[:2]
    size = np.maximum(sides / sides.max() * STILL, 1).round().astype(int).tolist()
    image = Image.fromarray((picture(colours) * 255).round().astype(np.uint8))
    image.resize(size, Image.Resampling.BILINEAR).quantize(64).save(file := io.BytesIO(), "png")
    return file.getvalue()


def _voxels(image) -> np.ndarray:
    return to_ras(np.asarray(image.dataobj, np.float32), image.affine)[0]


def _texts(brain: Brain) -> dict[str, str | None]:
    text = lambda voxels, slope: base64.b64encode(encoded(voxels, brain.affine, slope)).decode()  # noqa: E731
    step = max(brain.strongest, TINY) / STEPS
    over = None if brain.map is None else text((brain.map / step).round().astype(np.int16), step)
    return {"scan": text(brain.grey, 1.0), "over": over}

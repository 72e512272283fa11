"""How well and how fast the mid-sagittal plane is found, as a Markdown table.

python benchmarks/midline.py --data=/data/ixi --heads=120 --sheet=midline.png
"""

import importlib.util
import os
import platform
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from absl import app, flags
from matplotlib.figure import Figure
from scipy import ndimage
from scipy.spatial.transform import Rotation

from symnorm_jax.data import midline
from symnorm_jax.data.phantom import anatomy, lesions, people
from symnorm_jax.data.sources import ixi
from symnorm_jax.data.volumes import Scan, Volume
from symnorm_jax.errors import ConfigError, reported
from symnorm_jax.geometry import AXIAL, picture, voxel_sizes

_DATA = flags.DEFINE_string("data", None, "The folder with IXI-T1 and DLMUSE; without it phantoms only.")
_HEADS = flags.DEFINE_integer("heads", 120, "How many IXI heads, the first by name.", lower_bound=1)
_PHANTOMS = flags.DEFINE_integer("phantoms", 40, "How many phantoms, with and without lesion.", lower_bound=1)
_LIBRARY = flags.DEFINE_integer("library", 10, "On how many of them SimpleITK is tried too.", lower_bound=0)
_SHEET = flags.DEFINE_string("sheet", None, "Write a picture of phantoms before and after to this file.")

TILT, SHIFT = 10.0, np.array([15.0, 5.0, 5.0])  # degrees of roll and yaw, and mm, that are added either way
LESION_MM, DARK = 20.0, (-0.6, -0.5)  # radius; contrast
SPACING = 3.0  # mm, of phantoms


class Plane(NamedTuple):
    normal: np.ndarray  # [3], unit length
    offset: float  # mm


class Head(NamedTuple):
    """A brain as the mid-line sees it, and the plane it is known to have; None where nobody knows."""

    voxels: np.ndarray  # [X, Y, Z] float32, 0 outside the brain
    spacing: np.ndarray  # [3] mm
    truth: Plane | None = None


def brain(volume: Volume) -> np.ndarray:
    """The brain `[X, Y, Z]` float32 with intensities up to 1.5, 0 outside."""
    bright = np.percentile(volume.voxels[volume.brain], 98)
    return np.where(volume.brain, np.clip(volume.voxels / bright, 0, 1.5), 0).astype(np.float32)


def phantom_head(person: int, with_lesion: bool = False, seed: int = 0) -> Head:
    """A phantom, perhaps with a lesion 4 cm across on one side, and the plane of its anatomy."""
    scan = people.records(None, healthy=person + 1, patients=0, seed=seed, spacing=SPACING)[person]
    volume, spacing = scan.load(), np.full(3, SPACING)
    places = anatomy.places_of(anatomy.streams(scan.patient, seed)[0], volume.voxels.shape, volume.affine)
    truth = anatomical_plane(places, volume.brain)
    if with_lesion:
        inside, rng = np.argwhere(volume.brain), np.random.default_rng([seed, person])
        sites = inside[np.abs(inside @ (truth.normal * SPACING) - truth.offset - rng.choice([-35, 35])) < 8]
        mask = lesions.blob(rng, sites[rng.integers(len(sites))], LESION_MM, volume.brain, spacing)
        volume = volume._replace(voxels=lesions.paint(volume.voxels, mask, volume.brain, spacing, rng, DARK, hollow=0))
    return Head(brain(volume), spacing, truth)


def anatomical_plane(places: np.ndarray, brain: np.ndarray) -> Plane:
    """The plane in which places of a bent brain are, in least squares, nearest to their counterparts' mirror images.

    `places` `[3, X, Y, Z]` are mm in the symmetric atlas. A counterpart lies where the place there has the other
    sign of x; it is found from the affine map nearest to the bending, and by correcting what that leaves.
    """
    here = np.argwhere(brain)[::3] * SPACING
    atlas = places[:, brain][:, ::3].T
    affine = np.linalg.lstsq(np.column_stack([here, np.ones(len(here))]), atlas)[0]
    linear, wanted = np.linalg.inv(affine[:3]), atlas * [-1, 1, 1]
    there = (wanted - affine[3]) @ linear
    for _ in range(12):
        index = there.T / SPACING
        reached = [ndimage.map_coordinates(one, index, order=1, mode="nearest") for one in places]
        there += (wanted - np.transpose(reached)) @ linear
    middle = (here + there).mean(0) / 2
    spread = (here - middle).T @ (there - middle)
    normal = np.linalg.eigh(spread + spread.T)[1][:, 0]
    normal *= np.sign(normal[0])
    return Plane(normal, float(normal @ middle))


def real_head(scan: Scan) -> Head:
    volume = scan.load()
    if volume.brain is None:
        raise ConfigError(f"{scan.name}: no DLMUSE label map; the mid-line is sought in the brain alone.")
    return Head(brain(volume), voxel_sizes(volume.affine))


def tilted(head: Head, rng: np.random.Generator) -> tuple[Head, Callable[[Plane], Plane]]:
    """The head turned and moved about the middle of its grid, and what becomes of a plane."""
    turn = Rotation.from_euler("yz", rng.uniform(-TILT, TILT, 2), degrees=True).as_matrix()
    move = rng.uniform(-SHIFT, SHIFT)
    middle = (np.array(head.voxels.shape) - 1) / 2 * head.spacing
    linear, start = turn.T * head.spacing / head.spacing[:, None], middle - turn.T @ (middle + move)
    voxels = ndimage.affine_transform(head.voxels, linear, start / head.spacing, order=1)

    def carried(plane: Plane) -> Plane:
        normal = turn @ plane.normal
        return Plane(normal, plane.offset - plane.normal @ middle + normal @ (middle + move))

    return Head(voxels, head.spacing, head.truth and carried(head.truth)), carried


def apart(one: Plane, other: Plane, head: Head) -> tuple[float, float]:
    """Degrees between two planes, and mm at the middle of the brain."""
    angle = np.degrees(np.arccos(np.clip(one.normal @ other.normal, -1, 1)))
    centre = np.array(ndimage.center_of_mass(head.voxels)) * head.spacing
    return angle, abs((one.normal @ centre - one.offset) - (other.normal @ centre - other.offset))


def single(heads: list[Head]) -> list[Plane]:
    return [Plane(*midline.find(head.voxels, head.spacing)[:2]) for head in heads]


def only_centred(heads: list[Head]) -> list[Plane]:
    return [Plane(*midline.centre(head.voxels, head.spacing)[:2]) for head in heads]


def library(heads: list[Head]) -> list[Plane]:
    return [_simple_itk(head) for head in heads]


def _simple_itk(head: Head) -> Plane:
    """Euler3D registration to the flipped image; with the flip it makes a reflection, whose plane is wanted."""
    import SimpleITK as sitk

    still, flipped = (sitk.GetImageFromArray(image.transpose()) for image in (head.voxels, head.voxels[::-1]))
    for image in (still, flipped):
        image.SetSpacing(head.spacing.tolist())
    start = sitk.CenteredTransformInitializer(
        still, flipped, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SetOptimizerAsRegularStepGradientDescent(2.0, 1e-4, 300, 0.7)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(still, flipped)
    flip, edge = np.diag([-1.0, 1, 1]), np.array([(len(head.voxels) - 1) * head.spacing[0], 0, 0])
    shift = flip @ start.TransformPoint((0.0, 0.0, 0.0)) + edge
    columns = [flip @ start.TransformPoint(tuple(axis)) + edge - shift for axis in np.eye(3)]
    reflection = np.column_stack(columns)
    normal = np.linalg.eigh(reflection + reflection.T)[1][:, 0]
    normal *= np.sign(normal[0])
    return Plane(normal, normal @ shift / 2)


def compare(name: str, heads: Iterable[Head], few: int) -> list[str]:
    """Rows of the table; the library is tried on the first `few` heads alone."""
    turned = [(head, *tilted(head, np.random.default_rng(k))) for k, head in enumerate(heads)]
    for method in OURS.values():
        method([turned[0][1]])  # compiles
    rows = [_row(f"{name} | {title}", turned, method) for title, method in OURS.items()]
    return [*rows, _row(f"{name} | SimpleITK Euler3D", turned[:few], library)] if few else rows


def _row(title: str, turned: list, method: Callable) -> str:
    """A method on tilted heads, against the truth or, where nobody knows it, what it says of the untilted head."""
    before, after, carry = zip(*turned, strict=True)
    start = time.perf_counter()
    found = method(list(after))
    seconds = (time.perf_counter() - start) / len(after)
    known = [head.truth for head in after]
    if after[0].truth is None:
        known = [move(plane) for move, plane in zip(carry, method(list(before)), strict=True)]
    off = [apart(*both) for both in zip(found, known, after, strict=True)]
    cells = np.quantile(off, (0.5, 0.95), axis=0).T.ravel()
    return f"| {title} | {len(off)} | {' | '.join(f'{cell:.2f}' for cell in cells)} | {seconds:.2f} |"


OURS = {"ours": single, "only centred": only_centred}


def sheet(path: str) -> None:
    """Four tilted phantoms, the last with a lesion, before and after straightening; the plane is the line."""
    figure = Figure(figsize=(7.2, 7.2))
    grid = figure.subplots(4, 4)
    for person, row in enumerate(grid):
        well, ill = (tilted(phantom_head(person, lesion), np.random.default_rng([7, person]))[0] for lesion in (0, 1))
        shown = ill if person == 3 else well
        found = midline.find(shown.voxels, shown.spacing)
        for columns, matrix in ((row[::2], None), (row[1::2], found.matrix)):
            image, lesion = (
                _seen(one, matrix) for one in (shown.voxels, (abs(ill.voxels - well.voxels) > 0.1).astype(np.float32))
            )
            place = ndimage.center_of_mass(lesion if person == 3 else image)
            plane = (np.eye(3)[0], 0.0) if matrix is not None else (found.normal, found.offset)
            start = (np.array(image.shape) - 1) / 2 * SPACING * (matrix is not None)
            for axes, across in zip(columns, (AXIAL, 1), strict=True):
                _draw(axes, image, np.array(place), Plane(plane[0], plane[1] + plane[0] @ start), across)
        row[0].set_ylabel(f"roll {found.roll:.1f}°\nyaw {found.yaw:.1f}°", fontsize=8)
    for axes, title in zip(grid[0], ("axial, before", "after", "coronal, before", "after"), strict=True):
        axes.set_title(title, fontsize=9)
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=80)


def _seen(voxels: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """The voxels as they are, or straightened on a grid of the same size."""
    if matrix is None:
        return voxels
    linear, shift = matrix[:3, :3], matrix[:3, 3] / SPACING
    return ndimage.affine_transform(voxels, linear, shift - linear @ ((np.array(voxels.shape) - 1) / 2), order=1)


def _draw(axes, voxels: np.ndarray, place: np.ndarray, plane: Plane, across: int) -> None:
    """The slice `across` an axis through `place`, in voxels, and the line in which the plane cuts it."""
    up = 1 if across == AXIAL else AXIAL
    image = np.take(voxels, round(place[across]), across)
    heights = np.array([0, image.shape[1] - 1])
    rest = plane.offset / SPACING - plane.normal[up] * heights - plane.normal[across] * place[across]
    axes.imshow(picture(image), cmap="gray", vmin=0, vmax=1.2)
    axes.plot(rest / plane.normal[0], image.shape[1] - 1 - heights, color="#c8553d", lw=1)
    axes.set(xticks=[], yticks=[], xlim=(-0.5, image.shape[0] - 0.5), ylim=(image.shape[1] - 0.5, -0.5))


def table() -> list[str]:
    """Rows of the table, for phantoms and, where there are some, for real heads."""
    if _LIBRARY.value and not importlib.util.find_spec("SimpleITK"):
        raise ConfigError("SimpleITK is not installed: `pip install SimpleITK`, or go without it by --library=0.")
    rows = []
    for name, with_lesion in (("phantoms", False), ("phantoms, 4 cm lesion", True)):
        rows += compare(name, (phantom_head(k, with_lesion) for k in range(_PHANTOMS.value)), _LIBRARY.value)
    if _DATA.value:
        scans = ixi.records(_DATA.value)[: _HEADS.value]
        rows += compare("IXI", map(real_head, scans), _LIBRARY.value)
    return rows


def main(_) -> None:
    print(f"jax {jax.__version__}, {platform.processor() or platform.machine()}, {os.cpu_count()} CPU cores\n")
    with reported():
        if _SHEET.value:
            sheet(_SHEET.value)
        rows = table()
    print("| data | method | heads | degrees off, median | 95th | mm off, median | 95th | seconds a head |")
    print("|---|---|---|---|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    app.run(main)

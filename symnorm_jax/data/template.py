"""Rigid registration of a brain to the MNI152 template, so that all heads lie alike, not only straight.

The template is the symmetric one of 2009, release a (Fonov et al., 2011), which nilearn ships: skull-stripped, and its
own mirror image in the plane x = 0. A rigid transform keeps the size and the shape of the brain; mutual information
(Mattes et al., 2003) does not ask for the contrast of the template. SimpleITK does the work.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from nilearn import datasets
from scipy import ndimage

from symnorm_jax.data.frame import Frame, resample
from symnorm_jax.data.midline import Midline
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.geometry import LEFT_RIGHT, mirror

FORMAT = "mni 1"  # a new value makes stores of registered scans stale: change it when the same scan is laid otherwise
# The box of 3D-Neuro-SimCLR, first and last nodes at 1 mm, in mm of the template; its left and right are made alike.
BOX = np.array([[-95.5, -113.0, -68.0], [95.5, 78.0, 81.0]])
RESOLUTION = 2  # mm, of the grid on which brain and template are compared
BINS = 32  # of intensity, a side of the joint histogram
SHRINK, BLUR = (4, 2), (4.0, 2.0)  # voxels, and mm, level by level
NEAR = 5  # voxels about the template's brain that are compared too, for the outline
STEP, SMALLEST_STEP, STEPS = 1.0, 1e-3, 200  # mm a step begins and ends with, and the most steps of a level


class Template(NamedTuple):
    """The template on a grid of RESOLUTION mm."""

    image: np.ndarray  # [X, Y, Z] float32, 0 to 1, 0 outside the brain
    brain: np.ndarray  # [X, Y, Z] bool
    affine: np.ndarray  # [4, 4] voxel index to mm


class Registered(NamedTuple):
    """Where the template lies in a scan."""

    plane: Midline  # x = 0 of the template; `matrix` goes from mm of the template to mm on the scan's own grid
    similarity: float  # correlation, up to 1, of the registered brain with the template, background included


def check_installed() -> None:
    """Raises ConfigError where SimpleITK is not there."""
    if not find_spec("SimpleITK"):
        raise ConfigError(
            "data.midline='template' needs the package SimpleITK, which is not there (pip install -e '.[mni]'); "
            "data.midline='straight' or 'centred' does without."
        )


def register(image: np.ndarray, brain: np.ndarray, voxel: np.ndarray, stack: bool = False) -> Registered:
    """Where the template lies in a scan `image` `[X, Y, Z]`, 0 outside `brain` `[X, Y, Z]`, with voxels of `voxel` mm.

    The search begins with the centre of one brain mask on that of the other, without a turn, and runs on one thread:
    the same scan gives the same bits. Raises ConfigError where SimpleITK is not installed, ScanError for a `stack` of
    pictures and where brain and template do not meet.
    """
    if stack:
        raise ScanError(
            "slices kept as pictures, whose distance is a guess, cannot be registered to the template; "
            "data.midline='straight' or 'centred' is allowed."
        )
    check_installed()
    template = load()
    start = np.eye(4)
    start[:3, 3] = _centre(brain) * voxel - (template.affine @ [*_centre(template.brain), 1])[:3]
    moved = _on_template(image, start, voxel)
    matrix = start @ _search(template, moved)
    found = _on_template(image, matrix, voxel)
    normal = matrix[:3, LEFT_RIGHT]
    plane = Midline(normal, float(normal @ matrix[:3, 3]), _mirror_similarity(found), float("nan"), matrix)
    return Registered(plane, _correlation(found.ravel(), template.image.ravel()))


@lru_cache(maxsize=1)
def load() -> Template:
    """The template, read once in a process from the files of nilearn, without a download."""
    image, mask = (
        one(resolution=RESOLUTION) for one in (datasets.load_mni152_template, datasets.load_mni152_brain_mask)
    )
    brain = np.asarray(mask.dataobj) > 0
    return Template(np.where(brain, np.asarray(image.dataobj), 0).astype(np.float32), brain, np.array(image.affine))


def _centre(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(0)


def _on_template(image: np.ndarray, matrix: np.ndarray, voxel: np.ndarray) -> np.ndarray:
    """A scan `[X, Y, Z]` on the template's grid, where `matrix` goes from mm of the template to mm of the scan."""
    template = load()
    return resample(image, Frame(np.diag([*(1 / voxel), 1.0]) @ matrix @ template.affine, template.image.shape), voxel)


def _search(template: Template, moved: np.ndarray) -> np.ndarray:
    """The rigid map `[4, 4]` from the template to a brain on the same grid that shares the most information with it."""
    import SimpleITK as sitk

    near = ndimage.binary_dilation(template.brain, iterations=NEAR).astype(np.uint8)
    fixed, moving, compared = (_itk_image(one, template.affine) for one in (template.image, moved, near))
    transform = sitk.Euler3DTransform((template.affine @ [*_centre(template.brain), 1])[:3].tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(compared)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(SHRINK)
    method.SetSmoothingSigmasPerLevel(BLUR)
    method.SetOptimizerAsRegularStepGradientDescent(STEP, SMALLEST_STEP, STEPS)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        with _one_thread():
            method.Execute(fixed, moving)
    except RuntimeError as error:  # the only one that SimpleITK raises
        raise ScanError(f"the brain cannot be registered to the template ({_last_line(error)}).") from None
    return _matrix(transform)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep SimpleITK to one thread: the last bits of its sums depend on how many there are."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _itk_image(array: np.ndarray, affine: np.ndarray) -> Any:
    """An image of SimpleITK, whose arrays are `[Z, Y, X]`; RAS+ is as good as its own LPS+, for both images alike."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose()))
    image.SetSpacing(affine.diagonal()[:3].tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def _matrix(transform: Any) -> np.ndarray:
    """An Euler3DTransform of SimpleITK as a matrix `[4, 4]`."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    return matrix


def _mirror_similarity(image: np.ndarray) -> float:
    """Correlation of a brain `[X, Y, Z]`, 0 outside, with its mirror image, where either shows brain."""
    other = mirror(image)
    seen = (image > 0) | (other > 0)
    return _correlation(image[seen], other[seen])


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of two lists of intensities; 0 where either is empty or has one value, as of a brain that is out of sight."""
    alike = min(one.size, other.size) == 0 or one.min() == one.max() or other.min() == other.max()
    return 0.0 if alike else float(np.corrcoef(one, other)[0, 1])


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1].strip() if str(error).strip() else type(error).__name__

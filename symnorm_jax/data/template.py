"""Rigid registration of a brain to the MNI152 template, so that all heads lie alike, not only straight.

The template, the symmetric one of 2009, release a (Fonov et al., 2011), comes with nilearn: skull-stripped, and its own
mirror image in x = 0. A rigid transform keeps the size and the shape of the brain, mutual information (Mattes et al.,
2003) does not ask for the template's contrast, and SimpleITK does the work.
"""

from functools import lru_cache
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
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
    centre: np.ndarray  # [3] mm of its brain


def check_installed() -> None:
    """Raise ConfigError where SimpleITK is not there."""
    if not find_spec("SimpleITK"):
        needed = "data.midline='template' needs the package SimpleITK, which is not there (pip install -e '.[mni]')"
        raise ConfigError(f"{needed}; data.midline='straight' or 'centred' does without.")


def register(image: np.ndarray, brain: np.ndarray, voxel: np.ndarray, stack: bool = False) -> tuple[Midline, float]:
    """Find the template in a scan `image` `[X, Y, Z]`, 0 outside `brain` `[X, Y, Z]`, with voxels of `voxel` mm.

    The Midline is x = 0 of the template; its `matrix` goes from mm of the template to mm on the scan's own grid. The
    number correlates the registered brain with the template, up to 1, background included. The search begins with the
    brains' centres on one another, without a turn, and runs on one thread, for the same bits each time. Raises
    ConfigError where SimpleITK is not installed, ScanError for a `stack` and where the brains do not meet.
    """
    if stack:
        told = "slices kept as pictures, whose distance is a guess, cannot be registered to the template"
        raise ScanError(f"{told}; data.midline='straight' or 'centred' is allowed.")
    check_installed()
    template, start = load(), np.eye(4)
    start[:3, 3] = np.argwhere(brain).mean(0) * voxel - template.centre
    matrix = start @ _search(template, _on_template(image, start, voxel))
    found, normal = _on_template(image, matrix, voxel), matrix[:3, LEFT_RIGHT]
    seen = (found > 0) | (mirror(found) > 0)
    likeness = _correlation(found[seen], mirror(found)[seen])
    plane = Midline(normal, float(normal @ matrix[:3, 3]), likeness, float("nan"), matrix)
    return plane, _correlation(found.ravel(), template.image.ravel())


@lru_cache(maxsize=1)
def load() -> Template:
    """Read the template, once in a process, from the files of nilearn, without a download."""
    from nilearn import datasets  # with scikit-learn, which takes seconds

    image = datasets.load_mni152_template(resolution=RESOLUTION)
    brain = np.asarray(datasets.load_mni152_brain_mask(resolution=RESOLUTION).dataobj) > 0
    affine, voxels = np.array(image.affine), np.where(brain, np.asarray(image.dataobj), 0).astype(np.float32)
    return Template(voxels, brain, affine, (affine @ [*np.argwhere(brain).mean(0), 1])[:3])


def _on_template(image: np.ndarray, matrix: np.ndarray, voxel: np.ndarray) -> np.ndarray:
    """Resample a scan `[X, Y, Z]` to the template's grid, where `matrix` goes from mm of the template to the scan's."""
    template = load()
    return resample(image, Frame(np.diag([*(1 / voxel), 1.0]) @ matrix @ template.affine, template.image.shape), voxel)


def _search(template: Template, moved: np.ndarray) -> np.ndarray:
    """Find the rigid map `[4, 4]` from the template to the brain, on the same grid, that shares most information."""
    import SimpleITK as sitk

    def itk_image(array: np.ndarray) -> sitk.Image:
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose()))  # SimpleITK's arrays are [Z, Y, X]
        image.SetSpacing(template.affine.diagonal()[:3].tolist())
        image.SetOrigin(template.affine[:3, 3].tolist())  # RAS+ is as good as its own LPS+, for both images alike
        return image

    near = itk_image(ndimage.binary_dilation(template.brain, iterations=NEAR).astype(np.uint8))
    transform, method = sitk.Euler3DTransform(template.centre.tolist()), sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricFixedMask(near)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(SHRINK)
    method.SetSmoothingSigmasPerLevel(BLUR)
    method.SetOptimizerAsRegularStepGradientDescent(STEP, SMALLEST_STEP, STEPS)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)  # the last bits of its sums depend on how many there are
    try:
        method.Execute(itk_image(template.image), itk_image(moved))
    except RuntimeError as error:  # the only one that SimpleITK raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        raise ScanError(f"the brain cannot be registered to the template ({reason}).") from None
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    return matrix


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Correlate two lists of intensities; 0 where either is empty or of one value, as of a brain out of sight."""
    alike = min(one.size, other.size) == 0 or one.min() == one.max() or other.min() == other.max()
    return 0.0 if alike else float(np.corrcoef(one, other)[0, 1])

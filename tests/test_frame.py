"""The slice grid in the volume: where it lies, and the way there and back."""

import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy.spatial.transform import Rotation

from symnorm_jax.data.frame import carry_back, lay, resample
from symnorm_jax.data.midline import Midline

VOXEL = np.array([1.0, 1.5, 2.0])
SHAPE = (60, 50, 40)


def plane(roll=0.0, yaw=0.0, point=(31.0, 36.0, 38.0)):
    """A Midline through `point` mm, its normal turned about the axes y and z."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("yz", [roll, yaw], degrees=True).as_matrix()
    matrix[:3, 3] = point
    normal = matrix[:3, 0]
    return Midline(normal, float(normal @ point), 1.0, 0.0, matrix)


def box():
    brain = np.zeros(SHAPE, bool)
    brain[10:50, 12:40, 8:32] = True
    return brain


def settings(**changes):
    return ConfigDict({"size": (32, 32), "spacing": 2.0, "slice_spacing": 3.0} | changes)


def test_the_mid_line_runs_between_the_two_middle_columns():
    found = lay(box(), VOXEL, plane(yaw=7.0, roll=-5.0), settings())
    middle = found.to_voxel @ [15.5, 20, 6, 1]
    normal = plane(yaw=7.0, roll=-5.0).normal
    assert normal @ (middle[:3] * VOXEL) == pytest.approx(normal @ [31.0, 36.0, 38.0])


def test_slices_go_from_the_lowest_voxel_of_the_brain_to_the_highest():
    found = lay(box(), VOXEL, plane(), settings())
    bottom, top = (found.to_voxel @ [15.5, 15.5, k, 1] for k in (0, found.size[2] - 1))
    assert bottom[2] == pytest.approx(8) and 31 - 1.5 < top[2] <= 31
    assert (bottom[1] + 0) == pytest.approx((12 + 39) / 2)  # centred from back to front


@pytest.mark.parametrize("spacing, stack", [(0.0, False), (3.0, True)])
def test_a_stack_of_pictures_keeps_its_slices(spacing, stack):
    found = lay(box(), VOXEL, plane(), settings(slice_spacing=spacing), stack)
    assert found.size[2] == 24
    np.testing.assert_allclose(found.to_voxel[2], [0, 0, 1, 8], atol=1e-6)


def test_resampling_reads_the_volume_where_the_frame_lies(rng):
    found = lay(box(), VOXEL, plane(roll=6.0, yaw=3.0), settings(spacing=1.0, slice_spacing=1.0))
    ramp = np.tensordot([0.3, -0.2, 0.5], np.indices(SHAPE).astype(float), 1)
    got = resample(ramp, found, VOXEL)
    for i, j, k in ((16, 16, 20), (10, 20, 15), (22, 12, 25)):
        place = (found.to_voxel @ [i, j, k, 1])[:3]
        assert got[i, j, k] == pytest.approx([0.3, -0.2, 0.5] @ place, abs=1e-3)


def test_what_is_carried_back_lies_where_it_was():
    found = lay(box(), VOXEL, plane(roll=8.0, yaw=-6.0), settings(size=(80, 80), spacing=1.0, slice_spacing=1.0))
    lesion = np.zeros(SHAPE, bool)
    lesion[14:24, 16:26, 12:22] = True
    there = resample(lesion.astype(np.float32), found, VOXEL)
    back = carry_back(there, found, SHAPE) > 0.5
    assert 2 * (back & lesion).sum() / (back.sum() + lesion.sum()) > 0.9
    assert set(np.unique(carry_back(there > 0.5, found, SHAPE, order=0))) == {0.0, 1.0}

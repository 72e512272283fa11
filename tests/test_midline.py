"""The mid-sagittal plane is where it was put: on the right side, turned the right way, in mm."""

import jax
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from symnorm_jax.data import midline, registration
from symnorm_jax.data.phantom import anatomy, lesions, people
from symnorm_jax.data.sources import ixi
from symnorm_jax.geometry import mirror, voxel_sizes

SPACING = 3.0
FAR = 60.0  # mm from the centroid, at which a plane still lies within the brain


def brain(roll=0.0, yaw=0.0, shift=0.0, spacing=(SPACING,) * 3, lesion=0.0, uneven=0.03, pitch=4.0):
    """A symmetric atlas brain, unevenly lit, whose plane is turned (degrees) and moved (mm), with a plane `(n, d)`.

    `lesion` is the radius in mm of one in the right half.
    """
    spacing = np.array(spacing)
    shape = tuple(np.round(anatomy.FIELD_OF_VIEW / spacing).astype(int))
    normal = np.array([1, np.tan(np.radians(yaw)), -np.tan(np.radians(roll))])
    normal /= np.linalg.norm(normal)
    turn = Rotation.align_vectors(normal, [1.0, 0, 0])[0].as_matrix()
    turn = turn @ Rotation.from_euler("x", pitch, degrees=True).as_matrix()
    middle = (np.array(shape) - 1) / 2 * spacing + [shift, 0, 0]
    places = np.moveaxis(np.indices(shape), 0, -1) * spacing - middle
    atlas = np.moveaxis(places @ turn + anatomy.BRAIN_CENTRE, -1, 0).reshape(3, -1)
    grey, white, inside = (anatomy.sample(one, atlas).reshape(shape) for one in anatomy.maps_at(SPACING)[:3])
    inside = inside > 0.5
    rng = np.random.default_rng(3)
    image = (0.7 * grey + white + 0.2) * np.exp(uneven * lesions.smooth_noise(rng, shape, spacing, 70.0))
    image = np.where(inside, image, 0).astype(np.float32)
    if lesion:
        centre = np.round((middle + turn @ [38.0, 10, 12]) / spacing).astype(int)
        mask = lesions.blob(rng, centre, lesion, inside, spacing)
        image = lesions.paint(image, mask, inside, spacing, rng, (-0.45, -0.4), hollow=0.0)
    return image, spacing, (normal, float(normal @ middle))


def tilt(found, plane) -> float:
    """Degrees between a Midline and a plane `(n, d)`."""
    return float(np.degrees(np.arccos(np.clip(found.normal @ plane[0], -1, 1))))


def miss(found, plane, voxels, spacing) -> float:
    """mm between them at the middle of the brain."""
    centre = np.array(ndimage.center_of_mass(voxels)) * spacing
    return abs((found.normal @ centre - found.offset) - (plane[0] @ centre - plane[1]))


def straighten(voxels, spacing, found):
    """The scan in the straightened frame, on a grid of its own size whose middle is the frame's origin."""
    linear = found.matrix[:3, :3] * spacing / spacing[:, None]
    shift = found.matrix[:3, 3] / spacing - linear @ ((np.array(voxels.shape) - 1) / 2)
    return ndimage.affine_transform(voxels, linear, shift, order=1)


@pytest.mark.parametrize(
    ("roll", "yaw", "shift"), [(0, 0, 0), (9, 0, 0), (0, 9, 0), (-10, 10, 15), (10, 10, -15), (-6, -8, -8)]
)
def test_a_known_plane_is_recovered_with_its_signs(roll, yaw, shift):
    voxels, spacing, plane = brain(roll, yaw, shift)
    found = midline.find(voxels, spacing)
    assert found.roll == pytest.approx(roll, abs=0.2) and found.yaw == pytest.approx(yaw, abs=0.2)
    assert tilt(found, plane) < 0.2 and miss(found, plane, voxels, spacing) < 0.2
    assert found.similarity > 0.9 and 0 < found.error < 1.5


def test_positive_roll_leans_the_top_to_the_right_and_positive_yaw_turns_the_face_to_the_left():
    leaning, turned = (midline.find(*brain(*angles)[:2]).matrix[:3] for angles in ((9, 0), (0, 9)))
    assert (leaning @ [0, 0, 60, 1] - leaning @ [0, 0, -60, 1])[0] > 15
    assert (turned @ [0, 60, 0, 1] - turned @ [0, -60, 0, 1])[0] < -15


def test_the_matrix_is_the_smallest_rotation_that_brings_the_plane_to_the_middle():
    voxels, spacing, _ = brain(8, -7, 6)
    found = midline.find(voxels, spacing)
    linear, origin = found.matrix[:3, :3], found.matrix[:3, 3]
    np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-5)
    assert np.linalg.det(linear) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(found.matrix[3], [0, 0, 0, 1])
    on_plane = np.array([[0, 0, 0, 1], [0, 50, -20, 1], [0, -30, 70, 1]]) @ found.matrix.T
    np.testing.assert_allclose(on_plane[:, :3] @ found.normal, found.offset, atol=1e-3)
    np.testing.assert_allclose(linear[:, 0], found.normal, atol=1e-5)
    axis = Rotation.from_matrix(linear).as_rotvec()
    assert abs(axis[0]) < 1e-4  # pitch untouched: the axis of the smallest rotation is perpendicular to left-right
    centroid = np.array(ndimage.center_of_mass(voxels)) * spacing
    np.testing.assert_allclose(np.cross(centroid - origin, found.normal), 0, atol=0.05)


def test_a_straightened_scan_is_straight_and_more_like_its_mirror_image():
    voxels, spacing, _ = brain(8, -9, 10)
    straight = straighten(voxels, spacing, midline.find(voxels, spacing))
    again = midline.find(straight, spacing)
    assert abs(again.roll) < 0.3 and abs(again.yaw) < 0.3
    assert again.offset == pytest.approx((len(straight) - 1) / 2 * SPACING, abs=0.3)
    likeness = [np.corrcoef(one.ravel(), mirror(one).ravel())[0, 1] for one in (voxels, straight)]
    assert likeness[1] > 0.97 > likeness[0] + 0.1


def test_a_large_lesion_on_one_side_does_not_pull():
    voxels, spacing, plane = brain(-7, 5, 4, lesion=20.0)
    well, ill = midline.find(*brain(-7, 5, 4)[:2]), midline.find(voxels, spacing)
    assert tilt(ill, plane) < 0.08 and miss(ill, plane, voxels, spacing) < 0.08  # least squares: 0.13 degrees, 0.10 mm
    assert tilt(ill, (well.normal, 0)) < 0.05 and ill.similarity < well.similarity


def test_a_mirrored_scan_has_the_mirrored_plane():
    voxels, spacing, _ = brain(6, 9, 7, uneven=0.1, lesion=15.0)
    one, other = midline.find(voxels, spacing), midline.find(mirror(voxels), spacing)
    width = (len(voxels) - 1) * SPACING
    np.testing.assert_allclose(other.normal, one.normal * [1, -1, -1], atol=2e-3)
    assert width * one.normal[0] - one.offset == pytest.approx(other.offset, abs=0.3)


def test_bent_phantoms_within_the_error_that_is_told():
    """A phantom is unevenly bent, so its plane is that of the affine map nearest to what was done to it."""
    off, told = [], []
    for scan in people.records(None, healthy=6, patients=0, seed=0, spacing=SPACING):
        volume = scan.load()
        places = anatomy.places_of(anatomy.streams(scan.patient, 0)[0], volume.voxels.shape, volume.affine)
        inside = np.column_stack([np.argwhere(volume.brain) * SPACING, np.ones(volume.brain.sum())])
        slopes = np.linalg.lstsq(inside, places[0][volume.brain])[0][:3]
        found = midline.find(volume.voxels / np.percentile(volume.voxels[volume.brain], 98), [SPACING] * 3)
        off.append(tilt(found, (slopes / np.linalg.norm(slopes), 0)))
        told.append(found.error)
    assert np.median(off) < 1 and max(off) < 2.5
    assert 0.5 < np.sqrt(np.mean(np.square(off)) / np.mean(np.square(told))) < 2


def test_the_error_is_smaller_the_more_symmetric_the_brain():
    even, uneven = (midline.find(*brain(4, 4, uneven=share)[:2]).error for share in (0.0, 0.25))
    assert even < 0.5 * uneven


def test_different_grids_compile_once():
    midline.find(*brain(5, -5)[:2])
    compiled = registration.register_all._cache_size()
    midline.find(*brain(-3, 8, 5, (4.0, 3.0, 3.5))[:2])
    assert registration.register_all._cache_size() == compiled


@pytest.mark.parametrize("spacing", [(2.5, 2.5, 6.0), (4.0, 2.0, 3.0)])
def test_voxels_need_not_be_cubes(spacing):
    voxels, spacing, plane = brain(7, -8, 5, spacing)
    found = midline.find(voxels, spacing)
    assert tilt(found, plane) < 0.4 and miss(found, plane, voxels, spacing) < 0.3


def test_a_brain_that_the_field_of_view_cuts_is_not_taken_for_a_brain_that_ends_there():
    voxels, spacing, plane = brain(9, 3, 3)
    part = voxels[:, :, 22:46]
    shown = plane[0], plane[1] - plane[0][2] * 22 * SPACING
    found = midline.find(part, spacing)
    assert tilt(found, shown) < 0.3 and miss(found, shown, part, spacing) < 0.2
    assert found.similarity > 0.985  # 0.97 if what lies outside were taken for background


def stacked(yaw, lean, shift, count=24):
    """Slices of a straight brain, each turned by `yaw` degrees and moved by `shift + lean * height` mm."""
    voxels, spacing, _ = brain(pitch=0.0)
    voxels = voxels[:, :, 20 : 20 + count]
    turn = Rotation.from_euler("z", yaw, degrees=True).as_matrix()[:2, :2]
    middle = (np.array(voxels.shape[:2]) - 1) / 2
    moved = np.empty_like(voxels)
    for k in range(voxels.shape[2]):
        start = middle - turn.T @ (middle + np.array([shift + lean * k * SPACING, 0]) / SPACING)
        moved[..., k] = ndimage.affine_transform(voxels[..., k], turn.T, start, order=1)
    return moved, spacing, middle[0] * SPACING


def test_slices_of_a_stack_stay_slices():
    """In a stack the plane leans by a shear, and z remains slice index times spacing."""
    yaw, lean, shift = 8.0, 0.12, -6.0
    voxels, spacing, middle = stacked(yaw, lean, shift)
    found = midline.find(voxels, spacing, stack=True)
    assert found.yaw == pytest.approx(yaw, abs=0.4)
    assert np.tan(np.radians(found.roll)) == pytest.approx(lean, abs=0.01) and 0 < found.error < 2
    cos, sin = np.cos(np.radians(found.yaw)), np.sin(np.radians(found.yaw))
    expected = [[cos, -sin, np.tan(np.radians(found.roll))], [sin, cos, 0], [0, 0, 1]]
    np.testing.assert_allclose(found.matrix[:3, :3], expected, atol=1e-5)
    assert found.matrix[2, 3] == pytest.approx(0, abs=1e-5)
    on_plane = np.array([[0, y, z, 1] for y in (-FAR, FAR) for z in (0, FAR)]) @ found.matrix.T
    np.testing.assert_allclose(on_plane[:, :3] @ found.normal, found.offset, atol=1e-3)
    front_axis = (on_plane[:, 1] - (voxels.shape[1] - 1) / 2 * SPACING) / np.cos(np.radians(yaw))
    back = middle + shift + lean * on_plane[:, 2] - np.sin(np.radians(yaw)) * front_axis
    np.testing.assert_allclose(on_plane[:, 0], back, atol=0.7)


def test_a_single_slice_is_turned_in_its_plane_alone():
    voxels, spacing, _ = stacked(-7.0, 0.0, 5.0)
    one = voxels[:, :, 12:13]
    found = midline.find(one, spacing, stack=True)
    assert found.yaw == pytest.approx(-7, abs=0.5) and found.roll == pytest.approx(0, abs=0.05)
    assert found.similarity > 0.9 and found.error < 2
    straight = straighten(np.repeat(one, 3, 2), spacing, found._replace(matrix=_lowered(found.matrix)))[..., 1]
    assert np.corrcoef(straight.ravel(), mirror(straight).ravel())[0, 1] > 0.97


def _lowered(matrix):
    """The origin carried to the middle of the in-plane grid's height, for a slice repeated three times."""
    lowered = matrix.copy()
    lowered[2, 3] += SPACING
    return lowered


def test_centre_only_moves():
    voxels, spacing, _ = brain(0, 0, 9)
    found = midline.centre(voxels, spacing)
    assert found.offset == pytest.approx((len(voxels) - 1) / 2 * SPACING + 9, abs=SPACING / 2)
    np.testing.assert_array_equal(found.matrix[:3, :3], np.eye(3))
    assert found.matrix[0, 3] == found.offset and np.isnan(found.error) and found.roll == found.yaw == 0
    assert found.similarity > midline.centre(*brain(8, 8, 9)[:2]).similarity


def empty(*shape):
    return np.zeros(shape, np.float32)


def one_voxel():
    voxels = empty(20, 20, 20)
    voxels[4, 5, 6] = 1
    return voxels


DEGENERATE = {
    "nothing": (empty(20, 20, 20), False),
    "one voxel": (one_voxel(), False),
    "flat, to the edges": (empty(30, 30, 30) + 1, False),
    "noise, to the edges": (np.random.default_rng(0).random((30, 30, 30), dtype=np.float32), False),
    "one slice that is no stack": (np.random.default_rng(0).random((30, 30, 1), dtype=np.float32), False),
    "a flat stack": (empty(30, 30, 4) + 1, True),
    "an empty stack": (empty(30, 30, 1), True),
    "a single voxel": (empty(1, 1, 1) + 1, False),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_where_there_is_no_plane_the_answer_is_finite_and_says_so(name):
    voxels, stack = DEGENERATE[name]
    found = midline.find(voxels, (2.0, 2.0, 2.0), stack)
    assert np.isfinite(found.matrix).all() and np.isfinite(found.offset)
    assert found.similarity == 0 and found.error == midline.UNKNOWN
    np.testing.assert_array_equal(found.normal, [1, 0, 0])


def test_a_brain_that_touches_every_edge():
    voxels, spacing, plane = brain(5, -6, 4)
    (box,) = ndimage.find_objects((voxels > 0).astype(int))
    moved = plane[0], plane[1] - plane[0] @ [side.start * SPACING for side in box]
    found = midline.find(voxels[box], spacing)
    assert tilt(found, moved) < 0.3 and miss(found, moved, voxels[box], spacing) < 0.2


def test_the_jacobian_is_finite_and_points_downhill():
    voxels, spacing, _ = brain(3, -2, 0)
    cube, _, unit = registration.cube_of(voxels, spacing, False)
    points = registration.sample_points()
    blocks = registration.jackknife_blocks(points)
    evaluate = jax.jit(lambda theta: registration.normal_equations(theta, 0.2, blocks, cube.image, cube, points, False))
    wrong = np.array([0.1, -0.1, 5 / unit], np.float32)
    cost, matrices, sides = evaluate(wrong)
    assert np.isfinite(matrices).all() and np.isfinite(sides).all()
    assert np.linalg.eigvalsh(matrices.sum(0)).min() > 0
    downhill = np.linalg.solve(matrices.sum(0), sides.sum(0))
    assert evaluate(wrong - 0.3 * downhill.astype(np.float32))[0] < cost


def test_real_heads_follow_a_known_tilt(real_data):
    off = []
    for k, scan in enumerate(ixi.records(str(real_data / "ixi"))[::20]):
        volume = scan.load()
        spacing = voxel_sizes(volume.affine)
        bright = np.percentile(volume.voxels[volume.brain], 98)
        voxels = np.where(volume.brain, np.clip(volume.voxels / bright, 0, 1.5), 0)
        rng = np.random.default_rng(k)
        turn = Rotation.from_euler("yz", rng.uniform(-10, 10, 2), degrees=True).as_matrix()
        move, middle = rng.uniform(-15, 15, 3) * [1, 0.3, 0.3], (np.array(voxels.shape) - 1) / 2 * spacing
        linear, start = turn.T * spacing / spacing[:, None], (middle - turn.T @ (middle + move)) / spacing
        tilted = ndimage.affine_transform(voxels, linear, start, order=1)
        before, after = (midline.find(one, spacing) for one in (voxels, tilted))
        normal = turn @ before.normal
        plane = normal, before.offset - before.normal @ middle + normal @ (middle + move)
        off.append((tilt(after, plane), miss(after, plane, tilted, spacing)))
    assert np.median(off, 0)[0] < 0.5 and np.median(off, 0)[1] < 0.5 and np.max(off, 0)[0] < 1.5

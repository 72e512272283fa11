"""A head that was turned and moved comes to lie on the template, in the template's box, and back where it was."""

import sys
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict
from scipy import ndimage
from scipy.spatial.transform import Rotation

from configs.base import base
from symnorm_jax.data import frame, prepare, samples, template
from symnorm_jax.data.sources import ixi
from symnorm_jax.data.volumes import Volume
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.geometry import centred_affine, voxel_sizes
from symnorm_jax.inference import native

VOXEL, SHAPE = np.array([2.5, 2.5, 3.0]), (80, 92, 72)
MIDDLE = np.array([0.0, -20.0, 8.0])  # mm of the template, about the middle of its brain
LESION, RADIUS = np.array([32.0, -25.0, 25.0]), 12.0  # mm

needs_library = pytest.mark.skipif(
    find_spec("SimpleITK") is None, reason="SimpleITK is an optional dependency: pip install -e '.[mni]'"
)


def settings(**changes) -> ConfigDict:
    config = base().data
    config.update({"midline": "template", "size": (96, 96), "spacing": 2.0, "slice_spacing": 3.0} | changes)
    return config


def truth() -> np.ndarray:
    """From mm of the template to mm of the scan below: pitched, leaning, turned and off the middle."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [14, -6, 8], degrees=True).as_matrix()
    matrix[:3, 3] = (np.array(SHAPE) - 1) / 2 * VOXEL + [6, -5, 4] - matrix[:3, :3] @ MIDDLE
    return matrix


def turned_head() -> Volume:
    """The template as `truth` lays it, darker towards the front, with a dark ball in the right half of the brain."""
    made = template.load()
    to_template = np.linalg.inv(truth() @ made.affine) @ np.diag([*VOXEL, 1])
    image, brain = (
        ndimage.affine_transform(one.astype(np.float32), to_template, output_shape=SHAPE, order=1)
        for one in (made.image, made.brain)
    )
    places = np.moveaxis(np.indices(SHAPE), 0, -1) * VOXEL
    lesion = np.linalg.norm(places - (truth() @ [*LESION, 1])[:3], axis=-1) < RADIUS
    image = 300 * image * np.where(lesion, 0.4, 1) * np.linspace(1.1, 0.9, SHAPE[1])[None, :, None] ** 2
    return Volume(image.astype(np.float32), centred_affine(SHAPE, VOXEL), lesion, brain > 0.5)


@pytest.fixture(scope="module")
def made() -> samples.Samples:
    head = turned_head()
    return samples.cut(head, head.brain, False, settings())


def test_the_template_is_its_own_mirror_image_in_the_plane_x_0():
    found = template.load()
    first = found.affine[0, 3]
    assert -first / template.RESOLUTION == (len(found.image) - 1) / 2  # the middle of the grid is x = 0
    np.testing.assert_allclose(found.image, found.image[::-1], atol=1e-5)
    assert 1.7e6 < found.brain.sum() * template.RESOLUTION**3 < 2.1e6  # mm3


@needs_library
def test_a_known_turn_and_shift_are_undone(made):
    """Nodes of the box, whose place in the template the documentation fixes, lie where the head was laid."""
    nodes = np.array([[47.5, 47.5, 24], [0, 47.5, 24], [47.5, 95, 24], [47.5, 47.5, 48]])
    places = (nodes - [47.5, 47.5, 0]) * [2, 2, 3] + [0, -17.5, -68]
    found = (made.frame.to_voxel @ np.column_stack([nodes, np.ones(4)]).T)[:3].T * VOXEL
    meant = (truth() @ np.column_stack([places, np.ones(4)]).T)[:3].T
    assert np.linalg.norm(found - meant, axis=1)[0] < 1.0
    turn = Rotation.align_vectors(meant[1:] - meant[0], found[1:] - found[0])[0]
    assert np.degrees(turn.magnitude()) < 1.0
    assert np.linalg.norm(found[2] - found[0]) == pytest.approx(95.0)  # rigid: mm stay mm
    row = made.rows[0]
    assert row["flag"] == "" and row["mirror_similarity"] > 0.9
    normal = truth()[:3, 0]
    assert row["yaw"] == pytest.approx(np.degrees(np.arctan2(normal[1], normal[0])), abs=1)


@needs_library
def test_a_lesion_comes_back_to_where_it_was(made):
    about = {"rows": made.rows, "left_out": made.left_out, "to_voxel": made.frame.to_voxel.tolist()}
    back = native.volume(made.arrays[..., 2], pd.DataFrame(made.rows), about, SHAPE) > 0.5
    lesion = turned_head().lesion
    assert 2 * (back & lesion).sum() / (back.sum() + lesion.sum()) > 0.9
    right = made.arrays[:, 48:, :, 2].sum(dtype=int), made.arrays[:, :48, :, 2].sum(dtype=int)
    assert right[0] > 0 and right[1] == 0


@needs_library
def test_the_same_scan_gives_the_same_bits_whatever_the_threads(made):
    import SimpleITK as sitk

    head, before = turned_head(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(3)
    try:
        again = samples.cut(head, head.brain, False, settings())
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    np.testing.assert_array_equal(again.frame.to_voxel, made.frame.to_voxel)
    np.testing.assert_array_equal(again.arrays, made.arrays)


@pytest.mark.parametrize("size, spacing", [((192, 192, 150), 1.0), ((48, 48, 38), 4.0)])
def test_the_box_is_centred_where_that_of_the_paper_is(size, spacing):
    plane = samples.midline.Midline(np.eye(3)[0], 0.0, 1.0, 0.0, truth())
    found = frame.lay(np.ones(SHAPE, bool), VOXEL, plane, settings(size=size, spacing=spacing), box=template.BOX)
    to_template = np.linalg.inv(truth()) @ np.diag([*VOXEL, 1]) @ found.to_voxel
    assert found.size == size
    np.testing.assert_allclose(to_template @ [*(np.array(size) - 1) / 2, 1], [0, -17.5, 6.5, 1], atol=1e-9)
    np.testing.assert_allclose(to_template[:3, :3], spacing * np.eye(3), atol=1e-9)


@pytest.mark.parametrize("likeness, mirror, other", [(0.5, 0.9, "template"), (0.9, 0.6, "mirror image")])
def test_a_head_unlike_the_template_is_flagged_or_excluded(monkeypatch, likeness, mirror, other):
    plane = samples.midline.Midline(np.eye(3)[0], 0.0, mirror, float("nan"), truth())
    monkeypatch.setattr(template, "register", lambda *_: (plane, likeness))
    head, sentence = turned_head(), f"brain and {other} correlate by {min(likeness, mirror):.3f}; 0.7 is asked for"
    assert samples.cut(head, head.brain, False, settings()).rows[0]["flag"] == sentence
    with pytest.raises(ScanError, match=sentence + "; lower data.min_similarity"):
        samples.cut(head, head.brain, True, settings(poor_midline="exclude"))


def test_a_stack_of_pictures_is_refused():
    head = turned_head()._replace(stack=True)
    with pytest.raises(ScanError, match="kept as pictures, .* cannot be registered .*'straight' or 'centred' is"):
        samples.cut(head, head.brain, True, settings())


def test_without_the_library_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    head, config = turned_head(), settings(source="phantom", brain="nonzero")
    for ask in (
        lambda: samples.cut(head, head.brain, True, config),
        lambda: prepare.prepare(config, 0),
    ):
        with pytest.raises(
            ConfigError, match=r"needs the package SimpleITK, .*\(pip install -e '.\[mni\]'\); data.mid"
        ):
            ask()


@needs_library
def test_a_real_head_comes_to_lie_on_the_template(real_data):
    head = ixi.records(str(real_data / "ixi"))[0].load()
    voxel, there = voxel_sizes(head.affine), template.load()
    image = np.where(head.brain, head.voxels, 0)
    plane, likeness = template.register(image / image.max(), head.brain, voxel)
    matrix = np.diag([*(1 / voxel), 1]) @ plane.matrix @ there.affine
    brain = ndimage.affine_transform(head.brain * 1.0, matrix, output_shape=there.image.shape, order=1) > 0.5
    assert 2 * (brain & there.brain).sum() / (brain.sum() + there.brain.sum()) > 0.88  # 0.85 by centres of mass alone
    assert likeness > 0.8 and plane.similarity > 0.85

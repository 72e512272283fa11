"""A volume becomes slices of the right size, centred, normalised, and labelled by what they show."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.base import base
from symnorm_jax.data import midline, slices
from symnorm_jax.data.geometry import centred_affine
from symnorm_jax.data.volumes import Volume
from symnorm_jax.errors import ConfigError, ScanError


def settings(**changes) -> ConfigDict:
    config = base().data
    config.update(size=(24, 24), spacing=4.0, slice_spacing=4.0, min_brain=200.0, min_lesion=60.0, margin=1)
    config.update(brain="nonzero", **changes)
    return config


def ball(shape=(40, 48, 36), centre=(20, 24, 18), radius=14.0, spacing=2.0):
    """A textured ball of `radius` voxels, zero outside."""
    where = np.indices(shape) - np.asarray(centre).reshape(3, 1, 1, 1)
    inside = (where**2).sum(0) < radius**2
    texture = np.random.default_rng(0).uniform(80, 120, shape)
    return Volume(np.where(inside, texture, 0).astype(np.float32), centred_affine(shape, (spacing,) * 3))


def with_lesion(volume, low, high):
    """A lesion of 8 x 8 voxels in the middle of the axial planes from `low` to `high`, exclusive."""
    lesion = np.zeros(volume.voxels.shape, bool)
    lesion[16:24, 20:28, low:high] = True
    return volume._replace(lesion=lesion)


def test_shapes_ranges_and_masks_agree():
    made = slices.cut(ball(), healthy=True, config=settings())
    image, brain, lesion = np.moveaxis(made.arrays.astype(np.float32), -1, 0)
    assert made.arrays.shape == (len(made.rows), 24, 24, 3)
    assert image.min() == 0 and image.max() <= slices.BRIGHTEST and set(np.unique(brain)) == {0, 1}
    assert (image[brain == 0] == 0).all() and not lesion.any()
    positions = [row["position"] for row in made.rows]
    assert positions[0] == 0 and positions[-1] == 1 and positions == sorted(positions)


def test_voxel_size_is_respected():
    """Twice the voxel size makes the same ball twice as large in mm, four times in area."""
    small = slices.cut(ball(spacing=1.0), True, settings(size=(48, 48), spacing=2.0, slice_spacing=2.0))
    large = slices.cut(ball(spacing=2.0), True, settings(size=(48, 48), spacing=2.0, slice_spacing=2.0))
    areas = [max(row["brain_mm2"] for row in made.rows) for made in (small, large)]
    assert areas[0] == pytest.approx(np.pi * 14**2, rel=0.05) and areas[1] == pytest.approx(4 * areas[0], rel=0.05)


def test_the_head_is_centred_on_its_mid_line():
    made = slices.cut(ball(centre=(15, 24, 18)), True, settings())
    brain = made.arrays[len(made.rows) // 2, :, :, 1].astype(float)
    profile = brain.sum(1)
    assert abs((profile * np.arange(24)).sum() / profile.sum() - 11.5) < 0.3


def test_midline_finds_the_plane_and_says_how_well():
    symmetric = ball(centre=(15, 24, 18)).voxels > 0
    found = midline.find(symmetric.astype(float))
    assert found.voxel == 15 and found.similarity == pytest.approx(1)
    lopsided = symmetric * np.linspace(0.2, 1, 40).reshape(-1, 1, 1)
    assert midline.find(lopsided).similarity < 0.9


def test_intensity_does_not_depend_on_the_scanner_scale():
    volume = ball()
    one = slices.cut(volume, True, settings())
    other = slices.cut(volume._replace(voxels=volume.voxels * 37), True, settings())
    np.testing.assert_allclose(one.arrays.astype(float), other.arrays.astype(float), atol=2e-3)


def test_labels_abnormal_neither_and_healthy():
    """Slices every 2 mm: four show the lesion, one on either side is in the margin, the rest is healthy."""
    config = settings(slice_spacing=2.0, spacing=2.0, size=(48, 48), min_lesion=100.0)
    made = slices.cut(with_lesion(ball(), 16, 20), healthy=False, config=config)
    labels = [row["label"] for row in made.rows]
    first = labels.index("abnormal")
    assert labels[first - 1 : first + 5] == ["neither", *["abnormal"] * 4, "neither"]
    assert set(labels[: first - 1] + labels[first + 5 :]) == {"healthy"}


def test_a_trace_of_lesion_is_neither():
    made = slices.cut(with_lesion(ball(), 16, 20), False, settings(min_lesion=1e6, margin=0))
    labels = {(row["lesion_mm2"] > 0): row["label"] for row in made.rows}
    assert labels == {True: "neither", False: "healthy"}


def test_a_lesion_too_small_for_the_grid_still_makes_its_slice_neither():
    volume = ball(spacing=1.0, radius=18.0)
    lesion = np.zeros(volume.voxels.shape, bool)
    lesion[19:22, 23:26, 17:20] = True
    made = slices.cut(volume._replace(lesion=lesion), False, settings(margin=0, slice_spacing=2.0))
    assert all(row["lesion_mm2"] == 0 for row in made.rows)
    assert {row["label"] for row in made.rows} == {"neither", "healthy"}


def test_without_drawn_lesions_a_slice_is_what_its_person_is():
    for healthy, label in ((True, "healthy"), (False, "abnormal")):
        assert {row["label"] for row in slices.cut(ball(), healthy, settings()).rows} == {label}


def test_slices_with_little_brain_are_left_out_and_counted():
    few, many = (slices.cut(ball(), True, settings(min_brain=area)) for area in (1000.0, 100.0))
    assert few.left_out > many.left_out and len(few.rows) + few.left_out == len(many.rows) + many.left_out
    with pytest.raises(ScanError, match="no slice shows 1e"):
        slices.cut(ball(), True, settings(min_brain=1e9))


def test_the_head_outline_is_filled_and_excludes_specks():
    volume = ball()
    hollow = volume.voxels.copy()
    hollow[17:23, 21:27, 15:21] = 0
    hollow[:2, :2, :2] = 100
    mask = slices.brain_mask(volume._replace(voxels=hollow), "head")
    assert mask[20, 24, 18] and not mask[0, 0, 0]


def test_brain_mask_settings_that_cannot_be_met():
    with pytest.raises(ScanError, match="no brain mask file"):
        slices.brain_mask(ball(), "file")
    with pytest.raises(ConfigError, match="data.brain='skull'; one of"):
        slices.brain_mask(ball(), "skull")

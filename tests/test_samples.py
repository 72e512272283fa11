"""A volume becomes samples of the right size, centred, normalised, and labelled by what they show."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs.base import base
from symnorm_jax.data import samples
from symnorm_jax.data.volumes import Volume
from symnorm_jax.errors import ScanError
from symnorm_jax.geometry import centred_affine


def settings(**changes) -> ConfigDict:
    config = base().data
    config.update(size=(24, 24), spacing=4.0, slice_spacing=4.0, min_brain=200.0, min_lesion=60.0, margin=1)
    config.update({"midline": "centred"} | changes)  # a ball has no mid-line of its own
    return config


def cut(volume, healthy, config):
    return samples.cut(volume, volume.voxels != 0, healthy, config)


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


def turned_box(degrees):
    """A box longer from back to front than wide, in a volume turned about the axis that runs up."""
    x, y, z = np.indices((48, 56, 36)) - np.array([23.5, 27.5, 17.5]).reshape(3, 1, 1, 1)
    turn = np.deg2rad(degrees)
    across, along = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    inside = (abs(across) < 12) & (abs(along) < 20) & (abs(z) < 12)
    voxels = np.where(inside, 100 + 20 * np.cos(across / 3) + along, 0).astype(np.float32)
    return Volume(voxels, centred_affine(voxels.shape, (2.0,) * 3))


def middle(made):
    return made.arrays[len(made.rows) // 2, :, :, 1].astype(float)


def test_shapes_ranges_and_masks_agree():
    made = cut(ball(), healthy=True, config=settings())
    image, brain, lesion = np.moveaxis(made.arrays.astype(np.float32), -1, 0)
    assert made.arrays.shape == (len(made.rows), 24, 24, 3)
    assert image.min() == 0 and image.max() <= samples.BRIGHTEST and set(np.unique(brain)) == {0, 1}
    assert (image[brain == 0] == 0).all() and not lesion.any()
    positions = [row["position"] for row in made.rows]
    assert positions[0] == 0 and positions[-1] == 1 and positions == sorted(positions)


def test_voxel_size_is_respected():
    """Twice the voxel size makes the same ball twice as large in mm, four times in area."""
    small = cut(ball(spacing=1.0), True, settings(size=(48, 48), spacing=2.0, slice_spacing=2.0))
    large = cut(ball(spacing=2.0), True, settings(size=(48, 48), spacing=2.0, slice_spacing=2.0))
    areas = [max(row["brain_mm2"] for row in made.rows) for made in (small, large)]
    assert areas[0] == pytest.approx(np.pi * 14**2, rel=0.05) and areas[1] == pytest.approx(4 * areas[0], rel=0.05)


def test_the_head_is_centred_on_its_mid_line():
    made = cut(ball(centre=(15, 24, 18)), True, settings())
    brain = made.arrays[len(made.rows) // 2, :, :, 1].astype(float)
    profile = brain.sum(1)
    assert abs((profile * np.arange(24)).sum() / profile.sum() - 11.5) < 0.3


def test_a_tilted_head_is_straightened_unless_it_is_only_to_be_centred():
    """A box of distinct halves, turned by 8 degrees about the axis that runs up: straight slices are mirror images."""
    tilted = turned_box(degrees=8.0)
    straight, centred = (cut(tilted, True, settings(midline=kind)) for kind in ("straight", "centred"))
    assert straight.rows[0]["yaw"] == pytest.approx(8, abs=0.7) and centred.rows[0]["yaw"] == 0
    unlike = [np.abs(brain - brain[::-1]).mean() for brain in (middle(straight), middle(centred))]
    assert unlike[0] < 0.4 * unlike[1]
    assert straight.rows[0]["mirror_similarity"] > centred.rows[0]["mirror_similarity"]


def test_a_brain_unlike_its_mirror_image_is_flagged_or_excluded():
    config = settings(min_similarity=0.999)
    assert "0.999 is asked for" in cut(ball(), True, config).rows[0]["flag"]
    assert cut(ball(), True, settings(min_similarity=-1.0)).rows[0]["flag"] == ""
    with pytest.raises(ScanError, match="0.999 is asked for; lower data.min_similarity"):
        cut(ball(), True, settings(min_similarity=0.999, poor_midline="exclude"))


def test_intensity_does_not_depend_on_the_scanner_scale():
    volume = ball()
    one = cut(volume, True, settings())
    other = cut(volume._replace(voxels=volume.voxels * 37), True, settings())
    np.testing.assert_allclose(one.arrays.astype(float), other.arrays.astype(float), atol=2e-3)


def test_labels_abnormal_neither_and_healthy():
    """Slices every 2 mm: four show the lesion, one on either side is in the margin, the rest is healthy."""
    config = settings(slice_spacing=2.0, spacing=2.0, size=(48, 48), min_lesion=100.0)
    made = cut(with_lesion(ball(), 16, 20), healthy=False, config=config)
    labels = [row["label"] for row in made.rows]
    first = labels.index("abnormal")
    assert labels[first - 1 : first + 5] == ["neither", *["abnormal"] * 4, "neither"]
    assert set(labels[: first - 1] + labels[first + 5 :]) == {"healthy"}


def test_a_trace_of_lesion_is_neither():
    made = cut(with_lesion(ball(), 16, 20), False, settings(min_lesion=1e6, margin=0))
    labels = {(row["lesion_mm2"] > 0): row["label"] for row in made.rows}
    assert labels == {True: "neither", False: "healthy"}


def test_a_lesion_too_small_for_the_grid_still_makes_its_slice_neither():
    volume = ball(spacing=1.0, radius=18.0)
    lesion = np.zeros(volume.voxels.shape, bool)
    lesion[19:22, 23:26, 17:20] = True
    made = cut(volume._replace(lesion=lesion), False, settings(margin=0, slice_spacing=2.0))
    assert all(row["lesion_mm2"] == 0 for row in made.rows)
    assert {row["label"] for row in made.rows} == {"neither", "healthy"}


def test_without_drawn_lesions_a_slice_is_what_its_person_is():
    for healthy, label in ((True, "healthy"), (False, "abnormal")):
        assert {row["label"] for row in cut(ball(), healthy, settings()).rows} == {label}


def test_slices_with_little_brain_are_left_out_and_counted():
    few, many = (cut(ball(), True, settings(min_brain=area)) for area in (1000.0, 100.0))
    assert few.left_out > many.left_out and len(few.rows) + few.left_out == len(many.rows) + many.left_out
    with pytest.raises(ScanError, match="no slice shows 1e"):
        cut(ball(), True, settings(min_brain=1e9))


def test_robust_intensities_have_the_median_at_0_and_one_unit_whatever_the_scanner_s():
    """The mid-line, and so where slices lie, is the same as with percentiles."""
    head = ball()
    head.voxels[14:20, 20:26, 16:20] *= 9  # far above all else
    made, scaled = (cut(head._replace(voxels=a * head.voxels), True, settings(normalise="robust")) for a in (1, 7))
    np.testing.assert_allclose(made.arrays, scaled.arrays, atol=2e-3)
    image, brain = made.arrays[..., 0].astype(float), made.arrays[..., 1] > 0
    inside = image[brain]
    assert abs(np.median(inside)) < 0.05 and (image[~brain] == 0).all() and 2 < inside.max() <= samples.FARTHEST
    values = np.random.default_rng(0).normal(7, 2, 1000)
    scaled = samples.robust(values, values, (1, 99))
    assert np.median(scaled) == 0 and np.median(np.abs(scaled)) == pytest.approx(1 / samples.UNIT)
    plain = cut(head, True, settings())
    np.testing.assert_array_equal(plain.frame.to_voxel, made.frame.to_voxel)


def test_a_brain_that_is_mostly_one_value_cannot_be_scaled_robustly():
    head = ball()
    head.voxels[:, :, 18:] = 50
    with pytest.raises(ScanError, match="half of the brain or more has the value 50, .*; 'percentiles' can"):
        cut(head, True, settings(normalise="robust"))


def test_heights_are_mm_from_slice_to_slice():
    made = cut(ball(), True, settings(slice_spacing=4.0))
    heights = [row["height_mm"] for row in made.rows]
    np.testing.assert_allclose(np.diff(heights), 4.0, atol=1e-3)

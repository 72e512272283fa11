"""What the values of a mask mean, read once for all sources, and what cannot be meant is refused by name."""

import re

import layouts_lesion
import numpy as np
import pytest
from scipy import ndimage

from symnorm_jax.data import brain, samples
from symnorm_jax.data.masks import Reading, labels_of, marked
from symnorm_jax.data.volumes import Volume, read_volume
from symnorm_jax.errors import ConfigError, ScanError
from symnorm_jax.notebooks import read

DRAWN = np.zeros((6, 6, 6), np.float32)
DRAWN[1:3, 2:4, 2:5] = 1
SOFT = ndimage.gaussian_filter(DRAWN, 1.0)
REGIONS = DRAWN + (np.arange(6)[:, None, None] == 2) * DRAWN  # 0, 1 and 2


@pytest.mark.parametrize(
    ("values", "how"),
    [
        (DRAWN, "two"),
        (255 * DRAWN, "two"),
        (DRAWN / 255, "two"),  # by a slope
        (7 * DRAWN, "two"),
        (DRAWN + 1e-6, "two"),  # what scaling leaves
        (np.where(DRAWN > 0, 0.9999, -1e-7), "two"),  # what splines leave
        (DRAWN > 0, "two"),
        (REGIONS, "positive"),
        (SOFT / SOFT[DRAWN > 0].min() / 2, "soft"),
        (DRAWN + 1, "2"),  # two values, one of which is named
        (-DRAWN, "-1"),
        (255 * DRAWN, "soft"),
        (REGIONS + 3 * (REGIONS == 0), "1,2"),
    ],
)
def test_what_is_meant_is_marked(values, how):
    np.testing.assert_array_equal(marked(values, how, "lesion", "m.nii"), DRAWN > 0)


def test_nothing_is_marked_in_an_empty_mask():
    for how in ("two", "positive", "soft", "1,2"):
        assert not marked(0 * DRAWN, how, "lesion", "m.nii").any()


@pytest.mark.parametrize(
    ("values", "how", "found"),
    [
        (SOFT, "two", r"\d+ values from "),
        (REGIONS, "two", "0, 1, 2"),
        (-DRAWN, "two", "-1, 0"),  # 255 in a signed byte
        (np.where(DRAWN > 0, 1, -1), "two", "-1, 1"),
        (DRAWN * 0 + 1, "two", "1;"),
        (DRAWN * 0 + 1, "soft", "1;"),
        (1e-6 * DRAWN, "two", "0, 1e-06"),
        (2 * SOFT, "positive", "whole numbers"),
        (SOFT, "1,2", "whole numbers"),
        (-SOFT, "soft", "0, of which there must be some"),
    ],
)
def test_what_can_mean_several_things_is_refused_by_name(values, how, found):
    with pytest.raises(ScanError, match=f"^m.nii: the lesion mask holds .*{found}.* allowed"):
        marked(values, how, "lesion", "m.nii")


def test_ways_to_read_are_checked():
    assert labels_of("data.lesion_values", "1,3") == (1, 3) and labels_of("data.lesion_values", "soft") == ()
    for how in ("", "above", "1;3", "1.5"):
        with pytest.raises(ConfigError, match=f"data.brain_values='{how}'; two, positive, soft or labels"):
            labels_of("data.brain_values", how)


def test_a_mask_file_is_read_as_configured_and_one_that_marks_nothing_is_noted(tmp_path):
    voxels, _, lesion = layouts_lesion.person(0)
    image = layouts_lesion.write(tmp_path / "t1.nii.gz", voxels)
    parts = layouts_lesion.write(
        tmp_path / "parts.nii.gz", lesion + np.uint8(2) * (lesion & (np.arange(20) == 5)[:, None, None])
    )
    with pytest.raises(ScanError, match="parts.nii.gz: the lesion mask holds 0, 1, 3; 0 and one other value"):
        read_volume(image, parts)
    assert read_volume(image, parts, reading=Reading("1,3")).lesion.sum() == lesion.sum()
    core = read_volume(image, parts, reading=Reading("3"))
    assert 0 < core.lesion.sum() < lesion.sum() and core.notes == ()
    assert read_volume(image, parts, reading=Reading("4")).notes == (
        "the lesion mask parts.nii.gz reaches 3 and marks nothing",
    )


def test_brain_masks_from_files_have_bounds():
    ball = np.linalg.norm(np.indices((40, 40, 40)) - 19.5, axis=0) < 17  # 1.3 litres at 4 mm
    volume = Volume(np.random.default_rng(0).random(ball.shape), np.diag([4.0, 4, 4, 1]))
    assert brain.brain_mask(volume._replace(brain=ball), "file") is ball
    with pytest.raises(ScanError, match="the brain mask has 2[67]\\d\\d ml; at most 2500 ml are allowed"):
        brain.brain_mask(volume._replace(brain=~ball), "file")
    tight = volume._replace(affine=np.diag([3.5, 3.5, 3.5, 1]), brain=~ball)  # small enough, but around a brain
    with pytest.raises(ScanError, match="the brain mask holds 100% of the grid's four upright edges"):
        brain.brain_mask(tight, "file")


def test_lesions_that_cannot_be_so_are_flagged_and_a_mask_around_the_brain_is_refused():
    config = read("demo:tiny").config.data
    voxels, mask, lesion = layouts_lesion.person(0)
    volume = Volume(voxels.astype(np.float32), np.diag([8.0, 8, 8, 1]), notes=("said before",))
    speck = np.zeros_like(lesion)
    speck[10, 12, 8] = True
    coarse = read("demo:tiny", ["--config.data.spacing=24.0", "--config.data.slice_spacing=24.0"]).config.data
    flags = {}
    for name, drawn in (("sound", lesion), ("all", mask), ("beside", ~mask & (voxels > 0))):
        flags[name] = samples.cut(volume._replace(lesion=drawn), mask, False, config).rows[0]["flag"]
    assert flags["sound"].startswith("said before") and "lesion" not in flags["sound"]
    assert "100% of the brain is lesion" in flags["all"]
    assert re.search(r"\d+% of the lesion lies outside the brain", flags["beside"])
    assert "too small for the grid" in samples.cut(volume._replace(lesion=speck), mask, False, coarse).rows[0]["flag"]
    at_odds = samples.cut(volume._replace(lesion=lesion), mask, True, config).rows[0]["flag"]
    assert "a healthy person has a lesion" in at_odds
    with pytest.raises(ScanError, match="9.% of the brain mask is 0 in the image"):
        samples.cut(volume._replace(voxels=volume.voxels * mask), ~mask | lesion, True, config)

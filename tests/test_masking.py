"""The law of each family of masks, and that a cover reconstructs each patch exactly once."""

import jax.numpy as jnp
import numpy as np
import pytest

from symnorm_jax.errors import ConfigError
from symnorm_jax.geometry import mirror
from symnorm_jax.masking import PARTITIONS, cover, draw, parts, patch_grid, widen

GRID = (8, 6)
RATIOS = {kind: (0.5,) if kind in ("hemisphere", "checkerboard") else (0.5, 0.25) for kind in PARTITIONS}
CASES = [(kind, ratio) for kind, ratios in RATIOS.items() for ratio in ratios]


def masks(kind, ratio, rng, count=200):
    return np.stack([draw(kind, GRID, ratio, rng) for _ in range(count)])


@pytest.mark.parametrize("kind, ratio", CASES)
def test_a_cover_hides_each_patch_exactly_once(kind, ratio):
    whole = cover(kind, GRID, ratio)
    assert whole.shape == (parts(kind, ratio), *GRID) and whole.dtype == bool
    assert (whole.sum(0) == (kind != "none")).all()


@pytest.mark.parametrize("kind", ["exclusive", "paired", "random"])
def test_several_covers_hide_each_patch_once_each_and_differ(kind):
    first, second = cover(kind, GRID, 0.5, covers=2).reshape(2, 2, *GRID)
    assert (first.sum(0) == 1).all() and (second.sum(0) == 1).all() and (first != second).any()


@pytest.mark.parametrize("kind", ["hemisphere", "checkerboard", "none"])
def test_a_family_without_chance_has_one_cover(kind):
    np.testing.assert_array_equal(cover(kind, GRID, 0.5, covers=4), cover(kind, GRID, 0.5))


def test_covers_are_the_same_on_every_call():
    np.testing.assert_array_equal(cover("exclusive", GRID, 0.25), cover("exclusive", GRID, 0.25))


@pytest.mark.parametrize("ratio", [0.5, 0.25])
def test_exclusive_never_hides_a_patch_and_its_twin(ratio, rng):
    for mask in (*masks("exclusive", ratio, rng), *cover("exclusive", GRID, ratio)):
        assert not (mask & mirror(mask)).any()


@pytest.mark.parametrize("ratio", [0.5, 0.25])
def test_paired_hides_a_patch_with_its_twin(ratio, rng):
    for mask in (*masks("paired", ratio, rng), *cover("paired", GRID, ratio)):
        np.testing.assert_array_equal(mask, mirror(mask))


def test_hemisphere_hides_one_whole_half(rng):
    for mask in masks("hemisphere", 0.5, rng, 20):
        halves = mask[:4], mask[4:]
        assert {half.all() for half in halves} == {True, False} and not (mask & mirror(mask)).any()


def test_checkerboard_alternates_and_leaves_every_twin_visible(rng):
    for mask in masks("checkerboard", 0.5, rng, 20):
        assert (mask[1:] != mask[:-1]).all() and (mask[:, 1:] != mask[:, :-1]).all()
        assert not (mask & mirror(mask)).any()


@pytest.mark.parametrize("kind", ["exclusive", "paired", "checkerboard", "random"])
@pytest.mark.parametrize("grid", [(8, 8), (4, 4), (16, 12), (2, 4), (8, 4, 6)])
def test_a_mask_hides_each_side_and_each_end_equally(kind, grid, rng):
    drawn = [draw(kind, grid, 0.5, rng) for _ in range(50)]
    for mask in (*drawn, *cover(kind, grid, 0.5, covers=8)):
        left, right = np.split(mask, 2)
        front, back = np.split(mask, 2, axis=1)
        assert left.sum() == right.sum() == mask.size // 4 and front.sum() == back.sum()


@pytest.mark.parametrize("kind", ["exclusive", "random"])
def test_equal_shares_leave_the_pattern_to_chance(kind, rng):
    drawn = {mask.tobytes() for mask in masks(kind, 0.5, rng)}
    assert len(drawn) > 100


def test_random_breaks_both_laws_of_symmetry(rng):
    drawn = masks("random", 0.5, rng)
    twins = drawn[:, ::-1]
    assert (drawn & twins).any() and (drawn != twins).any()


def test_none_hides_nothing(rng):
    assert not masks("none", 0.5, rng).any() and not cover("none", GRID, 0.5).any()


@pytest.mark.parametrize("kind, ratio", [case for case in CASES if case[0] != "none"])
def test_every_patch_is_hidden_at_the_ratio(kind, ratio, rng):
    share = masks(kind, ratio, rng, 2000).mean(0)
    np.testing.assert_allclose(share, ratio, atol=5 * np.sqrt(ratio * (1 - ratio) / 2000))


def test_masks_are_three_dimensional_where_the_grid_is(rng):
    mask = draw("exclusive", (4, 3, 2), 0.5, rng)
    assert mask.shape == (4, 3, 2) and not (mask & mirror(mask)).any()


def test_widen_repeats_each_patch_over_its_pixels():
    hidden = jnp.asarray([[[True, False], [False, True]]])
    np.testing.assert_array_equal(widen(hidden, 3)[0, ..., 0], np.kron(np.eye(2), np.ones((3, 3))))


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        (lambda: parts("mirror", 0.5), "mask.kind='mirror'; one of .*exclusive"),
        (lambda: parts("random", 0.75), "mask.ratio=0.75"),
        (lambda: parts("hemisphere", 0.25), "mask.ratio=0.25 .* 0.5 is allowed"),
        (lambda: patch_grid((64, 64), 7), "mask.patch=7 does not fit"),
        (lambda: patch_grid((24, 24), 8), "mask.patch=8 does not fit"),
    ],
)
def test_wrong_settings_are_refused_with_the_allowed_ones(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        wrong()

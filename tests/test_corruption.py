"""What slices are corrupted by: where, by how much, and that it is the same in whatever units a slice comes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from symnorm_jax.corruption import add_noise, coarse_noise, corrupt, erase, spread
from symnorm_jax.training.sharding import by_example, make_mesh

ERASING = ConfigDict({"rectangles": 1, "sides": (0.1, 0.3)})


pytestmark = pytest.mark.usefixtures("quick_compilation")


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def noise(count, size=(32, 32), grid=8, channels=1, seed=0):
    settings = ConfigDict({"deviation": 0.2, "grid": grid})
    images = jnp.zeros((count, *size, channels))
    return np.asarray(jax.jit(lambda keys: coarse_noise(images, keys, settings))(keys(count, seed)))


def weights(side, grid):
    """Linear interpolation from the centres of `grid` cells to those of `side` pixels, `[side, grid]`."""
    centres = [(np.arange(n) + 0.5) / n for n in (side, grid)]
    return np.stack([np.interp(*centres, unit) for unit in np.eye(grid)], 1)


def erased(count, settings=ERASING, size=(40, 60)):
    """Where images of brain all over are erased, `[count, *size, 2]`, and what they are then."""
    images, brain = np.random.default_rng(0).random((count, *size, 2), np.float32), np.ones((count, *size, 1))
    found = np.asarray(jax.jit(lambda keys: erase(images, brain, keys, settings))(keys(count)))
    return found != images, found


@pytest.mark.parametrize("grid", [8, 16])
def test_coarse_noise_has_the_deviation_of_what_is_interpolated(grid):
    drawn = noise(400, grid=grid)
    expected = 0.2 * (weights(32, grid) ** 2).sum(1).mean()  # squared deviations of two axes: the root of the product
    assert drawn.std() == pytest.approx(expected, rel=0.03) and abs(drawn.mean()) < 0.01


def test_coarse_noise_is_coarse():
    """Cells are 4 pixels wide: neighbours correlate as interpolation has it, pixels two cells apart do not."""
    drawn, covariance = noise(400), weights(32, 8) @ weights(32, 8).T
    for axis in (1, 2):
        for lag in (1, 2, 8, 12):
            found = (drawn * np.roll(drawn, lag, axis)).mean() / (drawn**2).mean()
            places = np.arange(32)
            expected = covariance[places, places - lag].mean() / np.trace(covariance) * 32
            assert found == pytest.approx(expected, abs=0.05)
            assert abs(found) < 0.1 if lag >= 8 else found > 0.5


def test_no_place_of_the_grid_of_noise_is_special():
    """Without the roll, deviation at the centres of cells and at the rim is half as large again as between them."""
    drawn, still = noise(1000, grid=4), (weights(32, 4) ** 2).sum(1)
    assert still.max() / still.min() > 1.9
    for axes in ((0, 1, 3), (0, 2, 3)):
        power = (drawn**2).mean(axes)
        assert power.max() / power.min() < 1.35


def test_coarse_noise_depends_on_nothing_but_the_key():
    settings, both = ConfigDict({"deviation": 0.2, "grid": 4}), keys(2)
    of = jax.jit(lambda images, keys: coarse_noise(images, keys, settings))
    first, swapped = of(jnp.zeros((2, 8, 8, 2)), both), of(jnp.ones((2, 8, 8, 2)), both[::-1])
    np.testing.assert_array_equal(first, swapped[::-1])
    assert np.abs(first[0] - first[1]).max() > 0.1 and np.abs(first[..., 0] - first[..., 1]).max() > 0.1


def test_what_is_erased_is_a_rectangle_and_the_rest_is_kept():
    gone, found = erased(200)
    for one, mask in zip(found, gone, strict=True):  # each contrast has its own mean
        assert not mask.any() or [len(np.unique(one[mask[..., 0], contrast])) for contrast in (0, 1)] == [1, 1]
        assert not mask.any() or len(np.unique(one[mask])) == 2
    np.testing.assert_array_equal(gone[..., 0], gone[..., 1])
    gone = gone[..., 0]
    rows, columns = gone.any(2), gone.any(1)
    np.testing.assert_array_equal(gone, rows[:, :, None] & columns[:, None])
    for lines, side in ((rows, 40), (columns, 60)):
        assert (np.abs(np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(int))).sum(1) <= 2).all()  # in one piece
        assert lines.sum(1).max() <= 0.3 * side + 1
        inner = lines[~(lines[:, 0] | lines[:, -1])].sum(1)  # not cut off by the rim
        assert inner.min() >= 0.1 * side - 1 and inner.max() > 0.25 * side and inner.min() < 0.15 * side


def test_the_share_that_is_erased():
    """A side s about a centre uniform on the slice shows s - s**2 / 4 of itself on average, the rim cuts off the rest:
    0.2 - (0.01 + 0.04 / 12 + 0.03) / 4 = 0.1892 for s uniform on 0.1 to 0.3; both sides together the square of it."""
    expected = (0.2 - (0.3**3 - 0.1**3) / 3 / 0.2 / 4) ** 2
    assert expected == pytest.approx(0.1892**2, rel=1e-3)
    assert erased(2000, size=(32, 32))[0].mean() == pytest.approx(expected, rel=0.05)
    three = ConfigDict({"rectangles": 3, "sides": (0.3, 0.3)})
    assert expected < erased(200, three)[0].mean() < 3 * 0.3**2


def heads(count=4, size=(24, 20)):
    rng = np.random.default_rng(1)
    brain = np.zeros((count, *size, 1), np.float32)
    brain[:, 4:20, 3:18] = 1
    return rng.uniform(size=(count, *size, 1)).astype(np.float32) * brain, brain


def test_spread_is_the_deviation_in_the_brain_and_never_0():
    image, brain = heads()
    expected = [one[mask > 0].std() for one, mask in zip(image, brain, strict=True)]
    np.testing.assert_allclose(spread(image, brain).ravel(), expected, rtol=1e-5)
    assert (spread(0 * image, brain) > 0).all() and (spread(image, 0 * brain) > 0).all()


BLOBS = ConfigDict({"deviation": 1.0, "grid": 4, "share": 0.3})
CORRUPTIONS = {
    "noise": (add_noise, ConfigDict({"deviation": 1.7, "grid": 4})),
    "erasing": (erase, ERASING),
    "blobs": (corrupt, BLOBS),
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruption_is_the_same_in_any_unit_and_leaves_alone_what_is_no_brain(name):
    """Intensities stretched and moved, as by another `data.normalise`, are corrupted as before, stretched and moved."""
    of, settings = CORRUPTIONS[name]
    image, brain = heads()
    corrupted = jax.jit(lambda image: of(image, brain, keys(4), settings))
    found, stretched = corrupted(image), corrupted((1.3 * image - 0.8) * brain)
    np.testing.assert_allclose(stretched, (1.3 * found - 0.8) * brain, atol=1e-5)
    assert (np.abs(found - image).max((1, 2, 3)) > 0.1).any() and (found[brain == 0] == 0).all()


def test_noise_is_in_deviations_of_the_brain():
    image, brain = heads(400, (32, 32))
    added = np.asarray(add_noise(image, brain, keys(400), ConfigDict({"deviation": 1.7, "grid": 8})) - image)
    drawn = noise(400, grid=8)
    assert added[brain > 0].std() / image[brain > 0].std() == pytest.approx(1.7 / 0.2 * drawn.std(), rel=0.03)


def corrupted(image, brain, these, **changes):
    settings = ConfigDict({**BLOBS, **changes})
    return np.asarray(jax.jit(lambda *given: corrupt(*given, settings))(image, brain, these))


def test_blobs_belong_to_the_example_and_its_key():
    """Alone, elsewhere in the batch and on several devices a slice is corrupted as before; by another key not."""
    image, brain = heads()
    found, again = corrupted(image, brain, keys(4)), corrupted(image, brain, keys(4, seed=1))
    shared = [jax.device_put(x[::-1], by_example(make_mesh())) for x in (image, brain, keys(4))]
    np.testing.assert_allclose(corrupted(*shared)[::-1], found, atol=1e-5)
    np.testing.assert_allclose(corrupted(image[2:3], brain[2:3], keys(4)[2:3]), found[2:3], atol=1e-5)
    assert (np.abs(found - again).max((1, 2, 3)) > 0.1).all()


def test_blobs_cover_up_to_their_share_and_leave_the_rest():
    """Of foreign tissue and of noise, each between none and the share: together about the share."""
    image, brain = heads(200)
    for share in (0.05, 0.3):
        changed = corrupted(image, brain, keys(200), share=share) != image
        of_each = changed.sum((1, 2, 3)) / brain.sum((1, 2, 3))
        assert share / 2 < of_each.mean() < 2 * share and of_each.std() > share / 4


def test_foreign_tissue_is_from_the_slice_itself_and_made_brighter_or_darker_by_the_deviation():
    image, brain = heads(50)
    limits = np.array([(one[mask > 0].min(), one[mask > 0].max()) for one, mask in zip(image, brain, strict=True)])
    low, high = limits.T[:, :, None, None, None]
    for deviation, leaves in ((1e-6, False), (3.0, True)):
        found = corrupted(image, brain, keys(50), deviation=deviation)
        darker, brighter = ((found < low - 1e-4) & (brain > 0)).any(), (found > high + 1e-4).any()
        assert darker == brighter == leaves and np.abs(found - image).max() > 0.3

"""Random views: their geometry against SciPy, their intensities by hand, and that each depends on its own key alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ml_collections import ConfigDict
from scipy import ndimage

from configs.systems.volumes import VIEWS
from symnorm_jax.errors import ConfigError
from symnorm_jax.geometry import mirror
from symnorm_jax.systems import views
from symnorm_jax.systems.views import Geometry

SHAPE = (12, 14, 10)
resample, resample_nearest = jax.jit(views.resample), jax.jit(views.resample_nearest)
standardise = jax.jit(views.standardise)
OFF = {"crop": (1.0, 1.0, 1.0), "flip": 0.0, "rotate": (0.0, 0.785), "shift": (0.0, 0.5), "gamma": (0.0, 0.5, 1.5)}


pytestmark = pytest.mark.usefixtures("quick_compilation")


def section():
    return views.checked(ConfigDict(VIEWS))


def settings(**changes):
    return views.checked(ConfigDict(VIEWS | changes))


def keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@pytest.fixture(scope="module")
def heads():
    """Four volumes of noise, each in a brain that is an ellipsoid a little off the middle; two channels."""
    rng = np.random.default_rng(0)
    place = [np.linspace(-1, 1, side) for side in SHAPE]
    x, y, z = np.meshgrid(*place, indexing="ij")
    brain = np.stack([(x - 0.1 * n) ** 2 + y**2 + z**2 < 0.8 for n in range(4)])[..., None].astype(np.float32)
    return jnp.asarray(rng.uniform(0.2, 1, (4, *SHAPE, 2)), jnp.float32) * brain, jnp.asarray(brain)


def smooth(shape):
    """A smooth phantom `[X, Y, Z]`, different along every axis."""
    x, y, z = np.meshgrid(*(np.arange(side) / side for side in shape), indexing="ij")
    return np.sin(4 * x) + np.cos(3 * y + x) * (1 + z) ** 2 + 0.3 * z * y


def geometry(start=(0, 0, 0), size=SHAPE, side=(1, 1, 1), angle=0.0):
    return Geometry(*(jnp.asarray(one, jnp.float32) for one in (start, size, side, angle)))


def by_scipy(volume, where, order):
    """Crop, enlarge, flip and turn by the matrix of all four, with `ndimage.affine_transform`.

    Turning and flipping are about the middle of the box. Voxel o of the box, taken from its middle, is place
    (o + n / 2) * size / n - 1 / 2 of the crop.
    """
    start, size = (np.asarray(one).astype(int) for one in where[:2])
    cut = volume[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))]
    cos, sin = np.cos(float(where.angle)), np.sin(float(where.angle))
    turn = np.diag(np.asarray(where.side, float)) @ [[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]]
    shape, scale = np.array(volume.shape), size / np.array(volume.shape)
    matrix = np.diag(scale) @ turn
    offset = scale * shape / 2 - 0.5 - matrix @ ((shape - 1) / 2)
    return ndimage.affine_transform(cut, matrix, offset, output_shape=volume.shape, order=order, mode="nearest")


@pytest.mark.parametrize(
    "where",
    [
        geometry((2, 3, 1), (7, 9, 6)),
        geometry(angle=0.6),
        geometry((1, 0, 3), (8, 14, 5), (-1, 1, 1), -0.7),
    ],
)
def test_geometry_is_that_of_scipy(where):
    volume, mask = smooth(SHAPE), smooth(SHAPE) > 1.5
    found = resample(jnp.asarray(volume, jnp.float32)[..., None], where)
    np.testing.assert_allclose(found[..., 0], by_scipy(volume, where, 1), atol=1e-4)
    nearest = np.asarray(resample_nearest(jnp.asarray(mask)[..., None], where))[..., 0]
    assert (nearest != by_scipy(mask.astype(int), where, 0)).mean() < 0.01  # only where two voxels are as near


def test_a_rotation_turns_from_left_right_towards_back_front():
    """A quarter turn takes what lies on the right (x = 4, y = 2 about the middle (2, 2)) to the front (2, 4)."""
    volume = jnp.zeros((5, 5, 3, 1)).at[4, 2, 1].set(1)
    found = resample(volume, geometry(size=(5, 5, 3), angle=np.pi / 2))
    np.testing.assert_allclose(found, jnp.zeros((5, 5, 3, 1)).at[2, 4, 1].set(1), atol=1e-6)


def test_one_trilinear_resampling_keeps_a_linear_ramp(rng):
    """Interpolation of a ramp is exact, so the whole chain must be an affine map of its places within the crop."""
    slope = rng.normal(size=3)
    ramp = np.einsum("axyz,a->xyz", np.indices(SHAPE), slope)
    where = geometry((2, 3, 1), (9, 10, 8), (-1, 1, 1), 0.3)
    found = np.asarray(resample(jnp.asarray(ramp, jnp.float32)[..., None], where))[..., 0]
    x, y, z = views.places(where, SHAPE)
    places = np.stack(np.broadcast_arrays(x[..., None], y[..., None], z[None, None]))
    np.testing.assert_allclose(found, np.einsum("axyz,a->xyz", places, slope), atol=1e-4)


def test_with_every_step_off_the_view_is_the_standardised_image(heads):
    image, brain = heads
    found, mask = views.draw(image, brain, keys(4), settings(**OFF))
    np.testing.assert_array_equal(mask, brain)
    np.testing.assert_array_equal(resample(image[0], geometry()), image[0])  # to the bit
    for i in range(4):
        inside = np.asarray(brain[i, ..., 0]) > 0
        voxels = np.asarray(image[i], np.float64)[inside]
        expected = (voxels - voxels.mean(0)) / voxels.std(0)
        np.testing.assert_allclose(found[i][inside], expected, atol=3e-6)
        assert (found[i][~inside] == 0).all()


def test_a_flip_is_the_mirror(heads):
    image, brain = heads
    flipped, mask = views.draw(image, brain, keys(4), settings(**OFF | {"flip": 1.0}))
    straight, _ = views.draw(image, brain, keys(4), settings(**OFF))
    for i in range(4):
        np.testing.assert_array_equal(mask[i], mirror(brain[i]))
        np.testing.assert_allclose(flipped[i], mirror(straight[i]), atol=3e-6)  # sums run the other way
        np.testing.assert_array_equal(resample(image[i], geometry(side=(-1, 1, 1))), mirror(image[i]))


def test_z_score_by_hand():
    """1, 2, 3 and 6 in the brain: mean 3, squared deviations 4, 1, 0 and 9, population deviation sqrt(14 / 4)."""
    image = jnp.array([1, 2, 3, 6, 100.0]).reshape(5, 1, 1, 1)
    brain = jnp.array([1, 1, 1, 1, 0.0]).reshape(5, 1, 1, 1)
    found = standardise(image, brain).ravel()
    np.testing.assert_allclose(found, np.array([-2, -1, 0, 3, 0]) / np.sqrt(3.5), atol=1e-6)


def test_the_z_score_of_what_is_flat_is_zero(rng):
    brain = jnp.ones((20, 20, 20, 1))
    assert (standardise(brain * jnp.array([0, 0.1, 1e4, 1e-6]).reshape(1, 1, 1, 4), brain) == 0).all()
    assert (standardise(brain, 0 * brain) == 0).all()
    rounded = jnp.where(jnp.asarray(rng.uniform(size=brain.shape)) < 0.5, 1.0, 1.0 + 2.0**-23)  # as a resampling does
    assert (standardise(rounded, brain) == 0).all()
    far = standardise(jnp.asarray(10_000 + rng.normal(size=brain.shape), jnp.float32), brain)  # far from 0, not flat
    assert float(far.std()) == pytest.approx(1, abs=1e-4) and abs(float(far.mean())) < 1e-5


def test_gamma_by_hand():
    """-1, 1 and 7: range 8; shares 0, 1/4 and 1; to the power 3/2 0, 1/8 and 1; times 8, less 1: -1, 0 and 7."""
    image = jnp.array([-1, 1, 7.0]).reshape(3, 1, 1, 1)
    bend = partial(views.gamma, image, probability=0.8, low=1.0, high=2.0)
    np.testing.assert_allclose(bend(jnp.array([0.79, 0.5])).ravel(), [-1, 0, 7], atol=1e-6)
    np.testing.assert_array_equal(bend(jnp.array([0.81, 0.5])), image)
    both = jnp.concatenate([image, 3 * image + 5], -1)  # a linear change of a channel, and the same for its result
    bent = views.gamma(both, jnp.array([0, 0.5]), 1.0, 1.0, 2.0)
    np.testing.assert_allclose(bent[..., 1], 3 * bent[..., 0] + 5, atol=1e-5)


def test_the_shift_adds_one_number():
    image = jnp.zeros((2, 2, 2, 2))
    for chances, added in (((0.7, 0.0), -0.5), ((0.7, 0.75), 0.25), ((0.8, 0.75), 0.0)):
        np.testing.assert_allclose(views.shift(image, jnp.array(chances), 0.8, 0.5), image + added, atol=1e-7)


def test_the_shift_is_without_effect_on_a_view(heads):
    """As the docstring says of the release: every other step as published, once with and once without."""
    with_shift, _ = views.draw(*heads, keys(4), section())
    without, _ = views.draw(*heads, keys(4), settings(shift=(0.0, 0.5)))
    assert settings().shift[0] > 0
    np.testing.assert_allclose(with_shift, without, atol=2e-4)


def test_a_view_has_mean_zero_and_deviation_one_in_its_brain(heads):
    for seed in range(8):
        found, mask = views.draw(*heads, keys(4, seed), section())
        assert set(np.unique(mask)) == {0.0, 1.0} and found.shape == heads[0].shape and found.dtype == jnp.float32
        for view, inside in zip(np.asarray(found, np.float64), np.asarray(mask[..., 0]) > 0, strict=True):
            assert inside.mean() >= 0.05 and (view[~inside] == 0).all()
            np.testing.assert_allclose(view[inside].mean(0), 0, atol=1e-4)
            np.testing.assert_allclose(view[inside].std(0), 1, atol=1e-4)


def test_a_lesion_stays_in_its_mask():
    """The marker is drawn as the image and its outline as the mask: one geometry must serve both."""
    x, y, z = np.indices(SHAPE)
    lesion = jnp.asarray((x > 2) & (x < 8) & (y > 4) & (y < 11) & (z > 2) & (z < 8), jnp.float32)[..., None]

    @jax.jit
    @jax.vmap
    def drawn(one):
        place = views.crop(one[:6], SHAPE, (0.5, 0.5, 0.5))
        where = Geometry(*place, views.flip(one[6], 0.5), views.rotate(one[7:], 1, 0.785))
        seen = views.resample(lesion, where), views.resample_nearest(lesion, where)
        return *seen, views.brain_share(lesion, where)

    for image, mask, share in zip(*map(np.asarray, drawn(jax.random.uniform(jax.random.key(3), (40, 9)))), strict=True):
        image, mask = image[..., 0], mask[..., 0] > 0
        assert (image[ndimage.binary_erosion(mask, iterations=3, border_value=1)] > 0.99).all()
        assert (image[~ndimage.binary_dilation(mask, iterations=3)] < 0.01).all()
        assert share == pytest.approx(mask.mean(), abs=1e-6)


def test_crops_are_boxes_of_every_allowed_size_at_every_place():
    chances = jax.random.uniform(jax.random.key(0), (20_000, 6))
    start, size = map(np.asarray, jax.vmap(lambda one: views.crop(one, SHAPE, (0.25, 0.5, 1.0)))(chances))
    for axis, (least, side) in enumerate(zip((3, 7, 10), SHAPE, strict=True)):
        sizes = np.arange(least, side + 1)
        expected = len(size) / len(sizes)
        counts = np.array([(size[:, axis] == n).sum() for n in sizes])
        assert counts.sum() == len(size) and (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()
        for n in sizes:
            places = start[size[:, axis] == n, axis]
            assert set(places) == set(range(side - n + 1))


def test_steps_are_taken_as_often_as_asked():
    """Within five standard deviations of the binomial; angles are uniform up to their bound."""
    chances = jax.random.uniform(jax.random.key(0), (10_000, 2))
    flipped = np.asarray(jax.vmap(lambda one: views.flip(one[0], 0.3))(chances))
    angles = np.asarray(jax.vmap(lambda one: views.rotate(one, 0.5, 0.785))(chances))
    shifted = np.asarray(jax.vmap(lambda one: views.shift(jnp.zeros((1,) * 4), one, 0.8, 0.5))(chances)).ravel()
    image = jnp.arange(3.0).reshape(3, 1, 1, 1)
    bent = np.asarray(jax.vmap(lambda one: views.gamma(image, one, 0.8, 0.5, 1.5))(chances))[:, 1, 0, 0, 0]
    for taken, p in ((flipped[:, 0] < 0, 0.3), (angles != 0, 0.5), (shifted != 0, 0.8), (bent != 1, 0.8)):
        assert abs(taken.mean() - p) < 5 * np.sqrt(p * (1 - p) / len(taken))
    assert (flipped[:, 1:] == 1).all()
    turned = angles[angles != 0]
    assert np.abs(turned).max() <= 0.785 and turned.std() == pytest.approx(2 * 0.785 / np.sqrt(12), rel=0.05)


def test_chances_of_a_view_are_its_own(heads):
    """Flips of many views, as drawn: as many as asked, and no two steps share a chance."""
    count, brain = 400, jnp.ones((1, 4, 2, 2, 1))
    image = jnp.arange(4.0).reshape(1, 4, 1, 1, 1) * brain
    asked = settings(**OFF | {"flip": 0.5, "gamma": (0.5, 2.0, 2.0)})
    found, _ = views.draw(
        jnp.tile(image, (count, 1, 1, 1, 1)), jnp.tile(brain, (count, 1, 1, 1, 1)), keys(count), asked
    )
    first, last = np.asarray(found[:, 0, 0, 0, 0]), np.asarray(found[:, -1, 0, 0, 0])
    flipped, bent = first > last, np.abs(first + last) > 1e-3  # bent, the profile is no longer even about its middle
    for taken, p in ((flipped, 0.5), (bent, 0.5), (flipped & bent, 0.25)):
        assert abs(taken.mean() - p) < 5 * np.sqrt(p * (1 - p) / count)


def test_a_view_without_enough_brain_is_drawn_anew_or_is_the_whole_box():
    """Brain in one corner, and crops that seldom meet it: with enough asked for, the box as it stands is left."""
    brain = jnp.zeros((16, 16, 8, 1)).at[:5, :5].set(1)
    cropping = OFF | {"crop": (0.3, 0.3, 1.0), "brain": 0.2}
    checked, chances = settings(**cropping), jax.random.uniform(jax.random.key(0), (200, views.CANDIDATES, 9))
    choose = jax.jit(views.choose, static_argnums=2)
    chosen = jax.jit(jax.vmap(lambda one: choose(one, brain, checked)))(chances)
    shares = np.asarray(jax.jit(jax.vmap(lambda where: resample_nearest(brain, where).mean()))(chosen))
    whole = (np.asarray(chosen.size) == (16, 16, 8)).all(1)
    assert (shares[~whole] >= 0.2).all() and 0.1 < whole.mean() < 0.9
    np.testing.assert_allclose(shares[whole], 25 / 256, atol=1e-6)
    start, size = jax.vmap(lambda one: views.crop(one[:6], brain.shape[:3], checked.crop))(chances[:, 0])
    first = np.asarray((chosen.start == start) & (chosen.size == size)).all(1)
    assert 0 < first.mean() < (~whole).mean()  # the first where it will do, else a later one
    none = choose(chances[0], 0 * brain, settings(**cropping | {"brain": 0.0}))
    assert none.size.tolist() == [16, 16, 8]


def test_a_view_of_a_volume_without_brain_is_empty(heads):
    image, brain = heads
    found, mask = views.draw(image, brain.at[2].set(0), keys(4), section())
    assert (found[2] == 0).all() and (mask[2] == 0).all()
    assert np.isfinite(found).all() and mask.any((1, 2, 3, 4)).tolist() == [True, True, False, True]


def test_a_view_depends_on_its_own_volume_and_key_alone(heads):
    image, brain = heads
    first, _ = views.draw(image, brain, keys(4), section())
    changed, _ = views.draw(image.at[1].multiply(image[2]), brain.at[1].set(brain[2]), keys(4), section())
    np.testing.assert_array_equal(np.delete(first, 1, 0), np.delete(changed, 1, 0))
    assert (np.asarray(first[1]) != np.asarray(changed[1])).any()
    order = jnp.array([3, 1, 0, 2])
    moved, _ = views.draw(image[order], brain[order], keys(4)[order], section())
    np.testing.assert_array_equal(moved, first[order])
    other, _ = views.draw(image, brain, keys(4, seed=1), section())
    assert all((np.asarray(first[i]) != np.asarray(other[i])).any() for i in range(4))


def test_the_keys_of_views():
    """A function of the step's key, the example and the view, wherever in a batch the example stands."""
    make = lambda seed, index, view: jax.random.key_data(views.view_keys(jax.random.key(seed), index, view))  # noqa: E731
    index = jnp.array([5, 3, 8])
    np.testing.assert_array_equal(make(0, index, 0), make(0, index[::-1], 0)[::-1])
    every = np.concatenate([make(seed, index, view) for seed in (0, 1) for view in (0, 1)])
    assert len(np.unique(every, axis=0)) == 12


@pytest.mark.two_devices
def test_spread_over_devices_views_are_the_same(heads):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    batch = *heads, keys(4)
    spread = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    found, expected = views.draw(*spread, section()), views.draw(*batch, section())
    for one, other in zip(found, expected, strict=True):
        assert len(one.sharding.device_set) == 2 and not one.sharding.is_fully_replicated
        np.testing.assert_allclose(one, other, atol=1e-6)
    compiled = views.draw.lower(*spread, section()).compile().as_text()
    assert "all-gather" not in compiled and "all-reduce" not in compiled  # no volume leaves its device


def test_a_view_takes_few_volumes_of_memory():
    shape = (1, 48, 48, 40, 1)
    volume = jax.ShapeDtypeStruct(shape, jnp.float32)
    key = jax.eval_shape(partial(keys, 1))
    memory = views.draw.lower(volume, volume, key, section()).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 5 * 4 * np.prod(shape)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"crop": (0.0, 1.0, 1.0)}, r"views.crop=\(0.0, 1.0, 1.0\); three shares"),
        ({"crop": (0.5, 0.5)}, r"views.crop=\(0.5, 0.5\); three shares"),
        ({"flip": 1.5}, "views.flip=1.5; a probability"),
        ({"shift": (-0.1, 0.5)}, r"views.shift=\(-0.1, 0.5\); a probability"),
        ({"rotate": (0.5, -1.0)}, r"views.rotate=\(0.5, -1.0\); a probability, then a bound"),
        ({"gamma": (0.5, 1.5, 0.5)}, r"views.gamma=\(0.5, 1.5, 0.5\); a probability, then two"),
        ({"brain": 1.0}, "views.brain=1.0; a share"),
    ],
)
def test_settings_that_cannot_be_drawn_are_refused(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        settings(**changes)

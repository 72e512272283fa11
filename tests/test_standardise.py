"""Maps in units of healthy people: what a healthy person gets, what no step may do, and what each step is."""

import numpy as np
import pandas as pd
import pytest

from configs.base import base, finish
from symnorm_jax import standardise
from symnorm_jax.channels import channels_of
from symnorm_jax.errors import ConfigError
from symnorm_jax.geometry import mirror_batch
from symnorm_jax.losses import gaussian_blur
from symnorm_jax.standardise import How, Scan

SIZE, SLICES = (24, 20), 12
HOW = How("signed", "position", 0.5, blur=1.0, width=0.08, pseudo=3.0, across=6.0, in_plane=0.7)
PLAIN = How("signed", "none", 0.0, blur=0.0, width=0.08, pseudo=3.0, across=0.0, in_plane=0.0)


def scan(slices=SLICES):
    x, y = np.meshgrid(*(np.linspace(-1, 1, side) for side in SIZE), indexing="ij")
    brain = np.stack([(x / 0.9) ** 2 + (y / 0.95) ** 2 < 1] * slices)
    return Scan(brain, np.linspace(0, 1, slices), 4.0 * np.arange(slices))


def healthy_raw(rng, one):
    """Residuals whose mean and spread depend on pixel and height, as at the rim of a brain and at its ventricles."""
    column, height = np.linspace(-1, 1, SIZE[1]), one.position[:, None, None]
    mean, spread = 0.3 * np.sin(3 * column + 4 * height), 0.1 + 0.3 * (column > 0.2) * height
    return ((mean + spread * rng.standard_normal(one.brain.shape)) * one.brain).astype(np.float32)


def fitted(how, people=40, seed=0):
    def sweep():
        rng = np.random.default_rng(seed)
        return ((scan(), {"map": healthy_raw(rng, scan())}) for _ in range(people))

    return standardise.fit(sweep, {"map": how})["map"]


@pytest.mark.parametrize("standard", ["position", "pixel"])
def test_a_healthy_person_whom_nobody_measured_deviates_by_nothing_in_the_mean(standard):
    how, rng = HOW._replace(standard=standard), np.random.default_rng(1)
    healthy = fitted(how)
    z = np.stack([standardise.standardised(healthy_raw(rng, scan()), scan(), healthy, how) for _ in range(20)])
    inside = z[:, scan().brain]
    bands = [z[:, part][:, scan().brain[part]] for part in (slice(0, 4), slice(4, 8), slice(8, 12))]
    if standard == "position":
        assert abs(inside.mean()) < 0.05 and all(abs(band.std() - 1) < 0.06 for band in bands)
    else:  # which knows neither means nor heights
        assert not all(abs(band.std() - 1) < 0.06 for band in bands)
    assert (z[:, ~scan().brain] == 0).all()


def test_what_is_healthy_below_is_not_healthy_above():
    """The same residual of 1 at the lowest slices, where everybody has one, and at the highest, where nobody has."""

    def person(rng, places):
        raw = 0.1 * rng.standard_normal(scan().brain.shape)
        raw[places, 10:14, 8:12] += 1
        return raw * scan().brain

    how, rng = HOW._replace(antisymmetry=0.0, across=0.0), np.random.default_rng(0)
    people = [person(rng, slice(0, 3)) for _ in range(30)]
    healthy = standardise.fit(lambda: ((scan(), {"map": raw}) for raw in people), {"map": how})["map"]
    z = standardise.standardised(person(rng, [0, 11]), scan(), healthy, how)
    assert np.abs(z[0, 11:13, 9:11]).max() < 4 and z[11, 11:13, 9:11].min() > 8


def test_a_mirrored_head_has_the_opposite_map_where_all_of_the_mirror_image_is_taken_away():
    how, raw = PLAIN._replace(antisymmetry=1.0), healthy_raw(np.random.default_rng(0), scan())
    one, other = (standardise.standardised(x, scan(), [], how) for x in (raw, mirror_batch(raw)))
    np.testing.assert_array_equal(other, -one)
    np.testing.assert_array_equal(mirror_batch(one), -one)
    half = standardise.standardised(raw, scan(), [], PLAIN._replace(antisymmetry=0.5))
    np.testing.assert_allclose(half, raw - 0.5 * mirror_batch(raw), atol=1e-6)


def test_a_blur_in_plane_is_that_of_the_losses_and_none_changes_nothing():
    one, raw = scan(), healthy_raw(np.random.default_rng(0), scan())
    found = standardise.standardised(raw, one, [], PLAIN._replace(blur=1.5))
    expected = gaussian_blur(raw[..., None], one.brain[..., None].astype(np.float32), 1.5)[..., 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(standardise.standardised(raw, one, [], PLAIN), raw)


def test_neighbours_are_averaged_by_their_distance_in_mm():
    """Slices that were left out in between make neighbours fewer and no nearer."""
    one = scan()
    raw = np.zeros(one.brain.shape, np.float32)
    raw[5] = one.brain[5]
    weight = np.exp(-0.5 * (4.0 * np.arange(-5, 7) / 6) ** 2)
    expected = [
        np.exp(-0.5 * (4 * (i - 5) / 6) ** 2) / np.exp(-0.5 * (4 * (np.arange(12) - i) / 6) ** 2).sum()
        for i in range(12)
    ]
    how = PLAIN._replace(across=6.0)
    found = standardise.standardised(raw, one, [], how)
    np.testing.assert_allclose(found[:, 12, 10], expected, rtol=1e-5)
    kept = np.array([0, 1, 5, 6, 11])
    part = Scan(one.brain[kept], one.position[kept], one.height[kept])
    found = standardise.standardised(raw[kept], part, [], how)
    assert found[3, 12, 10] == pytest.approx(weight[6] / weight[[11, 10, 6, 5, 10]].sum(), rel=1e-5)
    assert 0 < found[4, 12, 10] < 0.001


def test_by_pixel_is_relative_to_the_mean_size_of_the_healthy():
    how = PLAIN._replace(standard="pixel", blur=1.5, pseudo=10.0)
    people = [healthy_raw(np.random.default_rng(i), scan()) for i in range(6)]
    healthy = standardise.fit(lambda: ((scan(), {"map": raw}) for raw in people), {"map": how})["map"]
    sizes, weight = np.abs(people).sum((0, 1)), 6 * scan().brain.sum(0)
    size = (sizes + 10 * sizes.sum() / weight.sum()) / (weight + 10)
    expected = gaussian_blur((people[0] / size)[..., None], scan().brain[..., None].astype(np.float32), 1.5)[..., 0]
    np.testing.assert_allclose(standardise.standardised(people[0], scan(), healthy, how), expected, atol=1e-4)


def test_scans_are_kept_apart_and_their_slices_in_order():
    rows = pd.DataFrame({"patient": [*"aabbaab"], "session": [*"0000110"], "slice": [2, 1, 9, 3, 5, 4, 6]})
    found = [one.tolist() for one in standardise.scans_of(rows)]
    assert sorted(found) == [[1, 0], [3, 6, 2], [5, 4]]


def test_a_pixel_that_is_seldom_brain_leans_on_the_spread_of_all():
    """Seen once it has no spread of its own, and would make anything stand out."""
    how = HOW._replace(antisymmetry=0.0, blur=0.0)

    def sweep():
        rng = np.random.default_rng(0)
        for i in range(20):
            brain = scan().brain.copy()
            brain[:, 0, 0] = i == 0  # a corner
            yield scan()._replace(brain=brain), {"map": 0.2 * rng.standard_normal(brain.shape) * brain}

    off = {}
    for pseudo in (1e-6, 3.0):
        asked = {"map": how._replace(pseudo=pseudo)}
        off[pseudo] = np.abs(standardise.fit(sweep, asked)["map"][0].spread[:, 0, 0] - 0.2).max()
    assert off[3.0] < 0.08 and off[1e-6] > 2 * off[3.0]


def test_intensities_are_in_robust_deviations_whatever_their_scale(rng):
    brain, image = scan().brain, rng.normal(5, 2, scan().brain.shape)
    image[:, 11:13, 9:12] = 40  # a lesion of a few percent
    z = standardise.intensity(image, brain)
    assert np.median(z[brain]) == pytest.approx(0, abs=1e-5) and np.std(z[brain][z[brain] < 5]) == pytest.approx(
        1, abs=0.1
    )
    np.testing.assert_allclose(standardise.intensity(10 * image + 3, brain), z, atol=1e-4)
    assert (z[~brain] == 0).all()


def test_what_was_fitted_is_read_back_as_it_was():
    healthy = {"map": fitted(HOW, people=3)}
    again = standardise.from_arrays(standardise.to_arrays(healthy), {"map": HOW})
    for one, other in zip(healthy["map"], again["map"], strict=True):
        np.testing.assert_array_equal(np.stack(one), np.stack(other))


def test_signs():
    z = np.array([-2.0, 0.5])
    found = {kind: of(z).tolist() for kind, of in standardise.SIGNS.items()}
    assert found == {"signed": [-2, 0.5], "absolute": [2, 0.5], "positive": [0, 0.5], "negative": [2, 0]}


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"difference.kind": "ratio"}, "difference.kind='ratio'; one of .*absolute"),
        ({"difference.standard": "slice"}, "difference.standard='slice'; one of .*position"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change, sentence):
    config = finish(base(), "tiny")
    config.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=sentence):
        channels_of(config)

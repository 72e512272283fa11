"""Slices become scans in their order, and every step of the post-processing does what counting by hand does."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.evaluation.postprocess import (
    STEPS,
    MapStack,
    PostProcessing,
    called_voxels,
    check,
    components,
    erode,
    grown,
    median,
    processed,
    stacks,
    touching,
)

RNG = np.random.default_rng(0)
SETTINGS = PostProcessing(STEPS, erosion=3.0, median=3, smallest=4, spacing=3.0)


def table(scans):
    """Rows of a score table and arrays of slices of 2 x 2 pixels; `scans` is `{(patient, session): slice numbers}`."""
    rows = [(*scan, number, "healthy", 0.0) for scan, numbers in scans.items() for number in numbers]
    rows = pd.DataFrame(rows, columns=["patient", "session", "slice", "label", "lesion_mm2"])
    values = RNG.random((len(rows), 2, 2)).astype(np.float16)
    return rows, {"brain": RNG.random(values.shape) < 0.8, "lesion": RNG.random(values.shape) < 0.2}, values


def one(values, brain=None, lesion=None, known=True, healthy=False) -> MapStack:
    """A scan `[Z, X, Y]`, all brain, all known and without lesions unless said otherwise."""
    values = np.asarray(values, np.float16)
    brain = np.ones(values.shape, bool) if brain is None else brain
    lesion = np.zeros(values.shape, bool) if lesion is None else lesion
    flags = (np.broadcast_to(x, len(values)).copy() for x in (known, healthy))
    return MapStack("a", values, brain, lesion, *flags)


def flood(mask) -> list[set]:
    """26-connected components of a binary map, by walking from voxel to voxel."""
    left, found = set(zip(*np.nonzero(mask), strict=True)), []
    while left:
        reached, edge = set(), [left.pop()]
        while edge:
            voxel = edge.pop()
            reached.add(voxel)
            near = {tuple(np.add(voxel, step)) for step in product((-1, 0, 1), repeat=3)} & left
            left -= near
            edge += near
        found.append(reached)
    return found


def test_slices_are_stacked_by_number_with_gaps_left_empty():
    rows, arrays, values = table({("b", ""): [7, 4, 5], ("a", "2"): [0], ("a", "1"): [3, 2]})
    found = stacks(arrays, rows, values)
    assert [(x.patient, len(x.values)) for x in found] == [("a", 2), ("a", 1), ("b", 4)]
    assert np.array_equal(found[2].values[[3, 0, 1]], values[:3])
    assert np.array_equal(found[2].brain[[3, 0, 1]], arrays["brain"][:3])
    assert np.array_equal(found[2].lesion[[3, 0, 1]], arrays["lesion"][:3])
    assert not found[2].brain[2].any() and not found[2].known[2] and not found[2].healthy[2]
    assert np.array_equal(found[0].values, values[[5, 4]])


def test_the_order_of_slices_in_the_file_means_nothing():
    rows, arrays, values = table({("b", ""): [4, 5, 7], ("a", ""): [0, 1]})
    order = RNG.permutation(5)
    shuffled = stacks({name: x[order] for name, x in arrays.items()}, rows.iloc[order], values[order])
    for first, second in zip(stacks(arrays, rows, values), shuffled, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(first, second, strict=True))


def test_the_truth_of_an_abnormal_slice_without_a_drawn_lesion_is_not_known():
    rows, arrays, values = table({("a", ""): [0, 1, 2, 3]})
    rows = rows.assign(label=["healthy", "abnormal", "abnormal", "neither"], lesion_mm2=[0, 0, 9, 3])
    (found,) = stacks(arrays, rows, values)
    assert found.known.tolist() == [True, False, True, True]
    assert found.healthy.tolist() == [True, False, False, False]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_brain_pixel_without_a_value_is_an_error(bad):
    rows, arrays, values = table({("a", ""): [0, 1]})
    arrays["brain"][:] = [[True, False], [True, True]]
    values[0, 0, 1] = bad
    assert len(stacks(arrays, rows, values)) == 1  # outside the brain nobody looks
    values[1, 1, 1] = bad
    with pytest.raises(RunError, match="1 of 6 brain pixels"):
        stacks(arrays, rows, values)


@pytest.mark.parametrize(("mm", "pixels"), [(0, 0), (1.4, 0), (1.5, 1), (3, 1), (4.4, 1), (7, 2)])
def test_erosion_takes_off_exactly_the_rim(mm, pixels):
    brain = RNG.random((3, 12, 12)) < 0.9
    brain[1] = False  # the slice between says nothing about its neighbours
    ball = [(x, y) for x, y in product(range(-pixels, pixels + 1), repeat=2) if abs(x) + abs(y) <= pixels]
    padded = np.pad(brain, ((0, 0), (pixels, pixels), (pixels, pixels)))
    moved = [np.roll(padded, step, (1, 2))[:, pixels : 12 + pixels, pixels : 12 + pixels] for step in ball]
    assert np.array_equal(erode(brain, mm, 3.0), np.all(moved, 0))


def test_erosion_of_a_square_leaves_the_square_within():
    brain = np.zeros((1, 7, 7), bool)
    brain[0, 1:6, 1:6] = True
    kept = erode(brain, 3.0, 3.0)
    assert kept[0, 2:5, 2:5].all() and kept.sum() == 9


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_median_is_that_of_the_cube_with_0_outside_the_brain(size):
    values = RNG.standard_normal((4, 6, 5)).astype(np.float16)
    brain = RNG.random(values.shape) < 0.7
    reach = size // 2
    padded = np.pad(np.where(brain, values, 0), reach)
    expected = np.zeros_like(values)
    for z, x, y in zip(*np.nonzero(brain), strict=True):
        expected[z, x, y] = np.median(padded[z : z + size, x : x + size, y : y + size])
    assert np.array_equal(median(values, brain, size), expected)
    elsewhere = np.where(brain, values, np.float16(6e4))
    assert np.array_equal(median(elsewhere, brain, size), expected)


def test_a_scan_without_brain_stays_empty():
    assert not median(np.ones((2, 3, 3), np.float32), np.zeros((2, 3, 3), bool), 3).any()


@pytest.mark.parametrize("smallest", [0, 1, 2, 5])
def test_components_are_those_of_a_walk(smallest):
    mask = RNG.random((5, 9, 9)) < 0.08
    labels, count = components(mask, smallest)
    expected = {frozenset(part) for part in flood(mask) if len(part) >= smallest}
    found = {frozenset(zip(*np.nonzero(labels == number), strict=True)) for number in range(1, count + 1)}
    assert found == expected and labels.max() == count
    assert len({len(part) for part in flood(mask)}) > 2


def test_corners_and_neighbouring_slices_join():
    mask = np.zeros((3, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True
    assert components(mask, 3)[1] == 1 and components(mask, 4) == (pytest.approx(np.zeros(mask.shape)), 0)
    mask[1] = False  # an empty slice between keeps apart
    assert components(mask, 0)[1] == 2


def test_each_step_can_be_left_out():
    volume = one(RNG.standard_normal((4, 8, 8)))
    plain = processed(volume, SETTINGS._replace(steps=()))
    assert np.array_equal(plain.values, volume.values)
    eroded = processed(volume, SETTINGS._replace(steps=("erode",)))
    rim = np.ones((8, 8), bool)
    rim[1:7, 1:7] = False
    assert (eroded.values[:, rim] == -np.inf).all() and np.array_equal(eroded.values[:, ~rim], volume.values[:, ~rim])
    assert eroded.brain.all()  # the rim is judged, and never called
    both = processed(volume, SETTINGS)
    expected = median(volume.values, erode(volume.brain, 3.0, 3.0), 3)
    assert np.array_equal(both.values[:, ~rim], expected[:, ~rim])
    assert np.array_equal(
        processed(volume, SETTINGS._replace(steps=("median",))).values, median(volume.values, volume.brain, 3)
    )


def test_slices_of_unknown_truth_are_filtered_with_the_others_and_then_not_judged():
    values = np.zeros((3, 5, 5))
    values[:2] = 1.0
    volume = one(values, known=[True, False, True])
    found = processed(volume, SETTINGS._replace(steps=("median",)))
    assert found.brain.all((1, 2)).tolist() == [True, False, True] and not found.brain[1].any()
    assert (found.values[1] == -np.inf).all()
    alone = median(np.where([[[True]], [[False]], [[True]]], values, 0).astype(np.float16), volume.brain, 3)
    assert found.values[0, 2, 2] == 1 and alone[0, 2, 2] == 0


def test_what_is_called_lies_at_or_above_the_threshold_in_large_enough_components():
    values = np.zeros((1, 3, 9))
    values[0, 0, :4], values[0, 2, 8] = 2.0, 3.0
    volume = one(values)
    assert called_voxels(volume, 2.0, SETTINGS._replace(steps=())).sum() == 5
    assert called_voxels(volume, np.nextafter(2.0, 3), SETTINGS._replace(steps=())).sum() == 1
    assert called_voxels(volume, 2.0, SETTINGS).sum() == 4
    assert called_voxels(volume, 2.0, SETTINGS._replace(smallest=5)).sum() == 0


def test_components_that_grow_are_those_of_a_walk_at_every_level():
    level = RNG.integers(0, 12, (4, 7, 8))
    shown = level < 5
    voxels = np.argwhere(shown)
    for place, (there, component, count) in enumerate(grown(level[shown], touching(shown), 5)):
        found = [frozenset(map(tuple, voxels[there[component == one]])) for one in range(count)]
        assert sorted(map(sorted, found)) == sorted(map(sorted, flood(level <= place)))


@pytest.mark.parametrize("steps", [("median", "erode"), ("erode", "blur"), ("erode", "erode"), "erode"])
def test_steps_that_do_not_exist_are_an_error(steps):
    with pytest.raises(ConfigError, match="'erode', 'median', 'components'.* in this order are allowed"):
        check(SETTINGS._replace(steps=steps))


@pytest.mark.parametrize(
    "wrong", [{"erosion": -1.0}, {"erosion": np.nan}, {"median": 4}, {"median": 0}, {"smallest": -1}]
)
def test_numbers_that_cannot_be_meant_are_an_error(wrong):
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}.*odd size"):
        check(SETTINGS._replace(**wrong))
    assert check(SETTINGS) == SETTINGS


def test_a_volume_is_a_scan_whose_slices_are_its_axial_planes():
    rows, _, _ = table({("b", ""): [0], ("a", ""): [0]})
    rows = rows.assign(label=["healthy", "abnormal"], lesion_mm2=[0.0, 0.0])
    values, brain, lesion = RNG.random((3, 2, 4, 3, 5)).astype(np.float16)
    brain, lesion = brain < 0.8, lesion < 0.2
    found = stacks({"brain": brain, "lesion": lesion}, rows, values)
    assert [stack.patient for stack in found] == ["b", "a"]
    for i, stack in enumerate(found):
        for name, given in (("values", values), ("brain", brain), ("lesion", lesion)):
            np.testing.assert_array_equal(getattr(stack, name)[4], given[i, :, :, 4])
        # nobody drew the lesion of the second, so that its truth is not known
        assert stack.healthy.tolist() == [i == 0] * 5 and stack.known.tolist() == [i == 0] * 5

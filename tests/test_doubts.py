"""What is doubted before a verdict: by names, by what a table tells of people, and by which way round a head lies."""

from itertools import product

import numpy as np
import pytest
from ml_collections import ConfigDict

from symnorm_jax.inference import orientation, quality, told


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        ("a/sub-1_T1w.nii.gz", ["t1"]),
        ("BraTS-1-t1c.nii.gz", ["t1 after contrast"]),
        ("sub-1_ce-gadolinium_T1w.nii.gz", ["t1 after contrast"]),
        ("x_t2_flair.nii", ["flair"]),
        ("t2/ann.nii.gz", ["t2"]),
        ("T2_study/sub-1_FLAIR.nii.gz", ["flair"]),
        ("tse1/head.nii.gz", []),
    ],
)
def test_contrasts_are_told_by_names(path, kinds):
    assert told.said_of(path) == kinds


def test_limits_are_those_of_healthy_scans_and_some_room():
    values = np.linspace(0, 100, 101)
    both = quality.limits(values, quality.Measure("", 1.0, "both"))
    assert (both["low"], both["high"]) == (1 - 24.5, 99 + 24.5) and both["scans"] == 101
    assert quality.limits(values, quality.Measure("", 30.0, "high")) == {"low": None, "high": 129.0, "scans": 101}


@pytest.mark.parametrize(
    ("value", "ends", "doubted"),
    [
        (3.0, {"low": None, "high": 5.0}, False),
        (6.0, {"low": None, "high": 5.0}, True),
        (np.nan, {"low": None, "high": 5.0}, True),  # what could not be measured is in no range
        (3.0, {"low": None, "high": np.nan}, False),  # nobody's in training could be
        (np.nan, {"low": None, "high": np.nan}, False),
    ],
)
def test_a_measure_is_doubted_out_of_its_range(value, ends, doubted):
    config = ConfigDict({"data": {"brain": "file"}})
    found = dict.fromkeys(quality.MEASURES, 0.0) | {"tilt": value}
    ranges = dict.fromkeys(quality.MEASURES, {"low": None, "high": None}) | {"tilt": ends}
    assert list(quality.doubts(found, "file", config, {"ranges": ranges})) == ["tilt"] * doubted


TRAINED = [{"Age": str(20 + 0.6 * i), "sex": "female", "site": "HH"} for i in range(101)] + [{"sex": "n/a", "age": ""}]


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"age": "79.5", "sex": "F", "site": "HH"}, []),
        ({"age": "80.2"}, ["age 80.2; 20 to 80 is the range of training"]),
        ({"AGE": "12", "sex": "M"}, ["age 12; 20 to 80 is the range of training", "sex 'M'; training had F"]),
        ({"site": "Guys"}, ["site 'Guys'; training had HH"]),
        ({"age": "unknown", "sex": " ", "scanner": "new"}, []),
        ({"age": "adult"}, []),
    ],
)
def test_people_unlike_those_of_training_are_doubted_where_it_is_told(groups, said):
    reference = {"contrast": [], "told": told.people_of(TRAINED)}
    about = told.About("scan.nii.gz", groups, "file")
    assert list(told.doubts(about, reference).values()) == said
    assert not told.doubts(about, {"contrast": [], "told": told.people_of([{"scanner": "x"}])})


def head(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An egg with its ends front and up, a dark hollow at the back, and noise: image and mask, `[X, Y, Z]`."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (24, 30, 20)), indexing="ij")
    brain = x**2 * (1 + 0.5 * y + 0.6 * z) + (y / rng.uniform(0.9, 1)) ** 2 + z**2 < rng.uniform(0.8, 0.95)
    return (1 - 0.8 * (y < -0.3) + rng.normal(0, 0.2, brain.shape)) * brain, brain


def test_a_head_is_known_by_its_mean_to_lie_another_way(rng):
    cells = [orientation.cells(*head(rng)) for _ in range(6)]
    mean, (image, brain) = np.mean(cells, 0), head(rng)
    sound = orientation.upright(orientation.cells(image, brain), mean)
    assert sound > 0.02
    for signs in product((1, -1), repeat=3):
        turn = tuple(slice(None, None, sign) for sign in signs)
        found = orientation.upright(orientation.cells(image[turn].copy(), brain[turn].copy()), mean)
        assert (found > 0) == (signs[1:] == (1, 1)), signs  # left and right may be exchanged unseen
        assert found > 0 or signs[0] < 0 or found < 1e-4 - sound, signs  # for the way back is among the turns
    for axes in ((1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1)):
        turned = orientation.cells(image.transpose(axes).copy(), brain.transpose(axes).copy())
        assert orientation.upright(turned, mean) < -0.02, axes

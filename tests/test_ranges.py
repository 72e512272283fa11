"""Every number of every config has a range, and what lies outside is refused by name before anything is read."""

import math

import pytest
from ml_collections import ConfigDict
from test_settings import NOTEBOOKS, PRESETS, notebook

from symnorm_jax import ranges
from symnorm_jax.checks import checked
from symnorm_jax.data import finding
from symnorm_jax.errors import ConfigError
from symnorm_jax.settings import flat, shown

WORDS = ("data.options", "writers", "postprocess", "groups")  # lists that are none of numbers


def numbers() -> dict[str, object]:
    """Every number, and list of numbers, of every notebook with every system; None is the seed of splits."""
    found = {"data.split_seed": 0, "data.options.noise": 1.0, "data.options.visits": 1}
    for path in NOTEBOOKS:
        make = notebook(path)
        for preset in ("", *PRESETS[len(make().data.size) - 2]):
            values = flat(make(f"tiny,{preset}"))
            found |= {key: x for key, x in values.items() if ranges.numeric(x) or isinstance(x, list)}
    return {key: x for key, x in found.items() if ranges.numeric(x) or key.rpartition(".")[2] not in WORDS}


NUMBERS = numbers()


def nested(key: str, value) -> ConfigDict:
    for part in reversed(key.split(".")):
        value = {part: value}
    return ConfigDict(value)


def like(value, other):
    """`other` in the place of a number, or of the first of a list."""
    return tuple([other, *value[1:]]) if isinstance(value, list) else other


@pytest.mark.parametrize("key", sorted(NUMBERS))
def test_a_number_keeps_to_its_range(key):
    value = NUMBERS[key]
    assert ranges.rule_of(key), f"{key}={value}: no range; give it one in symnorm_jax/ranges.py"
    ranges.check(nested(key, tuple(value) if isinstance(value, list) else value))
    below = -101 if key == "score.k" else -2
    for other in (math.nan, math.inf, -math.inf, below, 10**12):
        with pytest.raises(ConfigError) as refused:
            ranges.check(nested(key, like(value, other)))
        wrong = shown(list(like(value, other)) if isinstance(value, list) else other)
        told, allowed = str(refused.value).split("; ")
        assert told == f"{key}={wrong}" and allowed.endswith(("is allowed.", "are allowed."))


@pytest.mark.parametrize(
    "key, value, allowed",
    [
        ("data.percentiles", (0.01, 0.99), "as 1,99 and not 0.01,0.99"),
        ("data.percentiles", (99.0, 1.0), "the first smaller"),
        ("data.percentiles", (1.0, 5.0, 99.0), "two percentiles from 0 to 100"),
        ("data.percentiles", ("1", "99"), "two percentiles"),
        ("data.spacing", 0.0, "a number above 0"),
        ("data.split", (0.6, 0.2, 0.3), "three positive shares that sum to 1"),
        ("data.split", (60.0, 15.0, 25.0), "three positive shares"),
        ("data.size", (64.0, 64.0), "two sides"),
        ("train.unet.optimizer.learning_rate", 0.0, "above 0"),
        ("train.vae.optimizer.clip_norm", 0.0, "above 0"),
        ("evaluation.median", 4, "odd"),
        ("difference.antisymmetry", 1.5, "a number from 0 to 1"),
        ("difference.width", 0.0, "a number above 0"),
        ("loss.warmup", 0.0, "a number above 0"),
        ("unet.widths", (), "1 to 16 whole numbers"),
        ("views.gamma", (0.5, 1.5, 0.5), "ascending"),
    ],
)
def test_what_looks_like_a_number_that_will_do_is_refused_too(key, value, allowed):
    with pytest.raises(ConfigError, match=allowed):
        ranges.check(nested(key, value))


def test_numbers_are_looked_at_before_anything_else():
    config = notebook(NOTEBOOKS[0])("tiny")
    config.data.percentiles, config.system = (0.01, 0.99), "unheard of"
    with pytest.raises(ConfigError, match=r"data.percentiles=\(0.01, 0.99\)"):
        checked(config)
    config.data.source, config.data.root = "table", "/nowhere.csv"
    with pytest.raises(ConfigError, match=r"data.percentiles=\(0.01, 0.99\)"):
        finding.find_scans(config.data)

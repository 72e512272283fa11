"""The values of a config by their dotted names, as JSON has them, and what refuses those that are not allowed."""

import json
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError

Rule = tuple[Callable[[Any], bool], str]  # whether a value will do, and what is allowed, as "a share is"
ALL_TEST = (0, 0, 1)  # the data.split of a run that only judges: nobody is trained on, and nothing is fitted
LABELS, ATLAS = PRIORS = "labels", "atlas"  # where shares of tissue to learn from come from


def flat(config: ConfigDict) -> dict[str, Any]:
    """List the values of a config by their full names."""
    return leaves(json.loads(config.to_json()))


def leaves(tree: dict, prefix: str = "") -> dict[str, Any]:
    """List the leaves of nested dicts by their dotted names."""
    found = {}
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def value_of(config: ConfigDict, key: str) -> Any:
    """Look up the value under a dotted `key`, None where there is none."""
    value = json.loads(config.to_json())
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def shown(value: Any) -> str:
    """Write a setting as on a command line; None is an empty text."""
    return "" if value is None else str(tuple(value)) if isinstance(value, list) else str(value)


def contrasts(channel: str) -> tuple[str, ...]:
    """Read the names in `data.options.channel`, as `flair` or `t1,flair`. Raises ConfigError for one given twice."""
    names = tuple(name.strip() for name in channel.split(","))
    if len(names) > 1 and (not all(names) or len(set(names)) < len(names)):
        allowed = "names with commas between them, each once, are allowed"
        raise ConfigError(f"data.options.channel={channel!r}; {allowed}.")
    return names


def contrasts_of(config: ConfigDict) -> tuple[str, ...]:
    """Name the contrasts of a config's samples, the leading one first; one, "", of a source that has no others."""
    channel = value_of(config, "data.options.channel")
    return ("",) if channel is None else contrasts(channel)


def only_judges(config: ConfigDict) -> bool:
    """Tell whether a run judges labelled people by the run it starts from, and has nothing of its own."""
    return tuple(config.data.split) == ALL_TEST


def check_one_contrast(config: ConfigDict) -> None:
    """Raise ConfigError where several contrasts are named for a system that takes one."""
    if len(contrasts_of(config)) > 1:
        found = f"data.options.channel={config.data.options['channel']!r} with system={config.system!r}"
        raise ConfigError(f"{found}; one contrast is allowed.")


def target_of(config: ConfigDict) -> ConfigDict | None:
    """Give the section `target` of a config that names a column to be predicted, else None."""
    return config.target if "target" in config and config.target.column else None


def check_choices(config: ConfigDict, choices: dict[str, Iterable[str]]) -> None:
    """Raise ConfigError for the first key whose value is not among those that `choices` allows."""
    for key, allowed in choices.items():
        check_choice(key, _at(config, key), allowed)


def check_choice(key: str, value: str, allowed: Iterable[str]) -> None:
    """Raise ConfigError, which names the key, unless its value is one of those allowed."""
    if value not in allowed:
        raise ConfigError(f"{key}={value!r}; one of {sorted(allowed)} is allowed.")


def check_rules(config: ConfigDict, rules: dict[str, Rule], prefix: str = "") -> None:
    """Raise ConfigError for the first key whose value breaks its rule; `prefix` names a `config` that is a section."""
    for key, (sound, allowed) in rules.items():
        value = _at(config, key)
        if not sound(value):
            shown = tuple(value) if isinstance(value, list) else value
            raise ConfigError(f"{prefix}{key}={shown}; {allowed} allowed.")


def _at(config: ConfigDict, key: str) -> Any:
    return reduce(getattr, key.split("."), config)  # AttributeError names a key that is not there


def check_sides(config: ConfigDict, divisor: int) -> None:
    """Raise ConfigError unless samples are slices with two sides that divide by `divisor`."""
    size = tuple(config.data.size)
    if len(size) != 2 or any(side < 1 or side % divisor for side in size):
        raise ConfigError(f"data.size={size}; two sides that divide by {divisor} are allowed.")

"""The values of a config by their dotted names, as JSON has them."""

import json
from typing import Any

from ml_collections import ConfigDict


def flat(config: ConfigDict) -> dict[str, Any]:
    """The values of a config by their full names, as JSON has them."""
    return leaves(json.loads(config.to_json()))


def leaves(tree: dict, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dicts by their dotted names."""
    found = {}
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def value_of(config: ConfigDict, key: str) -> Any:
    """The value under a dotted `key` as JSON has it, None where there is none."""
    value = json.loads(config.to_json())
    for part in key.split("."):
        value = value[part] if isinstance(value, dict) and part in value else None
    return value

"""The points of a sweep: what is set in each run, under which name, and whether a config allows it.

Settings are text, as they stand on a command line, so that a point is tried here exactly as `symnorm train` reads it.
"""

import inspect
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from symnorm_jax import notebooks
from symnorm_jax.checks import check_devices, checked
from symnorm_jax.compare.sweep import Point, Settings
from symnorm_jax.errors import ConfigError, InputError, RunError
from symnorm_jax.files import read_json, write_json
from symnorm_jax.rundir import INDIFFERENT
from symnorm_jax.settings import flat, shown

FILE = "sweep.json"
LONGEST, DIGEST = 100, 8  # letters of a label, which is the name of a directory, and of a digest in it


def config_of(config: str, settings: Settings) -> ConfigDict:
    """Make the locked config of a notebook and settings. Raises ConfigError that names the point it cannot make."""
    with _named(settings):
        return notebooks.read(config, Point("", config, settings).arguments[1:]).config


@contextmanager
def _named(settings: Settings) -> Iterator[None]:
    """Put the name of a point in front of what is refused."""
    try:
        yield
    except InputError as error:
        told = ", ".join(f"{key}={value}" for key, value in settings.items()) or "without settings"
        raise ConfigError(f"the point {told}: {error}") from None


def packaged() -> list[str]:
    """List the functions of points that come with the package."""
    own = vars(notebooks.sweeps())
    return sorted(name for name, of in own.items() if inspect.isfunction(of) and not inspect.signature(of).parameters)


def listed(config: str, name: str) -> list[dict[str, Any]] | None:
    """List the points that the function `name` gives, of the notebook or of those that come with the package.

    None for an empty name, and for a notebook without `sweep`. Raises ConfigError for a function that is not there.
    """
    if not name:
        return None
    found = getattr(notebooks.module(notebooks.find(config)), name, getattr(notebooks.sweeps(), name, None))
    if found is None and name != "sweep":
        raise ConfigError(f"--points={name}: one of {packaged()} or a function of {config} is allowed.")
    return found and found()


def split(text: str) -> list[str]:
    """Split a setting at its commas, but for those inside brackets and after a backslash."""
    pieces, depth = [""], 0
    for piece in re.findall(r"\\,|.", text, re.DOTALL):
        depth += (piece in "([{") - (piece in ")]}")
        if piece == "," and depth <= 0:
            pieces.append("")
        else:
            pieces[-1] += "," if piece == "\\," else piece
    return pieces


def given(arguments: Iterable[str]) -> Settings:
    """Read settings `--config.<key>=<value>` of a command line. Raises ConfigError for anything else."""
    found = {}
    for argument in arguments:
        match = re.fullmatch(r"--config\.([^=]+)=(.*)", argument, re.DOTALL)
        if not match:
            raise ConfigError(f"{argument!r} is no setting; --config.<key>=<value> is allowed.")
        found[match[1]] = match[2]
    return found


def several(config: str, settings: Settings) -> dict[str, list[str]]:
    """Read the values of each setting; several values of a key that is a list stand in brackets."""
    lists = {key for key, value in flat(config_of(config, {})).items() if isinstance(value, list)}
    whole = {key for key in lists & settings.keys() if not settings[key].startswith(("(", "["))}
    return {key: [text] if key in whole else split(text) for key, text in settings.items()}


def crossed(points: list[dict[str, Any]], settings: dict[str, list[str]]) -> list[Settings]:
    """Cross each of `points` with each combination of `settings`, which win over a point's."""
    texts = [{key: shown(value) for key, value in point.items()} for point in points]
    combined = itertools.product(*settings.values())
    return [point | dict(zip(settings, one, strict=True)) for point, one in itertools.product(texts, combined)]


def planned(folder: Path, config: str, wanted: list[Settings]) -> list[Point]:
    """Plan the points of the sweep in `folder`: what is written there, and after it what is new in `wanted`.

    Points with equal configs are one. Raises RunError where a point that is there is not wanted, ConfigError for a
    point that a config does not allow.
    """
    there = recorded(folder)
    known = {_meaning(point.config, point.settings): point.label for point in there}
    asked = {}
    for settings in wanted:
        asked.setdefault(_meaning(config, settings), settings)
    gone = [label for meaning, label in known.items() if meaning not in asked]
    if gone:
        point = f"the point {gone[0]}, which is not among those asked for"
        how = "points can only be added to a sweep, so give the settings it was begun with, or choose another --output."
        raise RunError(f"{folder}: the sweep there has {point}; {how}")
    return there + labelled(there, config, [asked[one] for one in asked if one not in known])


def labelled(there: list[Point], config: str, new: list[Settings]) -> list[Point]:
    """Label new points by what sets them apart, each with a safe name that no other has, up to LONGEST letters."""
    everything = [point.settings for point in there] + new
    keys = {key for settings in everything for key in settings}
    apart = {key for key in keys if len({settings.get(key) for settings in everything}) > 1}
    taken, points = {point.label.casefold() for point in there}, []
    for settings in new:
        pieces = [f"{key}={value}" for key, value in settings.items() if key in apart]
        label = "+".join(re.sub(r"[^\w.=-]+", "_", piece, flags=re.ASCII) for piece in pieces) or "default"
        if len(label) > LONGEST or label.casefold() in taken:
            digest = sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:DIGEST]
            label = f"{label[: LONGEST - 1 - DIGEST]}-{digest}"
        taken.add(label.casefold())
        points.append(Point(label, config, settings))
    return points


def check(points: list[Point], configs: list[ConfigDict]) -> None:
    """Raise ConfigError that names the first of `points` whose config is refused."""
    for point, config in zip(points, configs, strict=True):
        with _named(point.settings):
            check_devices(config, checked(config))


def recorded(folder: Path) -> list[Point]:
    """Read the points that `record` wrote to `folder`; none where it wrote nothing."""
    there = read_json(folder / FILE)["points"] if (folder / FILE).exists() else []
    return [Point(**one) for one in there]


def record(folder: Path, points: list[Point]) -> None:
    """Write the points to `sweep.json`, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, {"points": [point._asdict() for point in points]})


def _meaning(config: str, settings: Settings) -> str:
    """Tell what a point computes, as text; keys that change only where and how fast are left out."""
    values = flat(config_of(config, settings))
    return json.dumps({key: value for key, value in values.items() if key not in INDIFFERENT}, sort_keys=True)

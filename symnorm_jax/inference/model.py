"""A finished model: what a run has learned and fitted, without its people, in memory and as a folder of plain files.

`model.safetensors` has the networks, what healthy people show in maps, and the Gaussian; `config.json` the settings of
preparation and networks, without paths; `thresholds.json` and `calibration.json` what validation fitted, of the
headline score; `reference.json` the scores of healthy validation people and the ranges of training scans. `README.md`
is the card, `SHA256SUMS` the check of all. Nothing in it is a picture, a name or a path of a person. The two files of
`stablehlo.py`, where they were asked for, are for other programs, and scoring does not use them.
"""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from safetensors import SafetensorError
from safetensors.numpy import load, save

from symnorm_jax import standardise
from symnorm_jax.channels import channels_of
from symnorm_jax.errors import InputError, RunError, one_line
from symnorm_jax.files import whole
from symnorm_jax.inference.card import card
from symnorm_jax.scoring import mahalanobis
from symnorm_jax.systems import BUILD
from symnorm_jax.systems.contract import System, Variables
from symnorm_jax.training.passes import TOGETHER, Healthy
from symnorm_jax.training.transfer import shapes_of

MODEL_FORMAT = 2  # of a model's folder; raised when its files, or what is in them, change
WEIGHTS, SUMS, CARD = "model.safetensors", "SHA256SUMS", "README.md"
PARTS = ("thresholds", "calibration", "reference")  # JSON, each a file of its own
RESIDUAL, EMBED = "residual.stablehlo", "embed.stablehlo"  # see `stablehlo.programs`


class Model(NamedTuple):
    """What scores a scan."""

    config: ConfigDict
    variables: Variables
    healthy: Healthy | None  # of the system's maps; None of a system without one
    gaussian: mahalanobis.Gaussian
    thresholds: dict[str, Any]  # moments; by level {rule: fit}; of the pixels of maps
    calibration: dict[str, Any]  # by level {method: fit}
    reference: dict[str, Any]  # see `quality.reference`

    @property
    def system(self) -> System:
        return BUILD[self.config.system](self.config)

    @property
    def checksum(self) -> str:
        """Tell models apart, by all that decides a score."""
        return hashlib.sha256("".join(_digests(_files(self)).values()).encode()).hexdigest()[:16]


def write(
    model: Model, folder: Path, licence: str | None, about: str = "", programs: dict[str, bytes] | None = None
) -> None:
    """Write a model's folder, `SHA256SUMS` last; `about` ends its card.

    Raises RunError where something else stands there.
    """
    files = _files(model) | (programs or {})
    files[CARD] = card(folder.name, model.config, model.reference, model.thresholds, licence, about).encode()
    files[SUMS] = "".join(f"{digest}  {name}\n" for name, digest in _digests(files).items()).encode()
    other = [path.name for path in folder.iterdir() if path.name not in files] if folder.is_dir() else []
    if other or (folder.exists() and not folder.is_dir()):
        raise RunError(f"--output={folder}: holds {other[0] if other else 'a file'}; a folder of its own is needed.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SUMS).unlink(missing_ok=True)  # until all is written there is no model
    for file, content in files.items():
        with whole(folder / file) as unfinished:
            unfinished.write_bytes(content)


def _files(model: Model) -> dict[str, bytes]:
    """Give the files that decide a score, by their names."""
    settings = {"format": MODEL_FORMAT, **json.loads(model.config.to_json())}
    parts = {"config.json": settings} | {f"{name}.json": getattr(model, name) for name in PARTS}
    arrays = {name: np.ascontiguousarray(x) for name, x in _arrays(model).items()}
    return {WEIGHTS: save(arrays)} | {name: (json.dumps(x, indent=2) + "\n").encode() for name, x in parts.items()}


def _arrays(model: Model) -> dict[str, np.ndarray]:
    gaussian = {f"gaussian.{name}": np.asarray(x) for name, x in model.gaussian._asdict().items()}
    maps, together = model.healthy or Healthy({})
    healthy = standardise.to_arrays(maps) | ({} if together is None else {TOGETHER: together})
    return _named(model.variables) | gaussian | {f"healthy.{name}": x for name, x in healthy.items()}


def _named(variables: Variables) -> dict[str, Any]:
    """Name the leaves of a tree by the way to them."""
    return {jax.tree_util.keystr(way, simple=True, separator="."): x for way, x in jax.tree.leaves_with_path(variables)}


def _digests(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def of_folder(folder: Path) -> Model:
    """Read the folder of a model. Raises RunError for files that are missing, changed, or of another version."""
    contents = _checked(folder)
    try:
        settings, *parts = (json.loads(contents[f"{name}.json"]) for name in ("config", *PARTS))
        if (found := settings.pop("format")) != MODEL_FORMAT:
            raise RunError(f"{folder}: its format is {found}, and {MODEL_FORMAT} is read here; export the model anew.")
        return Model(config := ConfigDict(settings).lock(), *_read(load(contents[WEIGHTS]), config, folder), *parts)
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise RunError(f"{folder}: is of another version of symnorm_jax: {one_line(error)}.") from None


def _read(arrays: dict[str, np.ndarray], config: ConfigDict, folder: Path) -> tuple:
    """Give variables, what the healthy show in maps, and the Gaussian, as the system of a config asks for them."""
    system = BUILD[config.system](config)
    shapes, place = shapes_of(system, config), partial(_leaf, arrays, folder)
    variables = jax.tree.unflatten(jax.tree.structure(shapes), [place(*each) for each in _named(shapes).items()])
    gaussian = {name: arrays[f"gaussian.{name}"] for name in mahalanobis.Gaussian._fields}
    gaussian = mahalanobis.Gaussian(**{name: x if x.ndim else x.item() for name, x in gaussian.items()})
    fitted = {name.removeprefix("healthy."): x for name, x in arrays.items() if name.startswith("healthy.")}
    maps = standardise.from_arrays(fitted, channels_of(config)) if system.residual else None
    return variables, maps and Healthy(maps, fitted.get(TOGETHER)), gaussian


def _checked(folder: Path) -> dict[str, bytes]:
    """Read the files of a model. Raises RunError for one that is missing, or is not the one that was written."""
    said = (folder / SUMS).read_text(encoding="utf-8") if (folder / SUMS).is_file() else ""
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in said.splitlines())}
    names = (WEIGHTS, "config.json", *(f"{name}.json" for name in PARTS), CARD, *({RESIDUAL, EMBED} & sums.keys()))
    if lost := [name for name in (SUMS, *names) if not (folder / name).is_file()]:
        raise RunError(f"{folder}: is no whole model, {lost[0]} is missing; export it anew with `symnorm export`.")
    contents = {name: (folder / name).read_bytes() for name in names}
    for name, digest in _digests(contents).items():
        if name not in sums or sums[name] != digest:
            raise RunError(f"{folder / name}: is not the file that was exported, by its SHA-256 in {SUMS}.")
    return contents


def _leaf(arrays: dict[str, np.ndarray], folder: Path, name: str, wanted: jax.ShapeDtypeStruct) -> jax.Array:
    found = arrays[name]
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        there, here = (f"{x.dtype}{list(x.shape)}" for x in (found, wanted))
        raise RunError(f"{folder / WEIGHTS}: {name} is {there}, and config.json asks for {here}.")
    return jax.device_put(found, wanted.sharding)

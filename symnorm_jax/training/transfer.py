"""Start from the networks of a finished run, and train no more of them than is asked for."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.files import read_json
from symnorm_jax.systems.contract import System, Variables
from symnorm_jax.training.checkpoint import restore_last

NOTHING = ("none", "gaussian")  # kinds of fine-tuning that train no network


def schedule(config: ConfigDict, system: System) -> dict[str, ConfigDict]:
    """The stages that a run trains, in order, each with its steps, batch size and optimizer.

    From scratch all of them, by the section `train`; from `init_from` those that `finetune.kind` asks for, by the
    section `finetune`: none of them for `none` and `gaussian`, `all`, or the stage of that name and those after it.
    """
    names = list(system.stages)
    if not config.init_from:
        return {name: config.train[name] for name in names}
    kind = config.finetune.kind
    if kind not in (*NOTHING, "all", *names):
        raise ConfigError(f"finetune.kind={kind!r}; one of {sorted({*NOTHING, 'all', *names})} is allowed.")
    first = len(names) if kind in NOTHING else 0 if kind == "all" else names.index(kind)
    return {name: config.finetune[name] for name in names[first:]}


def check_source(config: ConfigDict, system: System) -> None:
    """Raise RunError unless `init_from` is a finished run, ConfigError unless its networks mean the same here."""
    source = Path(config.init_from)
    if not (source / "metrics.json").exists():
        raise RunError(f"init_from={config.init_from}: not a finished run; see it through with launch/train.py first.")
    there = ConfigDict(read_json(source / "config.json"))
    keys = [leaf for key in ("system", *system.meaning) for leaf in _leaves(config, key) | _leaves(there, key)]
    other = [key for key in dict.fromkeys(keys) if _value(config, key) != _value(there, key)]
    if other:
        differences = ", ".join(f"{key} (there {_value(there, key)!r}, here {_value(config, key)!r})" for key in other)
        raise ConfigError(f"init_from={config.init_from}: its networks were trained with another {differences}.")


def lineage(run: str | None) -> list[str]:
    """The run that one starts from, the one before that, and so on."""
    found = []
    while run and run not in found:
        found.append(run)
        run = read_json(Path(run) / "config.json")["init_from"]
    return found


def restored(run: str, system: System, variables: Variables) -> Variables:
    """The networks of a finished run, laid out like `variables`; of the run before it if it trained none itself."""
    for folder in (Path(one) / name / "ckpt" for one in lineage(run) for name in reversed(system.stages)):
        if any(folder.glob("[0-9]*")):
            return restore_last(folder, variables)
    raise RunError(f"init_from={run}: there is no checkpoint in {', '.join(system.stages)}.")


def _leaves(config: ConfigDict, key: str) -> dict[str, None]:
    """The full names of the values under `key`, in order; `key` itself where it is one value."""
    value = _value(config, key)
    return {f"{key}.{one}": None for one in value} if isinstance(value, dict) else {key: None}


def _value(config: ConfigDict, key: str):
    """The value under a dotted `key` as JSON has it, None where there is none."""
    value = json.loads(config.to_json())
    for part in key.split("."):
        value = value[part] if isinstance(value, dict) and part in value else None
    return value

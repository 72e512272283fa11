"""Start from the networks of a finished run, or from converted weights, and train no more of them than is asked for.

Converted weights are a folder of launch/convert_torch.py: networks of others, without the people they were learned
from, and without a Gaussian, thresholds and scores.
"""

from pathlib import Path

from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.files import read_json
from symnorm_jax.lineage import converted, lineage
from symnorm_jax.settings import value_of
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
    """Raise RunError unless `init_from` is a finished run or converted weights.

    Raises ConfigError unless its networks mean the same here, as far as converted weights say what they mean, and for
    what those lack.
    """
    source, weights = Path(config.init_from), converted(config.init_from)
    if not (source / "config.json").exists() or not (weights or (source / "metrics.json").exists()):
        raise RunError(
            f"init_from={config.init_from}: not a finished run, nor converted weights; see it through with "
            f"launch/train.py first, or make it with launch/convert_torch.py."
        )
    if weights:
        _refuse_what_weights_lack(config, system)
    there = ConfigDict(read_json(source / "config.json"))
    if value_of(there, "target.column"):  # its head predicts on a scale of its own people
        raise ConfigError(f"init_from={config.init_from}: was taught a target; start from the run before it.")
    keys = [leaf for key in ("system", *system.meaning) for leaf in _leaves(config, key) | _leaves(there, key)]
    fixed = [key for key in dict.fromkeys(keys) if not weights or value_of(there, key) is not None]
    other = [key for key in fixed if value_of(config, key) != value_of(there, key)]
    if other:
        differences = ", ".join(
            f"{key} (there {value_of(there, key)!r}, here {value_of(config, key)!r})" for key in other
        )
        made = "converted for" if weights else "trained with"
        raise ConfigError(f"init_from={config.init_from}: its networks were {made} another {differences}.")


def restored(run: str, system: System, variables: Variables) -> Variables:
    """The networks of a finished run, laid out like `variables`; of the run before it if it trained none itself."""
    for folder in (Path(one) / name / "ckpt" for one in lineage(run) for name in reversed(system.stages)):
        if any(folder.glob("[0-9]*")):
            return restore_last(folder, variables)
    raise RunError(f"init_from={run}: there is no checkpoint in {', '.join(system.stages)}.")


def _refuse_what_weights_lack(config: ConfigDict, system: System) -> None:
    kinds = sorted({"gaussian", "all", *system.stages})
    for key, value, lack, allowed in (
        ("finetune.kind", "none", "healthy Gaussian", f"one of {kinds}"),
        ("score.thresholds", "source", "thresholds", "'target'"),
    ):
        if value_of(config, key) == value:
            reason = f"converted weights, which have no {lack} to take over"
            raise ConfigError(f"{key}={value!r} with init_from={config.init_from}: {reason}; {allowed} is allowed.")


def _leaves(config: ConfigDict, key: str) -> dict[str, None]:
    """The full names of the values under `key`, in order; `key` itself where it is one value."""
    value = value_of(config, key)
    return {f"{key}.{one}": None for one in value} if isinstance(value, dict) else {key: None}

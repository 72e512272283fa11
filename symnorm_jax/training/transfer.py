"""Start from the networks of a finished run, or from converted weights, and train no more of them than is asked for.

Converted weights are a folder of `symnorm convert`: networks of others, without Gaussian, thresholds and scores.
"""

from pathlib import Path

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from symnorm_jax import rundir
from symnorm_jax.errors import ConfigError, RunError
from symnorm_jax.files import read_json
from symnorm_jax.paths import check_place
from symnorm_jax.rundir import CHECKPOINTS, CONFIG, converted, lineage, read_config
from symnorm_jax.settings import check_choice, contrasts_of, flat, target_of, value_of
from symnorm_jax.systems.contract import System, Variables
from symnorm_jax.training.checkpoint import networks_of, restore_last
from symnorm_jax.training.sharding import make_mesh, replicated

# Of a run, what one that starts from it reads.
FINISHED = (rundir.MANIFEST, rundir.GAUSSIAN, rundir.THRESHOLDS, rundir.METRICS)
NOTHING = ("none", "gaussian")  # kinds of fine-tuning that train no network


def section_of(config: ConfigDict) -> str:
    """Name the section that holds the stages a run trains: `finetune` where it starts from another, else `train`."""
    return "finetune" if config.init_from else "train"


def schedule(config: ConfigDict, system: System) -> dict[str, ConfigDict]:
    """List the stages that a run trains, in order, each with its steps, batch size and optimizer.

    From scratch these are all. From `init_from` they are what `finetune.kind` asks for: nothing for `none` and
    `gaussian`, `all`, or the stage of that name and those after it.
    """
    names = list(system.stages)
    if config.init_from:
        kind = config.finetune.kind
        check_choice("finetune.kind", kind, {*NOTHING, "all", *names})
        names = [] if kind in NOTHING else names if kind == "all" else names[names.index(kind) :]
    return {name: config[section_of(config)][name] for name in names}


def check_source(config: ConfigDict, system: System) -> None:
    """Raise RunError unless `init_from` is a finished run or converted weights.

    Raises ConfigError where its networks are known to mean something else here, for what converted weights lack, for
    networks that neither it has nor this run trains, and for those that it has and this run leaves out.
    """
    check_place(config.init_from)
    source, weights = Path(config.init_from), converted(config.init_from)
    lost = [name for name in (CONFIG, *(() if weights else FINISHED)) if not (source / name).exists()]
    if lost:
        hint = f"{lost[0]} is not there; see it through with `symnorm train`, or make it with `symnorm convert`."
        raise RunError(f"init_from={config.init_from}: not a finished run, nor converted weights; {hint}")
    if not weights:
        rundir.refuse_judge(config.init_from, "init_from")
    folder = checkpoints_of(config.init_from, system)
    for key, unusable, lack, allowed in (
        ("finetune.kind", "none", "healthy Gaussian", f"one of {sorted({'gaussian', 'all', *system.stages})}"),
        ("score.thresholds", "source", "thresholds", "'target'"),
    ):
        if weights and value_of(config, key) == unusable:
            reason = f"converted weights, which have no {lack} to take over"
            raise ConfigError(f"{key}={unusable!r} with init_from={config.init_from}: {reason}; {allowed} is allowed.")
    source_config = read_config(source)
    if target_of(source_config):  # its head predicts on a scale of its own people
        raise ConfigError(f"init_from={config.init_from}: was taught a target; start from the run before it.")
    taken_over = config.finetune.kind == "none" or value_of(config, "score.thresholds") == "source"
    theirs = [key for net, keys in system.of_network.items() if net in networks_of(folder) for key in keys]
    keys = ("system", *system.meaning, *theirs, *(system.fitted if taken_over else ()))
    here, there = (
        _meaning(one, keys) | {"number of contrasts": len(contrasts_of(one))} for one in (config, source_config)
    )
    other = _apart(there, here)
    if other:
        made = "converted for" if weights else "trained with"
        raise ConfigError(f"init_from={config.init_from}: its networks were {made} another {', '.join(other)}.")
    if not weights and (other := fitted_otherwise(config, system)):
        told = "init_from=%s: what it fitted is of another %s; there is no zero-shot score."
        logging.warning(told, config.init_from, ", ".join(other))
    _check_networks(config, system, folder)
    known = [] if weights else read_json(source / rundir.THRESHOLDS)["sample"]
    if not weights and config.score.headline not in known:
        found = f"score.headline={config.score.headline!r} with init_from={config.init_from}, which has no such score"
        raise ConfigError(f"{found} to compare with; one of {sorted(known)} is allowed.")


def fitted_otherwise(config: ConfigDict, system: System) -> list[str]:
    """List where the run started from has other settings of what is fitted to maps than this config."""
    return _apart(*(_meaning(one, system.fitted) for one in (read_config(Path(config.init_from)), config)))


def _check_networks(config: ConfigDict, system: System, folder: Path) -> None:
    """Raise ConfigError for networks, or `stats`, that checkpoints in a folder lack and no stage of this run trains.

    And for those that they have, and stages that were trained there, and the system of this run has not.
    """
    trained = {net for name in schedule(config, system) for net in system.stages[name].trains}
    lacking, left_out = [], []
    for of, nets in shapes_of(system, config).items():
        there, told = networks_of(folder, of), "" if of == "params" else f"{of} of "
        lacking += [told + net for net in nets.keys() - there - trained]
        left_out += [told + net for net in there - nets.keys()]
    found = f"finetune.kind={config.finetune.kind!r} with init_from={config.init_from}"
    if lacking:
        need = f"which has no {', '.join(sorted(lacking))}; a stage that trains it is needed"
        raise ConfigError(f"{found}, {need}.")
    past = {path.parent.name for run in lineage(config.init_from) for path in Path(run).glob(f"*/{CHECKPOINTS}")}
    if parts := sorted({*left_out, *(past - system.stages.keys())}):
        need = f"which has {', '.join(parts)}, left out here; a config with all of these is needed"
        raise ConfigError(f"{found}, {need}.")


def restored(run: str, system: System, variables: Variables) -> Variables:
    """Read the networks of a finished run, laid out like `variables`; of the run before it if it trained none.

    What it lacks, as a network that a later stage adds, stays as given; `check_source` refuses what no stage trains.
    """
    folder = checkpoints_of(run, system)
    there = {
        of: {name: x for name, x in nets.items() if name in networks_of(folder, of)} for of, nets in variables.items()
    }
    found = restore_last(folder, there)
    return {of: nets | found[of] for of, nets in variables.items()}


def shapes_of(system: System, config: ConfigDict) -> Variables:
    """Find the shapes of a system's variables, whole on each device; no initialisation is compiled for that."""
    sample, place = (1, *config.data.size), replicated(make_mesh())
    each = {"image": ((*sample, len(contrasts_of(config))), np.float32), "brain": ((*sample, 1), np.float32)}
    each |= {"index": ((1,), np.int32), "valid": ((1,), bool)}
    batch = {name: jax.ShapeDtypeStruct(*about) for name, about in each.items()}
    found = jax.eval_shape(lambda batch: system.init(jax.random.key(0), batch), batch)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), found)


def checkpoints_of(run: str, system: System) -> Path:
    """Find the folder of a run's last checkpoints, or of the run before it. Raises RunError where there is none."""
    for folder in (Path(one) / name / CHECKPOINTS for one in lineage(run) for name in reversed(system.stages)):
        if any(folder.glob("[0-9]*")):
            return folder
    raise RunError(f"init_from={run}: there is no checkpoint in {', '.join(system.stages)}.")


def _apart(there: dict, here: dict) -> list[str]:
    return [f"{key} (there {there[key]!r}, here {x!r})" for key, x in here.items() if there.get(key, x) != x]


def _meaning(config: ConfigDict, keys: tuple[str, ...]) -> dict:
    """The values of a config under `keys`, by their full names and in the order of the keys."""
    values = flat(config)
    return {name: values[name] for key in keys for name in values if name == key or name.startswith(f"{key}.")}

"""Train symnorm and every rival on one config, one after another, and compare them.

examples:
  symnorm study baselines --config=lgg --config.data.root=/data/kaggle_3m --output=runs/lgg_baselines
  symnorm study baselines --config=lgg --config.data.root=/data/kaggle_3m --folds=4 --seeds=3 --output=runs/lgg_folds

Settings `--config.KEY=VALUE` go to every run whose system has the key. With --folds every patient is tested once, by
networks that have not seen it, and numbers are means over the folds; --seeds trains so often on the same people. The
same command continues where it stopped. Each run lies in the folder of its system, the comparison beside them.
"""

import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

from symnorm_jax.cli import at_least_one, comma_list, main
from symnorm_jax.cli.train import NOTEBOOK

REFERENCE = "symnorm"  # the notebook without a preset
OPTIONS = {
    "--config": {"required": True} | NOTEBOOK,
    "--output": {"required": True, "type": Path, "help": "the folder of all runs"},
    "--folds": {"type": at_least_one, "default": 0, "help": "3 or more: parts of the people, each tested once"},
    "--seeds": {"type": at_least_one, "default": 1, "help": "trainings of each system and fold; 1 unless given"},
    "--systems": {"type": comma_list, "help": "the reference first; symnorm and every rival unless given"},
}


def run(args) -> None:
    from symnorm_jax.sweeps.process import TRAIN
    from symnorm_jax.systems import BUILD

    rivals = [name for name, build in BUILD.items() if ".rivals." in build.__module__]
    folder, systems = args.output, args.systems or [REFERENCE, *rivals]
    runs = {}
    for name, more in parts(args.folds, args.seeds).items():
        commands = planned(args.config, [*args.settings, *more], systems)
        runs |= {folder / system / name: given for system, given in commands.items()}
    for place, (run, given) in enumerate(runs.items(), start=1):
        print(f"{run.relative_to(folder)}, {place} of {len(runs)}", flush=True)
        # A process of its own, which leaves no memory behind; of Ctrl-C it hears too, and its end is waited for.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        status = subprocess.run([*TRAIN, *given, f"--workdir={run}"], check=False).returncode
        signal.signal(signal.SIGINT, before)
        if status:
            sys.exit(status if status > 0 else 128 - status)
    # Together, on a machine that now has nothing else to do.
    main(["evaluate", f"--run={','.join(map(str, runs))}", "--from=cost"])
    main(["compare", f"--runs={','.join(str(folder / system) for system in systems)}", f"--output={folder}"])


def parts(folds: int, seeds: int) -> dict[str, list[str]]:
    """Name the folds and seeds of each system, with the settings that make them; one without a name of neither."""
    found = {}
    for seed, fold in product(range(seeds), range(folds or 1)):
        split = {"data.folds": folds, "data.fold": fold} if folds else {}
        drawn = {"seed": seed, "data.split_seed": 0} if seeds > 1 else {}
        name = "_".join([f"fold{fold}"] * bool(folds) + [f"seed{seed}"] * (seeds > 1))
        found[name] = [f"--config.{key}={value}" for key, value in (split | drawn).items()]
    return found


def planned(config: str, settings: list[str], systems: list[str]) -> dict[str, list[str]]:
    """Give each system the arguments of its config. Raises ConfigError for a setting that none of them has."""
    from symnorm_jax import notebooks
    from symnorm_jax.errors import ConfigError
    from symnorm_jax.sweeps.points import given

    path, _, size = config.partition(":")
    if "," in size:
        raise ConfigError(f"--config={config}: the systems are the presets here; full or tiny is allowed.")
    asked, commands, known = given(settings), {}, set()
    for system in systems:
        notebook = f"{path}:{size or 'full'}" + ("" if system == REFERENCE else f",{system}")
        own = [key for key in asked if key.partition("[")[0] in keys_of(notebook)]
        commands[system] = [f"--config={notebook}", *(f"--config.{key}={asked[key]}" for key in own)]
        notebooks.read(notebook, commands[system][1:])
        known |= set(own)
    for key in asked:
        if key not in known:
            raise ConfigError(f"--config.{key}: no such config key in any of {', '.join(systems)}.")
    return commands


def keys_of(notebook: str) -> set[str]:
    from symnorm_jax import notebooks
    from symnorm_jax.settings import flat

    return set(flat(notebooks.read(notebook).config))

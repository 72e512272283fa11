"""Train symnorm and every rival on one config, one after another, and compare them.

example:
  symnorm study baselines --config=lgg --config.data.root=/data/kaggle_3m --output=runs/lgg_baselines

Settings `--config.KEY=VALUE` go to every run whose system has the key. The same command continues where it stopped.
Each run lies in the folder under the name of its system, and the comparison beside them.
"""

import signal
import subprocess
import sys
from pathlib import Path

from symnorm_jax.cli import comma_list, main
from symnorm_jax.cli.train import NOTEBOOK

REFERENCE = "symnorm"  # the notebook without a preset
OPTIONS = {
    "--config": {"required": True} | NOTEBOOK,
    "--output": {"required": True, "type": Path, "help": "the folder of all runs"},
    "--systems": {"type": comma_list, "help": "the reference first; symnorm and every rival unless given"},
}


def run(args) -> None:
    from symnorm_jax.sweeps.process import TRAIN
    from symnorm_jax.systems import BUILD

    rivals = [name for name, build in BUILD.items() if ".rivals." in build.__module__]
    folder, systems = args.output, args.systems or [REFERENCE, *rivals]
    commands = planned(args.config, args.settings, systems)
    for place, (system, given) in enumerate(commands.items(), start=1):
        print(f"{system}, {place} of {len(systems)}", flush=True)
        # A process of its own, which leaves no memory behind; of Ctrl-C it hears too, and its end is waited for.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        status = subprocess.run([*TRAIN, *given, f"--workdir={folder / system}"], check=False).returncode
        signal.signal(signal.SIGINT, before)
        if status:
            sys.exit(status if status > 0 else 128 - status)
    runs = ",".join(str(folder / system) for system in systems)
    main(["evaluate", f"--run={runs}", "--from=cost"])  # together, on a machine that now has nothing else to do
    main(["compare", f"--runs={runs}", f"--output={folder}"])


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

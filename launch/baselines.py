"""Train symnorm and every learned baseline on one config, one after another, and compare them.

python launch/baselines.py --config=configs/lgg.py --config.data.root=/data/kaggle_3m --output=runs/lgg_baselines

Further `--config.*` settings go to every run. The same command continues where it stopped; each run lies in the folder
under the name of its system, and the comparison beside them.
"""

import subprocess
import sys
from pathlib import Path

from absl import app, flags

from configs.systems.rivals import PRESETS

_CONFIG = flags.DEFINE_string("config", None, "A file of configs/, perhaps with :tiny.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The folder of all runs.", required=True)
_SYSTEMS = flags.DEFINE_list("systems", ["symnorm", *PRESETS], "Which systems, the reference first.")
LAUNCH = Path(__file__).parent


def main(arguments: list[str]) -> None:
    settings, folder = arguments[1:], Path(_OUTPUT.value)
    unknown = [one for one in settings if not one.startswith("--config.")]
    unknown += [one for one in _SYSTEMS.value if one not in ("symnorm", *PRESETS)]
    if unknown:
        sys.exit(f"error: {unknown[0]!r} is neither a --config.* setting nor one of {['symnorm', *PRESETS]}.")
    path, _, size = _CONFIG.value.partition(":")
    if "," in size:
        sys.exit(f"error: --config={_CONFIG.value}: the systems are the presets here; full or tiny is allowed.")
    for place, system in enumerate(_SYSTEMS.value, start=1):
        print(f"{system}, {place} of {len(_SYSTEMS.value)}", flush=True)
        preset = "" if system == "symnorm" else f",{system}"
        run = [f"--config={path}:{size or 'full'}{preset}", *settings, f"--workdir={folder / system}"]
        _launch("train.py", *run)
    runs = ",".join(str(folder / system) for system in _SYSTEMS.value)
    _launch("cost.py", f"--runs={runs}")  # together, on a machine that now has nothing else to do
    _launch("compare.py", f"--runs={runs}", f"--output={folder}")


def _launch(name: str, *arguments: str) -> None:
    """A process of its own, which leaves no memory behind; ends this one with its status where it fails."""
    status = subprocess.run([sys.executable, str(LAUNCH / name), *arguments], check=False).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    app.run(main, flags_parser=lambda arguments: flags.FLAGS(arguments, known_only=True))

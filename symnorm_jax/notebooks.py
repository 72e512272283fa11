"""Notebook configs, one Python file a data set: find one, load it, and put settings on top.

A notebook comes with the package, as `demo` or `configs/demo.py`, or is a file of one's own. Behind a colon stands its
size and perhaps a preset, as in `demo:full,dae`.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from symnorm_jax.errors import ConfigError
from symnorm_jax.paths import at_home
from symnorm_jax.settings import flat


class Notebook(NamedTuple):
    """A config with settings on top, and where it came from."""

    config: ConfigDict  # locked
    name: str  # of its run: demo, demo_tiny, lgg_dae
    overrides: dict[str, Any]  # the notebook as `config`, and each setting by its key


def read(notebook: str, settings: Sequence[str] = ()) -> Notebook:
    """Read a notebook with settings on top, `--config.<key>=<value>` as on a command line.

    Raises ConfigError for a notebook that is not there or fails, an unknown key, and a value of another type.
    """
    path, size = find(notebook), notebook.partition(":")[2]
    own, line = flags.FlagValues(), ["symnorm", *settings]
    try:
        loaded = module(path).get_config(*filter(None, [size]))
    except Exception as error:  # whatever a file of one's own may raise
        raise ConfigError(f"--config={notebook}: {type(error).__name__}: {' '.join(str(error).split())}") from None
    try:
        flag = config_flags.DEFINE_config_dict("config", loaded, flag_values=own, sys_argv=line)
        own(line)
    except (AttributeError, KeyError, IndexError) as error:  # ml_collections' words for a key that is not there
        raise ConfigError(f"no such config key: {' '.join(str(error).split())}") from None
    except (flags.Error, ValueError, TypeError) as error:
        raise ConfigError(str(error).strip().splitlines()[-1]) from None
    words = [word for word in size.split(",") if word not in ("", "full")]
    shown = path.name if path.is_absolute() else str(path)  # without folders above, which may have names of people
    shown = f"configs/{path.name}" if path.absolute().parent == _folder() else shown
    typed = {key: value for key, value in flat(flag.value).items() if isinstance(value, str) and value.startswith("~")}
    flag.value.update_from_flattened_dict({key: at_home(value) for key, value in typed.items()})
    overrides = {"config": ":".join(filter(None, (shown, size)))}
    return Notebook(flag.value, "_".join([path.stem, *words]), overrides | own["config"].override_values)


def find(notebook: str) -> Path:
    """Find the file of a notebook; a path that exists wins over a packaged one. Raises ConfigError for neither."""
    path = Path(notebook.partition(":")[0])
    if path.suffix == ".py" and path.is_file():
        return path
    texts = {one: one.read_text(encoding="utf-8") for one in sorted(_folder().glob("*.py"))}
    packaged = {one.stem: one for one, text in texts.items() if "def get_config(" in text}
    if str(path.parent) in (".", "configs") and path.suffix in ("", ".py") and path.stem in packaged:
        return packaged[path.stem]
    raise ConfigError(f"--config={notebook}: there is no such file; a path or one of {sorted(packaged)} is allowed.")


def module(path: Path) -> ModuleType:
    """Run the Python file of a notebook, or of points of sweeps, as a module."""
    spec = importlib.util.spec_from_file_location(f"notebook_{path.stem}", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def sweeps() -> ModuleType:
    """Load the functions that list the points of sweeps, which come with the package."""
    return module(_folder() / "sweeps.py")


def _folder() -> Path:
    return Path(importlib.util.find_spec("configs").origin).parent

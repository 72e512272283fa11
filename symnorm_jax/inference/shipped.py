"""The models that come with the package, each a folder with its own licence and card."""

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "models"
DEFAULT = "ixi_t1"


def names() -> list[str]:
    """List the models that come along."""
    return sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())


def default() -> Path:
    """Give the folder of the model that scores where none is named, whatever lies in the folder of work."""
    return FOLDER / DEFAULT


def found(path: Path) -> Path:
    """Give the folder that a path or the name of a model that comes along means; what lies here goes first."""
    return FOLDER / path if str(path) in names() and not path.exists() else path


def cache_of(model: Path) -> Path:
    """Give a place beside which to keep what is compiled: the package's own folder is not written to."""
    if not model.is_relative_to(FOLDER):
        return model
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "symnorm_jax" / model.name

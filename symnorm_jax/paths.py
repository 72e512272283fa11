"""Paths as people type them: the home folder, and folders in which no checkpoint could be kept."""

import os
import re
from pathlib import Path

from symnorm_jax.errors import ConfigError, RunError

UNFIT = "[]\\"  # TensorStore takes brackets for a pattern and \ for /: what it writes there it does not find again
ADDRESS = re.compile(r"[A-Za-z][\w.+-]*:/.*", re.DOTALL)  # gs://bucket/run, of which Path makes gs:/bucket/run
LONGEST = 4096  # bytes of a path on Linux; of one name 255


def at_home(path: str) -> str:
    """Put the home folder for a `~` that begins a path; shells do not behind `=`. Raises ConfigError for a nobody's."""
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise ConfigError(f"{path}: there is no such home folder; ~ or ~name of a user, or ./~ for a file, is allowed.")
    return found


def check_place(folder: str | Path) -> None:
    """Raise RunError unless checkpoints can be kept in a folder: by all folders above it too, wherever one stands."""
    path = os.path.abspath(folder)
    unfit = [letter for letter in UNFIT if letter in path]
    address = ADDRESS.fullmatch(str(folder)) or "gs:" in Path(path).parts
    encoded, is_file = path.encode("utf-8", "surrogateescape"), os.path.lexists(path) and not os.path.isdir(path)
    for wrong, found in (
        (unfit, f"has {' and '.join(unfit)} in it, with which no checkpoint can be read back"),
        (address, "is an address"),
        (not encodes(path), "has letters that are not UTF-8"),
        (len(encoded) > LONGEST // 2 or max(map(len, encoded.split(b"/"))) > 255, "is too long"),
        (is_file, "is a file"),
    ):
        if wrong:
            hint = "on this machine and without [, ] and \\ in its path"
            raise RunError(f"{printed(path)} {found}; a folder is needed, {hint}.")


def encodes(text: str) -> bool:
    """Say whether a text can be written as UTF-8; names of files in another encoding cannot."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def printed(text: str) -> str:
    """Write bytes of a name that are no letters as \\xfc."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

"""Files that are either whole or not there: written under another name, put on disk, then renamed.

A program that is cut off may leave a hidden `.partial` file behind, which nothing reads. Its writer held a lock on it,
which no end of a program leaves, so any machine can tell what was left behind from what is being written.
"""

import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from symnorm_jax.errors import UNUSABLE

PARTIAL = ".partial."


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a name to write to; what stands there when the block ends without an error becomes `path`."""
    # In front, for libraries that go by the extension; made unlike any other, for programs that write the same file.
    partial = path.with_name(f"{PARTIAL}{uuid.uuid4().hex}.{path.name}")
    with named(path), partial.open("xb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield partial
            os.fsync(held.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Raise what a file system refuses in the block as an OSError that names `path`."""
    try:
        yield
    except Exception as error:
        # Writing to an open file names none, and libraries written in C++ put the system's words into their own errors.
        said = [error.errno] if isinstance(error, OSError) else [x for x in UNUSABLE if os.strerror(x) in str(error)]
        if not said or said[0] not in UNUSABLE:
            raise
        raise OSError(said[0], os.strerror(said[0]), str(path)) from None


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Try to lock the file `path` for the block and say whether that was possible; no crash leaves it locked."""
    with path.open("ab") as held:
        try:
            with named(path):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def remove_partial(folder: Path) -> None:
    """Remove what programs that were cut off have left in `folder` and the folders in it."""
    for left in folder.rglob(f"{PARTIAL}*"):
        with suppress(FileNotFoundError, PermissionError), locked(left) as mine:
            if mine:
                left.unlink()


def write_text(path: Path, text: str) -> None:
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an npz file of arrays, without pickle."""
    with whole(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an npy file of one array, without pickle."""
    with whole(path) as partial, partial.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def load_array(path: Path) -> np.ndarray:
    """Map the array of an npy file into memory, to be read as it is needed; refuse pickled objects."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def load_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read the arrays of an npz file whose names begin with one of `names`, or all; refuse pickled objects."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files if not names or name.startswith(names)}

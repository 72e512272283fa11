"""Files that are either whole or not there: written under another name, then renamed.

A program that is cut off may leave a hidden `.partial` file behind, which nothing reads.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write to; what stands there when the block ends without an error becomes `path`."""
    # In front, for libraries that go by the extension; with the process, for two that write the same file.
    partial = path.with_name(f".partial.{os.getpid()}.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with whole(path) as partial:
        partial.write_text(text)


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an npz file of arrays, without pickle."""
    with whole(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_arrays(path: Path, *names: str) -> dict[str, np.ndarray]:
    """The arrays of an npz file whose names begin with one of `names`, or all; pickled objects are refused."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files if not names or name.startswith(names)}

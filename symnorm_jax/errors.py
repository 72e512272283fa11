"""Errors that are the input's and not the program's: each message is one sentence for the person who gave it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Data, a config or a directory that cannot be used; the message names it, its value and what was allowed."""


class ConfigError(InputError):
    """A config value that is not allowed."""


class ScanError(InputError):
    """A scan, or a folder of scans, that cannot be used."""


class LeakageError(InputError):
    """The same person, file or slice stands in two splits."""


class RunError(InputError):
    """A run directory that cannot be used as asked."""


class EmbeddingError(InputError):
    """Embeddings from which no Gaussian can be fitted."""


class NonFiniteError(InputError):
    """A loss or gradient became NaN or infinite."""


@contextmanager
def reported() -> Iterator[None]:
    """End the program with the sentence of an InputError, and exit status 1, in place of a traceback."""
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {error}")

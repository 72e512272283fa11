"""Errors of the input and not of the program: each message is one sentence for the person who gave it."""

import errno
import re
import signal
import sys
from collections.abc import Collection, Iterator
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


class Preempted(Exception):
    """Training has stopped before its end because a signal asked for it, SIGTERM or Ctrl-C's, with a checkpoint."""

    def __init__(self, told: str, number: int = signal.SIGTERM):
        super().__init__(told)
        self.status = 128 + number


PREEMPTED = 128 + signal.SIGTERM  # the status with which a shell sees a program end that SIGTERM ended
INTERRUPTED = 128 + signal.SIGINT  # likewise Ctrl-C
# What a file system can refuse that is no fault of the program, as on a full disk; the last where it has no locks.
UNUSABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR, errno.EFBIG)
UNUSABLE += (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
GOES_ON = "what is finished stays, and the same command goes on from it."


def one_line(error: Exception) -> str:
    """Put what an error says on one line; of an error that says nothing, its type."""
    return " ".join(str(error).split()) or type(error).__name__


def check_options(allowed: dict[str, Collection[str]], **given: str) -> None:
    """Raise ConfigError unless each of a source's options has one of its `allowed` values."""
    for key, value in given.items():
        if value not in allowed[key]:
            raise ConfigError(f"data.options.{key}={value!r}; one of {sorted(allowed[key])} is allowed.")


@contextmanager
def reported() -> Iterator[None]:
    """End the program with one sentence: status 1 for an InputError or unusable files, 128 and the signal for one."""
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {error}")
    except ValueError as error:
        if not re.search("JAX flag|environment 'JAX", str(error)):  # JAX's own words as it is imported
            raise
        sys.exit(f"error: {one_line(error)}; unset it, or give it a value that JAX knows.")
    except OSError as error:
        if error.errno not in UNUSABLE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror}; {GOES_ON}")
    except Preempted as end:
        print(end, file=sys.stderr)
        sys.exit(end.status)
    except KeyboardInterrupt:
        print(f"stopped by Ctrl-C; {GOES_ON}", file=sys.stderr)
        sys.exit(INTERRUPTED)

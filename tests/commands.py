"""Calls `symnorm` in this process as its command line would, which spares the start of another Python."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess

from symnorm_jax.cli import main


def symnorm(*arguments: str, call: Callable = main) -> CompletedProcess:
    """The exit status of the command, or of another `call`, and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = call(list(arguments)) or 0
        except SystemExit as end:
            code = end.code or 0
    if isinstance(code, str):  # as the interpreter ends
        err.write(code + "\n")
        code = 1
    return CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

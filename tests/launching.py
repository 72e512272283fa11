"""Calls a launcher in this process as its command line would, which spares the start of another Python."""

import importlib.util
import io
import sys
import warnings
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

from absl import app
from absl.testing import flagsaver

import symnorm_jax.training

ROOT = Path(__file__).parents[1]
COMMANDLINE = "symnorm_jax.training.commandline"


def launch(name: str, *arguments: str) -> CompletedProcess:
    """`launch/<name>.py` with `arguments`: its exit status and what it printed.

    Flags are of one process, so each launcher defines its own and leaves none behind. What `app.run` does is not
    tried: the way in from a shell, and out to it, is for a test that starts a process.
    """
    argv, out, err = [f"launch/{name}.py", *arguments], io.StringIO(), io.StringIO()
    with _own_flags(), mock.patch.object(sys, "argv", argv), chdir(ROOT), redirect_stdout(out), redirect_stderr(err):
        try:
            module = _loaded(name)
            module.main(_parsed(module, argv))
            code = 0
        except SystemExit as end:
            code = end.code or 0
    if isinstance(code, str):  # as the interpreter ends
        err.write(code + "\n")
        code = 1
    return CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def _own_flags():
    """Flags as they were, afterwards; without those of `commandline`, which is imported anew each time."""
    sys.modules.pop(COMMANDLINE, None)
    vars(symnorm_jax.training).pop("commandline", None)
    return flagsaver.flagsaver()


def _parsed(module, argv: list[str]) -> list[str]:
    parse = module.parsed if hasattr(module, "parsed") else app.parse_flags_with_usage
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the load_module", DeprecationWarning)  # how ml_collections reads a config
        return parse(argv)


def _loaded(name: str):
    [path] = (path for folder in ("launch", "benchmarks") if (path := ROOT / folder / f"{name}.py").exists())
    spec = importlib.util.spec_from_file_location(f"launch_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

"""The command `symnorm`, with a verb for everything that is done with scans and runs.

A verb is a module whose docstring is its help, with `OPTIONS` for argparse and `run(args)`. Help and wrong arguments
are answered at once, for a verb imports JAX only when it runs.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from functools import partial

from absl import flags, logging

from symnorm_jax.cli import terminal
from symnorm_jax.errors import reported
from symnorm_jax.paths import at_home

VERBS = {
    "train": "train a config and see it through to its report",
    "check": "look at a cohort before anything is trained",
    "score": "new scans to verdicts and maps, by a run or a model",
    "export": "make a model of a finished run, without its people",
    "models": "the models that are here, and whether they are whole",
    "embed": "new scans to a table of embeddings",
    "evaluate": "repeat a late step of finished runs",
    "compare": "pair finished runs on the same test cases",
    "study": "baselines, sweep, downstream, controls: many runs here or on SLURM",
    "convert": "turn released weights of torch into a start for runs",
    "phantom": "write synthetic people as a release is laid out",
}
ABOUT = """Train on normal brains, find what is not. Research use only.

examples:
  symnorm train --config=demo
  symnorm check --config=lgg --config.data.root=/data/kaggle_3m
  symnorm compare --runs=runs/demo,runs/demo_dae"""

_parser = partial(argparse.ArgumentParser, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments`, by default of the process, and return its exit status.

    Raises SystemExit after help (0), wrong arguments (2), an error of the input (1, with a sentence), Ctrl-C (130) and
    SIGTERM (143).
    """
    if arguments is None:
        arguments = sys.argv[1:]
        terminal.prepare()
        logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)  # Orbax tells a long story of every save
    flags.FLAGS.mark_as_parsed()  # Grain asks absl for flags
    return dispatch("symnorm", ABOUT, VERBS, arguments)


def dispatch(program: str, about: str, verbs: dict[str, str], arguments: Sequence[str]) -> int:
    """Run the verb that comes first in `arguments`, a module of the package that `program` names."""
    parser = _parser(program, description=about)
    listed = "\n".join(f"  {verb:<12}{what}" for verb, what in verbs.items())
    parser.usage, parser.epilog = f"{program} VERB [options]", f"verbs; each has its own --help:\n{listed}"
    parser.add_argument("verb", choices=verbs, metavar="VERB", help=argparse.SUPPRESS)
    verb = parser.parse_args(arguments[:1] or ["--help"]).verb
    module = importlib.import_module(".".join([__name__, *program.split()[1:], verb]))
    if hasattr(module, "VERBS"):
        return dispatch(f"{program} {verb}", module.__doc__, module.VERBS, arguments[1:])
    with reported():
        args = parsed(f"{program} {verb}", module.__doc__, module.OPTIONS, arguments[1:])
        return module.run(args) or 0


def parsed(program: str, about: str, options: dict[str, dict], arguments: Sequence[str]) -> argparse.Namespace:
    """Parse arguments by `options`, `{names: settings of argparse}`; all that go to a config come into `settings`.

    They are `--config.<key>=<value>` or `--config.<key> <value>`. Of others, values that begin with `~` come as paths
    in the home folder. Raises SystemExit with status 2 for wrong ones.
    """
    parser, settings, others, words = _parser(program, description=about), [], [], list(arguments)
    for names, told in options.items():
        parser.add_argument(*names.split(), **told)
    while words:
        word = words.pop(0)
        is_setting = word.startswith(("--config.", "--noconfig."))
        (settings if is_setting else others).append(word)
        if is_setting and "=" not in word and words and not words[0].startswith("--"):
            settings.append(words.pop(0))
    args = parser.parse_args(map(_at_home, others))
    if settings and "config" not in args:
        parser.error(f"unrecognized arguments: {' '.join(settings)}")
    args.settings, args.refuse = settings, parser.error
    return args


def _at_home(word: str) -> str:
    """Put home folders into an argument, `--option=value` or a value, which may be several between commas."""
    option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    return option + equals + ",".join(at_home(one) if one.startswith("~") else one for one in value.split(","))


def comma_list(text: str) -> list[str]:
    """Split the value of an option at its commas; nothing gives an empty list."""
    return [one.strip() for one in text.split(",")] if text else []


def at_least_one(text: str) -> int:
    """Read the value of an option that is a whole number of 1 or more. Raises ArgumentTypeError for another."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; a whole number of 1 or more is allowed.")
    return int(text)

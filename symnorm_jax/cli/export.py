"""Make a model of a finished run: a folder of plain files that scores scans anywhere, without the run's people.

example:
  symnorm export --run=runs/lgg --output=lgg.model --license=CC-BY-SA-4.0

A run's directory holds pictures and names of its people; the model holds neither. The licence, a word of SPDX, is that
of the model; the licence of the training scans may ask for it. `symnorm score --model=lgg.model` uses it.

--stablehlo adds the networks for programs that have JAX and not this package; docs/score.md says how they are called.
"""

import argparse
import re
from pathlib import Path


def _spdx(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.+-]{1,60}", text):
        raise argparse.ArgumentTypeError(f"{text!r}; a word of SPDX, such as CC-BY-SA-4.0, is allowed.")
    return text


LONGEST = 100_000  # letters of what ends a card
OPTIONS = {
    "--run": {"required": True, "type": Path, "help": "the directory of a finished run"},
    "-o --output": {"required": True, "type": Path, "help": "the folder for the model"},
    "--license": {"type": _spdx, "help": "of the model, a word of SPDX; the card says so where there is none"},
    "--about": {"type": Path, "help": "a text that ends the card: of what and by whom it was made, what else is known"},
    "--stablehlo": {"action": "store_true", "help": "add the networks as StableHLO, for a CPU, CUDA and TPUs"},
}


def run(args) -> None:
    from symnorm_jax.inference.distil import of_run
    from symnorm_jax.inference.model import write
    from symnorm_jax.inference.stablehlo import programs

    about = _text(args) if args.about else ""  # first: what follows takes long
    model = of_run(args.run)
    write(model, args.output, args.license, about, programs(model) if args.stablehlo else {})
    print(f"{args.output}: model {model.checksum}, without pictures, names or paths of people")


def _text(args) -> str:
    """Read what is to end the card, before anything that takes long."""
    try:
        with args.about.open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        args.refuse(f"--about={args.about}: {getattr(error, 'strerror', None) or 'is no text in UTF-8'}")
    if len(text) > LONGEST:
        args.refuse(f"--about={args.about}: has more than {LONGEST} letters.")
    return text

"""Make a model of a finished run: a folder of plain files that scores scans anywhere, without the run's people.

example:
  symnorm export --run=runs/lgg --output=lgg.model --license=CC-BY-SA-4.0

A run's directory holds pictures and names of its people; the model holds neither. The licence, a word of SPDX, is that
of the model; the licence of the training scans may ask for it. `symnorm score --model=lgg.model` uses it.
"""

import argparse
import re
from pathlib import Path


def _spdx(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.+-]{1,60}", text):
        raise argparse.ArgumentTypeError(f"{text!r}; a word of SPDX, such as CC-BY-SA-4.0, is allowed.")
    return text


OPTIONS = {
    "--run": {"required": True, "type": Path, "help": "the directory of a finished run"},
    "-o --output": {"required": True, "type": Path, "help": "the folder for the model"},
    "--license": {"type": _spdx, "help": "of the model, a word of SPDX; the card says so where there is none"},
}


def run(args) -> None:
    from symnorm_jax.inference.distil import of_run
    from symnorm_jax.inference.model import write

    model = of_run(args.run)
    write(model, args.output, args.output.name, args.license)
    print(f"{args.output}: model {model.checksum}, without pictures, names or paths of people")

"""`symnorm train`, from a checkout: `python launch/train.py --config=configs/demo.py`; `--help` has the rest."""

import sys

from symnorm_jax.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    sys.exit(main())

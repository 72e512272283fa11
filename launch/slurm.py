"""`symnorm study job`, from a checkout: train one config as a job of SLURM; `--help` has the rest."""

import sys

from symnorm_jax.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["study", "job"]
    sys.exit(main())

"""`python -m symnorm_jax.cli`, for where `symnorm` is not on the path."""

import sys

from symnorm_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())

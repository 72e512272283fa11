"""Two simulated devices, no silent broadcasting, and what several tests share."""

import os
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()  # Grain asks absl for flags

ROOT = Path(__file__).parents[1]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """A folder with `lgg/kaggle_3m`, `ixi` and `stroke_masks`, named by SYMNORM_DATA or beside the repository."""
    folder = Path(os.environ.get("SYMNORM_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(
            f"{folder} is absent: real scans are not part of this repository (set SYMNORM_DATA to test on them)"
        )
    return folder

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


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that SYMNORM_DATA names, with `lgg/kaggle_3m`, `ixi` and `stroke_masks`."""
    folder = Path(os.environ.get("SYMNORM_DATA", "absent"))
    if not folder.is_dir():
        pytest.skip(
            "real scans are not part of this repository: SYMNORM_DATA must name a folder with ixi and lgg/kaggle_3m"
        )
    return folder

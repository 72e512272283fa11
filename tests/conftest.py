"""Two simulated devices, no silent broadcasting, code that is compiled in haste, and what several tests share."""

import os
import tempfile
from pathlib import Path

# Most of the time goes into compiling what then runs once: with few of LLVM's optimisations half of it is gone.
HASTE = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
os.environ.setdefault("XLA_FLAGS", HASTE)

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from absl import flags  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Every run compiles its own copies of the same functions: a cache for this process alone spares most of the time.
CACHE = tempfile.TemporaryDirectory(prefix="symnorm-xla-")
jax.config.update("jax_compilation_cache_dir", CACHE.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
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

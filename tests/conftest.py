"""Few simulated devices, no silent broadcasting, code that is compiled in haste, and what several tests share.

`SYMNORM_TEST_DEVICES=1` leaves one device; two are the default. Flags in `XLA_FLAGS`, such as
`--xla_cpu_max_isa=SSE4_2`, come after those that are set here, and win.
"""

import fcntl
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

# Most of the time goes into compiling what then runs once: with few of LLVM's optimisations half of it is gone, and
# with XLA's older way to emit loops a third of the rest.
HASTE = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
if version("jaxlib").startswith("0.10."):  # others may not know the flag
    HASTE += " --xla_cpu_use_fusion_emitters=false"
if not os.environ.get("XLA_FLAGS", "").startswith(HASTE):  # workers of pytest begin with the flags of the first process
    os.environ["XLA_FLAGS"] = f"{HASTE} {os.environ.get('XLA_FLAGS', '')}".strip()
# Every run compiles its own copies of the same functions. The first process owns the cache; its workers, and the
# commands that tests start, share it.
if "PYTEST_XDIST_WORKER" not in os.environ:
    CACHE = tempfile.TemporaryDirectory(prefix="symnorm-xla-")
    os.environ |= {"SYMNORM_TEST_CACHE": CACHE.name, "JAX_COMPILATION_CACHE_DIR": CACHE.name}
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from absl import flags  # noqa: E402

from configs import demo  # noqa: E402
from symnorm_jax.run import Run  # noqa: E402
from symnorm_jax.rundir import open_run  # noqa: E402

jax.config.update("jax_num_cpu_devices", int(os.environ.setdefault("SYMNORM_TEST_DEVICES", "2")))
jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()  # Grain asks absl for flags

# Files of few and long tests come first, so that both workers have something to do until the end.
LONGEST = ("end_to_end", "sharding", "transfer", "chaos", "downstream", "midline", "prepare", "baselines", "resnet3d")
LONGEST += ("failures", "preemption", "encoder", "transfer_converted", "embed_export", "convert_torch", "sweep")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONGEST)))
    alone = pytest.mark.skip(reason="needs the two devices that are the default")
    for item in items:
        if jax.device_count() < 2 and item.get_closest_marker("two_devices"):
            item.add_marker(alone)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def quick_compilation():
    """For modules whose functions compile for longer than they run; asked for by `pytestmark`."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def demo_run() -> Run:
    """The demo at its smallest, finished by the worker that asks for it first; to be read and not changed."""
    folder = Path(os.environ["SYMNORM_TEST_CACHE"]) / "demo"
    folder.mkdir(exist_ok=True)
    config = demo.get_config("tiny")
    few = {"data.options.healthy": 14, "data.options.patients": 8, "data.workers": 1, "data.midline": "centred"}
    config.update_from_flattened_dict(few | {"data.store": str(folder / "store")})
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        open_run(folder / "run", config.lock(), {})
        run = Run(config, folder / "run")
        if not run.finished:
            run.everything()
    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that SYMNORM_DATA names, with `lgg/kaggle_3m`, `ixi` and `stroke_masks`."""
    folder = Path(os.environ.get("SYMNORM_DATA", "absent"))
    if not folder.is_dir():
        pytest.skip(
            "real scans are not part of this repository: SYMNORM_DATA must name a folder with ixi and lgg/kaggle_3m"
        )
    return folder

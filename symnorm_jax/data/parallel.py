"""Work spread over processes: one BLAS thread each, off the accelerator, gone with their parent."""

import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import joblib
from joblib.externals.loky import get_reusable_executor
from threadpoolctl import threadpool_limits


def in_parallel(work: list, workers: int) -> Iterator:
    """Run joblib's delayed calls in `workers` processes, or one a core for 0; the results come in their order."""
    cache = jax.config.jax_compilation_cache_dir
    # One thread each, in this process too: sums in another order would make the result depend on the workers.
    alone = {"inner_max_num_threads": 1, "initializer": _begin_worker, "initargs": (cache, os.getpid())}
    warnings.filterwarnings("ignore", "[0-9]+ tasks (which were|have been)")  # by who ends the program
    with threadpool_limits(1), joblib.parallel_config("loky", **alone):
        try:
            with _deaf():
                results = joblib.Parallel(n_jobs=workers or -1, return_as="generator")(work)
            yield from results
        except (KeyboardInterrupt, GeneratorExit):  # nobody waits for the scans in hand
            get_reusable_executor().shutdown(wait=True, kill_workers=True)
            raise
        finally:  # workers would idle beside the training, and outlive a killed run
            get_reusable_executor().shutdown(wait=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Ignore Ctrl-C, which a terminal sends to workers too: those that begin in the block ignore it for life."""
    if threading.current_thread() is not threading.main_thread():  # where Python lets no handler be set
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin_worker(cache: str | None, parent: int) -> None:
    """Keep a worker process off the accelerator, whose memory the training is to have, and from outliving `parent`."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_compilation_cache_dir", cache)

    def watch() -> None:  # a killed parent cannot tell its workers, which would work on and idle
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

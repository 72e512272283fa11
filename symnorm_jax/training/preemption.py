"""A warning that the machine is about to be taken away: SIGTERM, as SLURM, Kubernetes and cloud providers send it.

Training ends at the next step with a checkpoint. Elsewhere SIGTERM ends the program at once: what is finished is on
disk, and the rest is done again.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax
from jax.experimental import multihost_utils


@contextmanager
def warned() -> Iterator[Callable[[int], bool]]:
    """Give a function of the step that says whether to stop after it; on many hosts, at the same step on each."""
    if jax.process_count() > 1:  # JAX listens for SIGTERM itself, and agrees on the step
        yield multihost_utils.reached_preemption_sync_point
        return
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # where Python lets no handler be set
        yield lambda step: False
        return
    before = signal.signal(signal.SIGTERM, lambda *_: received.set())
    try:
        yield lambda step: received.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)
    if received.is_set():  # at the last step, which needs no checkpoint but its own: the program ends all the same
        signal.raise_signal(signal.SIGTERM)

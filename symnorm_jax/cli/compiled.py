"""What XLA has compiled, kept from one call to the next."""

import os
from pathlib import Path


def keep_beside(folder: Path) -> None:
    """Keep what is compiled beside a run or a model, where that can be written and no other place is asked for."""
    import jax

    cache = folder.absolute().parent / ".xla"
    there = next(one for one in (cache, *cache.parents) if one.exists())
    if not jax.config.jax_compilation_cache_dir and os.access(there, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

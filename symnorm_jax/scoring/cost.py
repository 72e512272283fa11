"""What it costs to embed a sample, beside which its quality is to be read."""

from timeit import repeat
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from symnorm_jax.scoring.embed import make_embed
from symnorm_jax.systems.contract import System, Variables

REPEATS = 5  # of which the quickest counts: whatever else the machine does only ever adds time


def cost(system: System, variables: Variables, batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, Any]:
    """Measure what a system costs that embeds a batch `{name: [B, ...]}` on a mesh: passes, parameters, seconds.

    Parameters are what is learned; what a system measures (`stats`) is not counted. Seconds are those of the quickest
    of five batches, compiled before; `device` names what they were measured on.
    """
    embed = make_embed(system, mesh)

    def once() -> None:
        jax.block_until_ready(embed(variables, batch))

    once()
    return {
        "passes": system.passes,
        "parameters": sum(x.size for x in jax.tree.leaves(variables["params"])),
        "seconds_per_sample": min(repeat(once, number=1, repeat=REPEATS)) / len(batch["index"]),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    }

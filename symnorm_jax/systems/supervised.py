"""What pre-training is to be measured by: the same encoder taught by labels alone, and taught nothing at all."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError
from symnorm_jax.systems.contract import Aux, Batch, Stage, System, Variables
from symnorm_jax.systems.encoder import VolumeEncoder, whole


def supervised(config: ConfigDict) -> System:
    """Train an encoder with labels from scratch; `encoder` says which. Raises ConfigError without a target."""
    if not config.target.column:
        raise ConfigError("target.column='' with system='supervised'; a column of the manifest, as age, is needed.")
    return VolumeEncoder(config).system({})


def untrained(config: ConfigDict) -> System:
    """Leave the weights of an encoder as they were drawn, and measure its batch statistics on training volumes.

    Without them the features of a network with BatchNorm would depend on the scale that its weights happen to have.
    """
    model = VolumeEncoder(config)

    def measure(variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        return jnp.zeros(()), Aux({}, model.trained(variables, whole(batch))[1])

    return model.system({"statistics": Stage((), measure)})

"""What pre-training is to be measured by: the same encoder taught by labels alone, and taught nothing at all."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError
from symnorm_jax.systems.contract import Aux, Batch, Stage, System, Variables
from symnorm_jax.systems.encoder import Encoder, whole


def supervised(config: ConfigDict) -> System:
    """An encoder trained with labels from scratch; `encoder` says which. Raises ConfigError without a target."""
    if not config.target.column:
        raise ConfigError("target.column='' with system='supervised'; a column of the manifest, as age, is needed.")
    return Encoder(config).system({})


def untrained(config: ConfigDict) -> System:
    """An encoder whose weights stay as they were drawn; only its batch statistics are those of the training volumes.

    Without them the features of a network with BatchNorm would depend on the scale that its weights happen to have.
    """
    model = Encoder(config)

    def measure(variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        return jnp.zeros(()), Aux({}, model.trained(variables, whole(batch))[1])

    return model.system({"statistics": Stage((), measure)})

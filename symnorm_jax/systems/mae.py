"""mae: a masked autoencoder of volumes, the rival of simclr that learns by filling in (He et al. 2022).

The paper of 3D-Neuro-SimCLR compares with one and does not say how it was made. Decided here: most of the patches that
show brain are hidden, and the same encoder as everywhere, which sees zeros there, the mean of a standardised brain,
must tell the hidden voxels through a decoder that has nothing but the encoder's last map. A convolutional network
cannot leave hidden patches out of its computation as a transformer does, and saves no time by them.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax import losses
from symnorm_jax.errors import ConfigError
from symnorm_jax.models.decoder3d import Decoder3D
from symnorm_jax.systems.contract import Aux, Batch, Stage, System, Variables, example_keys
from symnorm_jax.systems.encoder import Encoder, whole


def build(config: ConfigDict) -> System:
    """The system of a config with sections `data`, `resnet`, `mae` and `target`.

    Raises ConfigError for another encoder than a ResNet, for masks that hide nothing or everything, and for decoders
    that enlarge by more than the encoder makes smaller.
    """
    mae, stride = config.mae, stride_of(config)
    if config.encoder != "resnet":
        raise ConfigError(f"encoder={config.encoder!r} with system='mae'; 'resnet' is allowed.")
    if not 0 < mae.ratio < 1:
        raise ConfigError(f"mae.ratio={mae.ratio}; a share between 0 and 1 is allowed.")
    if not 1 <= mae.patch <= min(config.data.size):
        raise ConfigError(f"mae.patch={mae.patch}; 1 to {min(config.data.size)} voxels are allowed.")
    if stride % 2 ** len(mae.widths):
        found = f"mae.widths={tuple(mae.widths)} with an encoder of stride {stride}"
        raise ConfigError(f"{found}; widths that double the sides no more often than it halves them are allowed.")
    model = MAE(config)
    return model.encoder.system({"pretrain": Stage(("encoder", "decoder"), model.loss)}, model.init, ("mae.widths",))


def stride_of(config: ConfigDict) -> int:
    """How many voxels a side stand behind one place of the last map of the ResNet."""
    return 2 * config.resnet.stem_stride * 2 ** (len(config.resnet.widths) - 1)


class MAE:
    """Encoder and decoder, and the pure functions made of them; holds settings, never variables."""

    def __init__(self, config: ConfigDict):
        self.encoder, self.mask = Encoder(config), config.mae
        self.decoder = Decoder3D(config.mae.widths, config.data.size, stride_of(config), **config.network)

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Fresh variables; `batch` gives the shapes."""
        keys, volume = jax.random.split(key), batch["image"]
        variables = self.encoder.init(keys[0], batch)
        last, _ = self.encoder.trained(variables, volume, pooled=False)
        decoder = self.decoder.init(keys[1], last)["params"]
        return variables | {"params": variables["params"] | {"decoder": decoder}}

    def loss(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Mean squared error on the hidden voxels of the brain, standardised; the mean of that of each volume."""
        volume, brain = whole(batch), batch["brain"]
        keys = example_keys(key, batch["index"])
        hidden = jax.vmap(lambda key, brain: hide(key, brain, self.mask.patch, self.mask.ratio))(keys, brain)
        last, stats = self.encoder.trained(variables, volume * (1 - hidden), pooled=False)
        told = self.decoder.apply({"params": variables["params"]["decoder"]}, last)
        return losses.l2(told, volume, hidden * brain).mean(), Aux({}, stats)


def hide(key: jax.Array, brain: jax.Array, patch: int, ratio: float) -> jax.Array:
    """1.0 where brain `[X, Y, Z, 1]` is hidden, else 0.0, in patches of `patch` voxels a side, in the same shape.

    Hidden is the share `ratio`, rounded, of the patches that show brain; to fill in air would teach nothing.
    """
    sides = brain.shape[:3]
    grid = tuple(-(-side // patch) for side in sides)
    padded = jnp.pad(brain[..., 0], [(0, cells * patch - side) for cells, side in zip(grid, sides, strict=True)])
    shown = padded.reshape(grid[0], patch, grid[1], patch, grid[2], patch).max((1, 3, 5)) > 0
    chances = jnp.where(shown, jax.random.uniform(key, grid), jnp.inf).ravel()
    rank = jnp.argsort(jnp.argsort(chances)).reshape(grid)
    hidden = (rank < jnp.round(ratio * shown.sum())).astype(jnp.float32)
    for axis in range(3):
        hidden = hidden.repeat(patch, axis)
    return hidden[: sides[0], : sides[1], : sides[2], None]

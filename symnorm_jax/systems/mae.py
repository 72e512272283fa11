"""mae: a masked autoencoder of volumes, the rival of simclr that learns by filling in (He et al. 2022).

The paper of 3D-Neuro-SimCLR compares with one and does not say how it was made. Decided here: most patches that show
brain are hidden. The encoder sees zeros there, the mean of a standardised brain. A decoder, which has nothing but the
encoder's last map, fills them in. A convolutional network cannot leave hidden patches out of its computation as a
transformer does, and saves no time by them.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax import losses
from symnorm_jax.errors import ConfigError
from symnorm_jax.models.decoder3d import Decoder3D
from symnorm_jax.settings import check_rules
from symnorm_jax.systems.contract import Aux, Batch, Stage, System, Variables, example_keys
from symnorm_jax.systems.encoder import VolumeEncoder, whole


def build(config: ConfigDict) -> System:
    """Make the system of a config with sections `data`, `resnet`, `mae` and `target`.

    Raises ConfigError for masks that hide nothing or everything, and for decoders that enlarge by more than the encoder
    makes smaller.
    """
    most, stride = min(config.data.size), stride_of(config)
    check_rules(config, {"mae.ratio": (lambda ratio: 0 < ratio < 1, "a share between 0 and 1 is")})
    check_rules(config, {"mae.patch": (lambda patch: 1 <= patch <= most, f"1 to {most} voxels are")})
    if stride % 2 ** len(config.mae.widths):
        found = f"mae.widths={tuple(config.mae.widths)} with an encoder of stride {stride}"
        raise ConfigError(f"{found}; widths that double the sides no more often than it halves them are allowed.")
    model = MAE(config)
    return model.encoder.system({"pretrain": Stage(("encoder", "decoder"), model.loss)}, model.init, ("mae.widths",))


def stride_of(config: ConfigDict) -> int:
    """Count the voxels a side behind one place of the last map of the ResNet."""
    return 2 * config.resnet.stem_stride * 2 ** (len(config.resnet.widths) - 1)


class MAE:
    """Encoder and decoder, and the pure functions made of them; holds settings, never variables."""

    def __init__(self, config: ConfigDict):
        self.encoder, self.mask = VolumeEncoder(config), config.mae
        self.decoder = Decoder3D(config.mae.widths, config.data.size, stride_of(config), **config.network)

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        keys, volume = jax.random.split(key), batch["image"]
        variables = self.encoder.init(keys[0], batch)
        last, _ = self.encoder.trained(variables, volume, pooled=False)
        decoder = self.decoder.init(keys[1], last)["params"]
        return variables | {"params": variables["params"] | {"decoder": decoder}}

    def loss(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Average the squared error on the hidden voxels of each brain, standardised, over the volumes."""
        volume, brain = whole(batch), batch["brain"]
        keys = example_keys(key, batch["index"])
        hidden = jax.vmap(lambda key, brain: hide(key, brain, self.mask.patch, self.mask.ratio))(keys, brain)
        last, stats = self.encoder.trained(variables, volume * (1 - hidden), pooled=False)
        filled = self.decoder.apply({"params": variables["params"]["decoder"]}, last)
        return losses.l2(filled, volume, hidden * brain).mean(), Aux({}, stats)


def hide(key: jax.Array, brain: jax.Array, patch: int, ratio: float) -> jax.Array:
    """Draw which patches of `patch` voxels a side are hidden, 1.0 or 0.0 in the shape of brain `[X, Y, Z, 1]`.

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

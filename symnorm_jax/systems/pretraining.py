"""simclr and mae: two ways for an encoder of whole T1 volumes to learn without labels.

simclr is 3D-Neuro-SimCLR (Kaczmarek et al., arXiv 2509.10620). Two random views of a volume are to be found again among
the views of all others in the batch. They are compared after a projector, and the features before it are the embedding.
Encoder, projector, loss, temperature and views are as in the release; what it does not fix, such as whether both views
share a pass, stands with the code.

mae is its rival, a masked autoencoder that learns by filling in (He et al. 2022). The paper compares with one and does
not say how it was made. Decided here: most patches that show brain are hidden. The encoder sees zeros there, the mean
of a standardised brain. A decoder, which has nothing but the encoder's last map, fills them in. A convolutional network
cannot leave hidden patches out of its computation as a transformer does, and saves no time by them.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax import losses
from symnorm_jax.errors import ConfigError
from symnorm_jax.masking import widen
from symnorm_jax.models.autoencoder import Decoder3D
from symnorm_jax.models.encoder3d import Projector
from symnorm_jax.settings import check_rules
from symnorm_jax.systems import views
from symnorm_jax.systems.contract import Aux, Batch, Stage, System, Variables, example_keys
from symnorm_jax.systems.encoder import VolumeEncoder, stride_of, whole


def simclr(config: ConfigDict) -> System:
    """Make simclr of a config. Raises ConfigError where no encoder can be made, or no view drawn."""
    model = SimCLR(config)
    return model.encoder.system({"pretrain": Stage(("encoder", "projector"), model.loss)}, model.init, ("projector",))


class SimCLR:
    def __init__(self, config: ConfigDict):
        self.views, self.temperature = views.checked(config.views), config.contrast.temperature
        self.encoder = VolumeEncoder(config)
        self.projector = Projector(**config.projector, dtype=config.network.dtype)

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        keys = jax.random.split(key)
        variables = self.encoder.init(keys[0], batch)
        projector = self.projector.init(keys[1], jnp.zeros((len(batch["image"]), self.encoder.width)))
        return variables | {"params": variables["params"] | {"projector": projector["params"]}}

    def loss(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Compare two views of each volume by NT-Xent; all go through the encoder together and share its statistics."""
        image, brain = batch["image"], batch["brain"]
        keys = (views.view_keys(key, batch["index"], view) for view in range(2))
        drawn = [views.draw(image, brain, one, self.views)[0] for one in keys]
        both = jnp.stack(drawn, 1).reshape(-1, *image.shape[1:])  # views of one volume stay on one device
        features, stats = self.encoder.trained(variables, both)
        projected = self.projector.apply({"params": variables["params"]["projector"]}, features)
        one, other = jnp.moveaxis(projected.reshape(len(image), 2, -1), 1, 0)
        return losses.nt_xent(one, other, self.temperature, batch["patient"]).mean(), Aux({}, stats)


def mae(config: ConfigDict) -> System:
    """Make mae of a config. Raises ConfigError for patches above a side, and a decoder that enlarges too much."""
    most, stride = min(config.data.size), stride_of(config)
    check_rules(config, {"mae.patch": (lambda patch: 1 <= patch <= most, f"1 to {most} voxels are")})
    if stride % 2 ** len(config.mae.widths):
        found = f"mae.widths={tuple(config.mae.widths)} with an encoder of stride {stride}"
        raise ConfigError(f"{found}; widths that double the sides no more often than it halves them are allowed.")
    model = MAE(config)
    return model.encoder.system({"pretrain": Stage(("encoder", "decoder"), model.loss)}, model.init, ("mae.widths",))


class MAE:
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
    hidden = widen((rank < jnp.round(ratio * shown.sum()))[None], patch)[0]
    return hidden[: sides[0], : sides[1], : sides[2]]

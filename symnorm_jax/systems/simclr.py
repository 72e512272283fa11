"""simclr: 3D-Neuro-SimCLR (Kaczmarek et al., arXiv 2509.10620), an encoder of whole T1 volumes.

Two random views of a volume are to be found again among those of all others in the batch; the projector that is
compared is thrown away, and the features before it are the embedding. Encoder, projector, loss, temperature and views
are those of the release; what it does not fix, such as whether both views share a pass, stands with the code.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax import losses
from symnorm_jax.errors import ConfigError
from symnorm_jax.models.resnet3d import NORMS, Projector, ResNet3D
from symnorm_jax.systems import views
from symnorm_jax.systems.contract import Aux, Batch, Embedding, Stage, System, Variables

MEANING = ("data.size", "data.spacing", "data.percentiles", "data.midline", "resnet")


def build(config: ConfigDict) -> System:
    """The system of a config with sections `data`, `resnet`, `projector`, `views` and `contrast`.

    Raises ConfigError for slices in place of volumes, unknown norms, and views that cannot be drawn.
    """
    if len(config.data.size) != 3:
        raise ConfigError(f"data.size={tuple(config.data.size)} with system='simclr'; three sides are allowed.")
    if config.resnet.norm not in NORMS:
        raise ConfigError(f"resnet.norm={config.resnet.norm!r}; one of {sorted(NORMS)} is allowed.")
    if not config.contrast.temperature > 0:
        raise ConfigError(f"contrast.temperature={config.contrast.temperature}; a positive number is allowed.")
    views.checked(config.views)
    model = SimCLR(config)
    stages = {"pretrain": Stage(("encoder", "projector"), model.loss)}
    return System(model.init, stages, model.embed, meaning=MEANING)


class SimCLR:
    """Encoder and projector, and the pure functions made of them; holds settings, never variables."""

    def __init__(self, config: ConfigDict):
        self.encoder = ResNet3D(**config.resnet, **config.network)
        self.projector = Projector(**config.projector, dtype=config.network.dtype)
        self.views, self.temperature = config.views, config.contrast.temperature

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Fresh variables; `batch` gives the shapes."""
        keys, image = jax.random.split(key), batch["image"]
        encoder = self.encoder.init(keys[0], image, train=False)
        features = jnp.zeros((len(image), self.encoder.widths[-1]))
        params = {"encoder": encoder["params"], "projector": self.projector.init(keys[1], features)["params"]}
        return {"params": params, "stats": {"encoder": {**encoder}.get("batch_stats", {})}}

    def loss(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """NT-Xent of two views of each volume; both go through the encoder together, and share its batch statistics."""
        image, brain = batch["image"], batch["brain"]
        keys = (views.view_keys(key, batch["index"], view) for view in range(2))
        drawn = [views.draw(image, brain, one, self.views)[0] for one in keys]
        both = jnp.stack(drawn, 1).reshape(-1, *image.shape[1:])  # views of one volume stay on one device
        seen = {"params": variables["params"]["encoder"], "batch_stats": variables["stats"]["encoder"]}
        features, changed = self.encoder.apply(seen, both, train=True, mutable=["batch_stats"])
        projected = self.projector.apply({"params": variables["params"]["projector"]}, features)
        one, other = jnp.moveaxis(projected.reshape(len(image), 2, -1), 1, 0)
        stats = {"encoder": changed["batch_stats"]} if changed else variables["stats"]
        # By its index, a volume that comes twice in a batch is no negative of itself.
        return losses.nt_xent(one, other, self.temperature, batch["index"]).mean(), Aux({}, stats)

    def embed(self, variables: Variables, batch: Batch) -> Embedding:
        """The features of the whole volume, standardised within the brain as views are; there is no map."""
        seen = {"params": variables["params"]["encoder"], "batch_stats": variables["stats"]["encoder"]}
        volume = jax.vmap(views.standardise)(batch["image"].astype(jnp.float32), batch["brain"])
        return Embedding(self.encoder.apply(seen, volume, train=False), {})

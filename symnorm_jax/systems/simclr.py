"""simclr: 3D-Neuro-SimCLR (Kaczmarek et al., arXiv 2509.10620), an encoder of whole T1 volumes.

Two random views of a volume are to be found again among the views of all others in the batch. They are compared after a
projector, and the features before it are the embedding. Encoder, projector, loss, temperature and views are as in the
release; what it does not fix, such as whether both views share a pass, stands with the code.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax import losses
from symnorm_jax.models.encoder3d import Projector
from symnorm_jax.settings import POSITIVE, check_rules
from symnorm_jax.systems import views
from symnorm_jax.systems.contract import Aux, Batch, Stage, System, Variables
from symnorm_jax.systems.encoder import VolumeEncoder


def build(config: ConfigDict) -> System:
    """Make the system of a config with sections `data`, `resnet`, `projector`, `views`, `contrast` and `target`.

    Raises ConfigError for what no encoder can be made of, and for views that cannot be drawn.
    """
    check_rules(config, {"contrast.temperature": POSITIVE})
    model = SimCLR(config)
    return model.encoder.system({"pretrain": Stage(("encoder", "projector"), model.loss)}, model.init, ("projector",))


class SimCLR:
    """Encoder and projector, and the pure functions made of them; holds settings, never variables."""

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

"""The encoder of whole volumes that several systems train, each in its way, and the head that predicts from it.

What they share is here, so that only the training before differs: the same network, the same embedding, the same
fine-tuning with labels. Fine-tuning is that of 3D-Neuro-SimCLR (Kaczmarek et al. 2025): a linear layer on the features,
encoder and batch statistics free, no augmentation; squared error of a number, cross-entropy of a class.
"""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError
from symnorm_jax.models.cnn3d import CNN3D
from symnorm_jax.models.resnet3d import NORMS, Head, ResNet3D
from symnorm_jax.systems import views
from symnorm_jax.systems.contract import Aux, Batch, Embedding, Stage, System, Variables

KINDS = ("number", "class")  # of a target
NETS = ("resnet", "cnn")
FINETUNE = "finetune"
MEANING = ("data.size", "data.spacing", "data.percentiles", "data.midline", "encoder")  # and the encoder's own section


class Encoder:
    """Encoder and head, and the pure functions made of them; holds settings, never variables."""

    def __init__(self, config: ConfigDict):
        """Raises ConfigError for slices in place of volumes, an unknown encoder, norm or kind of target."""
        check(config)
        self.section, section = config.encoder, config[config.encoder]
        self.net = (ResNet3D if config.encoder == "resnet" else CNN3D)(**section, **config.network)
        self.width = section.widths[-1] if config.encoder == "resnet" else section.features
        self.head, self.target = Head(), config.target

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        """Fresh variables; `batch` gives the shapes."""
        keys, image = jax.random.split(key), batch["image"]
        encoder = self.net.init(keys[0], image, train=False)
        head = self.head.init(keys[1], jnp.zeros((len(image), self.width)))
        params = {"encoder": encoder["params"], "head": head["params"]}
        return {"params": params, "stats": {"encoder": {**encoder}.get("batch_stats", {})}}

    def trained(self, variables: Variables, volume: jax.Array, **how) -> tuple[jax.Array, dict]:
        """What the encoder makes of volumes `[B, X, Y, Z, 1]` by their own statistics, and the new `stats`."""
        seen = {"params": variables["params"]["encoder"], "batch_stats": variables["stats"]["encoder"]}
        made, changed = self.net.apply(seen, volume, train=True, mutable=["batch_stats"], **how)
        return made, {"encoder": changed["batch_stats"]} if changed else variables["stats"]

    def predict(self, variables: Variables, features: jax.Array) -> jax.Array:
        """The head's answer to features `[B, D]`, `[B]`: a standardised number, or the log-odds of a class."""
        return self.head.apply({"params": variables["params"]["head"]}, features)

    def finetune(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """How far predictions are from the batch's `target`, in the mean over the volumes."""
        features, stats = self.trained(variables, whole(batch))
        of = optax.sigmoid_binary_cross_entropy if self.target.kind == "class" else optax.squared_error
        return of(self.predict(variables, features), batch["target"]).mean(), Aux({}, stats)

    def embed(self, variables: Variables, batch: Batch) -> Embedding:
        """The features of whole volumes and, of a system with a target, what they predict; there is no map."""
        seen = {"params": variables["params"]["encoder"], "batch_stats": variables["stats"]["encoder"]}
        z = self.net.apply(seen, whole(batch), train=False)
        return Embedding(z, {}, predicted=self.predict(variables, z) if self.target.column else None)

    def system(self, stages: dict[str, Stage], init=None, meaning: tuple[str, ...] = ()) -> System:
        """A system with these stages before fine-tuning, which is there where a target is.

        `meaning` are config keys, beside the encoder's, that give the networks their shapes.
        """
        asks = ("target",) if self.target.column else ()
        if self.target.column:
            stages = stages | {FINETUNE: Stage(("encoder", "head"), self.finetune)}
        return System(init or self.init, stages, self.embed, meaning=(*MEANING, self.section, *meaning), asks=asks)


def whole(batch: Batch) -> jax.Array:
    """The volumes of a batch, float32, standardised within the brain as views are."""
    return jax.vmap(views.standardise)(batch["image"].astype(jnp.float32), batch["brain"])


def check(config: ConfigDict) -> None:
    """Raise ConfigError for what no encoder of volumes can be made of."""
    if len(config.data.size) != 3:
        found = f"data.size={tuple(config.data.size)} with system={config.system!r}"
        raise ConfigError(f"{found}; three sides are allowed.")
    for key, value, allowed in (
        ("encoder", config.encoder, NETS),
        ("resnet.norm", config.resnet.norm, NORMS),
        ("target.kind", config.target.kind, KINDS),
    ):
        if value not in allowed:
            raise ConfigError(f"{key}={value!r}; one of {sorted(allowed)} is allowed.")
    if config.encoder == "resnet" and len(config.resnet.widths) != len(config.resnet.depths):
        found = f"resnet.widths={tuple(config.resnet.widths)}, resnet.depths={tuple(config.resnet.depths)}"
        raise ConfigError(f"{found}; as many of one as of the other are allowed.")
    least = 2 ** len(config.cnn.widths)
    if config.encoder == "cnn" and min(config.data.size) < least:
        found = f"data.size={tuple(config.data.size)} with {len(config.cnn.widths)} cnn.widths"
        raise ConfigError(f"{found}; sides of {least} or more are allowed.")

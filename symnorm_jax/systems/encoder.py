"""The encoder of volumes that several systems train, each in its way, and the head that predicts from its features.

What they share is here, so that only the training before differs: network, embedding and fine-tuning with labels. That
is as in 3D-Neuro-SimCLR (Kaczmarek et al. 2025): a linear layer on the features, encoder and batch statistics free, no
augmentation. So are the two that pre-training is measured by: taught by labels alone, and taught nothing at all.
"""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError
from symnorm_jax.models.encoder3d import CNN3D, NORMS, Head, ResNet3D
from symnorm_jax.models.saca import POOLS, PairedSwin
from symnorm_jax.models.swin3d import CLIPS, MERGINGS
from symnorm_jax.settings import check_choices, check_one_contrast, target_of, value_of
from symnorm_jax.systems import views
from symnorm_jax.systems.contract import DATA, Aux, Batch, Embedding, Stage, System, Variables

FINETUNE = "finetune"


class VolumeEncoder:
    """Encoder and head. Raises ConfigError for slices in place of volumes, an unknown choice, or sides too small."""

    def __init__(self, config: ConfigDict):
        size, name = tuple(config.data.size), config.encoder
        if len(size) != 3:
            raise ConfigError(f"data.size={size} with system={config.system!r}; three sides are allowed.")
        check_one_contrast(config)
        check_choices(config, {"encoder": NETS, "target.kind": ("number", "class")})
        if name not in config:
            allowed = " or ".join(repr(one) for one in NETS if one in config)
            raise ConfigError(f"encoder={name!r} with system={config.system!r}; {allowed} is allowed.")
        (kind, self.width), self.section = NETS[name](config), name
        self.net, self.size = kind(**config[name], **config.network), size
        self.head, self.target = Head(), target_of(config)

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        keys, image = jax.random.split(key), batch["image"]
        encoder = self.net.init(keys[0], image, train=False)
        head = self.head.init(keys[1], jnp.zeros((len(image), self.width)))
        params = {"encoder": encoder["params"], "head": head["params"]}
        return {"params": params, "stats": {"encoder": {**encoder}.get("batch_stats", {})}}

    def trained(self, variables: Variables, volume: jax.Array, **how) -> tuple[jax.Array, dict]:
        """Encode volumes `[B, X, Y, Z, 1]` by their own batch statistics; features and the new `stats`."""
        features, changed = self.net.apply(_seen(variables), volume, train=True, mutable=["batch_stats"], **how)
        return features, {"encoder": changed["batch_stats"]} if changed else variables["stats"]

    def predict(self, variables: Variables, features: jax.Array) -> jax.Array:
        """Answer to features `[B, D]`, `[B]`: a standardised number, or the log-odds of a class."""
        return self.head.apply({"params": variables["params"]["head"]}, features)

    def finetune(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Average squared errors of a number, or cross-entropies of a class, from the batch's `target`."""
        features, stats = self.trained(variables, whole(batch))
        error = optax.sigmoid_binary_cross_entropy if self.target.kind == "class" else optax.squared_error
        return error(self.predict(variables, features), batch["target"]).mean(), Aux({}, stats)

    def embed(self, variables: Variables, batch: Batch) -> Embedding:
        """Embed whole volumes as their features and, with a target, what they predict; there is no map."""
        z = self.net.apply(_seen(variables), whole(batch), train=False)
        return Embedding(z, {}, predicted=self.predict(variables, z) if self.target else None)

    def system(self, stages: dict[str, Stage], init=None, meaning: tuple[str, ...] = ()) -> System:
        """Make a system of stages, and of fine-tuning where there is a target; `meaning` is added to the encoder's.

        A Swin serves volumes of any sides: what it learned of one size may begin another.
        """
        if self.target:
            stages = stages | {FINETUNE: Stage(("encoder", "head"), self.finetune)}
        asks, sides = ("target",) if self.target else (), ("data.size",) if self.section == "swin" else ()
        meaning = (*(key for key in DATA if key not in sides), "encoder", self.section, *meaning)
        return System(init or self.init, stages, self.embed, meaning=meaning, fitted=sides, asks=asks)


def _resnet(config: ConfigDict) -> tuple:
    check_choices(config, {"resnet.norm": NORMS})
    _check_alike(config, "resnet.widths", "resnet.depths")
    return ResNet3D, config.resnet.widths[-1]


def _cnn(config: ConfigDict) -> tuple:
    count = len(config.cnn.widths)
    if min(config.data.size) < 2**count:
        found = f"data.size={tuple(config.data.size)} with {count} cnn.widths"
        raise ConfigError(f"{found}; sides of {2**count} or more are allowed.")
    return CNN3D, config.cnn.features


def _swin(config: ConfigDict) -> tuple:
    """Raise ConfigError for heads that do not divide widths, and for a last map of one place, which attends to none."""
    check_choices(config, {"swin.merging": MERGINGS, "swin.clip": CLIPS, "swin.pool": POOLS})
    _check_alike(config, "swin.heads", "swin.depths")
    swin, size = config.swin, tuple(config.data.size)
    width, stride = swin.embed * 2 ** len(swin.depths), stride_of(config)
    divided = [swin.embed * 2**i for i in range(len(swin.depths))]
    if any(w % heads for w, heads in zip(divided, swin.heads, strict=True)) or width % max(swin.cross_heads, 1):
        found = f"swin.heads={tuple(swin.heads)}, swin.cross_heads={swin.cross_heads}"
        raise ConfigError(f"{found} with swin.embed={swin.embed}; divisors of {(*divided, width)} are allowed.")
    if min(size) <= stride:
        found = f"data.size={size} with {len(swin.depths)} swin.depths"
        raise ConfigError(f"{found}; sides above {stride}, of which one place of the last map is made, are allowed.")
    return PairedSwin, width


def stride_of(config: ConfigDict) -> int:
    """Count the voxels a side behind one place of the last map."""
    if config.encoder == "swin":
        return config.swin.patch * 2 ** len(config.swin.depths)
    return 2 * config.resnet.stem_stride * 2 ** (len(config.resnet.widths) - 1)


def _check_alike(config: ConfigDict, *keys: str) -> None:
    one, other = (tuple(value_of(config, key)) for key in keys)
    if len(one) != len(other):
        found = f"{keys[0]}={one}, {keys[1]}={other}"
        raise ConfigError(f"{found}; as many of one as of the other are allowed.")


NETS = {"resnet": _resnet, "cnn": _cnn, "swin": _swin}


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


def whole(batch: Batch) -> jax.Array:
    """Standardise the volumes of a batch within the brain as views are, in float32."""
    return jax.vmap(views.standardise)(batch["image"].astype(jnp.float32), batch["brain"])


def _seen(variables: Variables) -> dict:
    return {"params": variables["params"]["encoder"], "batch_stats": variables["stats"]["encoder"]}

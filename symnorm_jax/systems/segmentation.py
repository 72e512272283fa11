"""Marking lesions that somebody has drawn: networks of a volume beside its mirror image, trained with masks.

The stage `segment` of saca, after its pre-training, and a system of its own, `segmenter`, for what it is compared with:
the same Swin from scratch, or with no mirror image; and a plain U-Net, to which the mirror image is a second channel,
as in Raina et al. (2020). Healthy volumes are learned from too: there nothing is to be marked.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax import losses
from symnorm_jax.errors import ConfigError
from symnorm_jax.geometry import mirror_batch
from symnorm_jax.models.segmentation import LightDecoder, SwinUNETR
from symnorm_jax.models.unet import UNet
from symnorm_jax.settings import check_choices, check_one_contrast
from symnorm_jax.systems import windows
from symnorm_jax.systems.contract import DATA, Aux, Batch, Embedding, Stage, System, Variables, example_keys
from symnorm_jax.systems.encoder import VolumeEncoder, stride_of, whole

SEGMENT = "segment"
DECODERS = {"light": LightDecoder, "swin_unetr": SwinUNETR}
MEANING = ("segment.network", "segment.mirror")  # of the network `segmenter`
MIRRORS = ("own", "average", "none")
TOP = 20  # voxels whose mean is the score `highest`
RARE = -4.6  # log-odds of 1 %: what is said of each voxel before anything is learned, or hundreds of steps go into that


def segmenter(config: ConfigDict) -> System:
    """Make what learns from masks alone. Raises ConfigError for what the config does not allow."""
    model = Segmenter(config, ("unet", *DECODERS))
    own = ("encoder", "swin") if model.encoder else ("unet",)
    return System(
        model.init,
        {SEGMENT: Stage(model.nets, model.loss)},
        model.embed,
        scores=("highest",),
        passes=windows.count_of(model.size, config.segment.crop) * (2 if model.encoder else 1),
        meaning=(*(key for key in DATA if key != "data.size"), *MEANING, *own),
        fitted=("data.size", "segment.crop"),
        asks=("lesion",),
    )


class Segmenter:
    """The networks of the stage, one of `allowed`. Raises ConfigError for what they, or volumes, do not allow."""

    def __init__(self, config: ConfigDict, allowed: tuple[str, ...] = tuple(DECODERS)):
        check_choices(config, {"segment.network": allowed, "segment.mirror": MIRRORS})
        if config.data.train_on != "everyone":  # nobody healthy has a lesion to learn from
            found = f"data.train_on={config.data.train_on!r} with segment.network={config.segment.network!r}"
            raise ConfigError(f"{found}, which learns from drawn lesions; 'everyone' is allowed.")
        self.settings, self.size = config.segment, tuple(config.data.size)
        crop, unet = config.segment.crop, config.segment.network == "unet"
        if unet:
            check_one_contrast(config)
            self.encoder, self.net = None, UNet(**config.unet, **config.network)
            stride = config.unet.stem * 2 ** (len(config.unet.widths) - 1)
        else:
            self.encoder, stride = VolumeEncoder(config), stride_of(config)
            self.net = DECODERS[config.segment.network](config.swin.patch, **config.network)
        if crop and not stride < crop <= min(self.size):
            raise ConfigError(f"segment.crop={crop}; 0, or sides above {stride} up to {min(self.size)}, are allowed.")
        seen = (crop,) * 3 if crop else self.size
        if unet and (len(seen) != 3 or any(side % stride for side in seen)):
            found = f"data.size={self.size} with segment.crop={crop} and the {len(config.unet.widths)} unet.widths"
            raise ConfigError(f"{found}; three sides that divide by {stride} are allowed.")
        self.nets = ("segmenter", *(("encoder",) if self.encoder else ()))

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        keys = jax.random.split(key)
        variables = self.encoder.init(keys[0], batch) if self.encoder else {"params": {}, "stats": {}}
        return self.added(keys[1], batch, variables)

    def added(self, key: jax.Array, batch: Batch, variables: Variables) -> Variables:
        """Add the network `segmenter` to variables that have the `encoder`, if there is one, and what it measures."""
        volume = batch["image"]
        shapes = (self._maps(variables, volume, volume),) if self.encoder else ()
        given = (volume, *shapes[0]) if shapes else (jnp.concatenate([volume, volume], -1),)
        drawn = self.net.init(key, *jax.lax.stop_gradient(given))["params"]
        stats = {"segmenter": {"n": jnp.zeros(()), "mean": jnp.zeros(volume.shape[1:])}}
        stats = variables["stats"] | (stats if self.settings.mirror == "average" else {})
        return {"params": variables["params"] | {"segmenter": drawn}, "stats": stats}

    def loss(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Add the cross-entropy of the brain's voxels to what soft Dice lacks to 1, each a mean over the volumes."""
        volume = whole(batch)
        stats = self._measured(variables["stats"], volume)
        given = [volume, self.mirrored(volume, stats), batch["lesion"][..., None], batch["brain"]]
        if side := self.settings.crop:
            cut = lambda key, *of: self._cut(side, key, *of)  # noqa: E731
            given = jax.vmap(cut)(example_keys(key, batch["index"]), *given)
        *seen, lesion, brain = given
        logits, _ = self.logits(variables, *seen)
        terms = {"dice": losses.soft_dice(jax.nn.sigmoid(logits), lesion, brain).mean()}
        terms["cross_entropy"] = losses.cross_entropy(logits, lesion, brain).mean()
        return terms["dice"] + terms["cross_entropy"], Aux(terms, stats)

    def _measured(self, stats: dict, volume: jax.Array) -> dict:
        """Add volumes `[B, *S, C]` to the mean of all that were learned from, where that is asked for."""
        if self.settings.mirror != "average":
            return stats
        before, count = stats["segmenter"], len(volume)
        n = before["n"] + count
        return stats | {"segmenter": {"n": n, "mean": before["mean"] + (volume.mean(0) - before["mean"]) * count / n}}

    def _cut(self, side: int, key: jax.Array, *of: jax.Array) -> list[jax.Array]:
        start = windows.around(key, side, *(x[..., 0] > 0 for x in of[2:]))
        return [jax.lax.dynamic_slice(x, (*start, 0), (side, side, side, x.shape[-1])) for x in of]

    def mirrored(self, volume: jax.Array, stats: dict) -> jax.Array:
        """Give what volumes `[B, *S, C]` are compared with: their mirror images, the average head, or themselves."""
        if self.settings.mirror == "average":
            return jnp.broadcast_to(stats["segmenter"]["mean"], volume.shape)
        return mirror_batch(volume) if self.settings.mirror == "own" else volume

    def logits(self, variables: Variables, volume: jax.Array, mirrored: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Compute the log-odds of lesion in volumes `[B, *S, 1]`, of the same shape, and features `[B, D]`."""
        params = {"params": variables["params"]["segmenter"]}
        if self.encoder:
            maps, last = self._maps(variables, volume, mirrored)
            return self.net.apply(params, volume, maps, last) + RARE, last.mean((1, 2, 3))
        found, seen = self.net.apply(params, jnp.concatenate([volume, mirrored], -1), mutable=["intermediates"])
        return found + RARE, seen["intermediates"]["encoder"][0][-1].mean((1, 2, 3))

    def _maps(self, variables: Variables, volume: jax.Array, mirrored: jax.Array) -> tuple[list, jax.Array]:
        ask = lambda *given, of: self.encoder.net.apply(  # noqa: E731
            {"params": variables["params"]["encoder"]}, *given, method=of
        )
        *maps, last = ask(volume, of="maps")
        return maps, ask(last, ask(mirrored, of="tokens"), of="attend")

    def marks(self, variables: Variables, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Give the chance of lesion at each voxel of the brain, `[B, *S]`, and features `[B, D]`, window by window."""

        def net(volume: jax.Array, mirrored: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits, features = self.logits(variables, volume, mirrored)
            return jax.nn.sigmoid(logits[..., 0]), features

        volume = whole(batch)
        chance, features = windows.slid(net, self.settings.crop, volume, self.mirrored(volume, variables["stats"]))
        return chance * batch["brain"][..., 0], features

    def embed(self, variables: Variables, batch: Batch) -> Embedding:
        """Embed volumes as their features; score and map are how sure lesions are."""
        chance, features = self.marks(variables, batch)
        return Embedding(features, {"highest": highest(chance)}, map=chance)


def highest(chance: jax.Array) -> jax.Array:
    """Average the TOP highest voxels of maps `[B, *S]`, `[B]`."""
    return jax.lax.top_k(chance.reshape(len(chance), -1), TOP)[0].mean(-1)

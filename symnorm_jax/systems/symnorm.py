"""symnorm: the project's reading of "Normal is All You Need" (Wang et al., medRxiv 10.64898/2026.04.10.26350553).

A U-Net learns on healthy slices to fill hidden patches. A complementary cover of masks gives a whole, disorder-free
slice. A Beta-VAE embeds the difference map. The abstract fixes that chain, the 1024 dimensions and the Mahalanobis
distance; every other choice here is a config value. Of the task `corruption` the U-Net learns to undo what
`corruption.py` does to slices, is not told where, and takes one pass.
"""

import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax import corruption, losses
from symnorm_jax.channels import channels_of
from symnorm_jax.geometry import mirror_batch
from symnorm_jax.masking import cover, patch_grid, widen
from symnorm_jax.models.autoencoder import BetaVAE
from symnorm_jax.models.unet import UNet
from symnorm_jax.settings import check_choices, check_sides, contrasts_of
from symnorm_jax.systems.contract import DATA, Aux, Batch, Embedding, Residual, Stage, System, Variables, example_keys

TASKS = ("masking", "corruption")
MEANING = (*DATA, "task", "mask", "corruption", "unet", "vae", "difference", "loss.scale")


def build(config: ConfigDict) -> System:
    """Make symnorm of a config. Raises ConfigError where a choice is unknown, or patches or networks do not fit."""
    channels_of(config)
    check_choices(config, {"task": TASKS, "loss.reconstruction": losses.RECONSTRUCTION})
    corruption.check_grid(config, "corruption")
    check_sides(config, math.lcm(config.unet.stem * 2 ** (len(config.unet.widths) - 1), 2 ** len(config.vae.widths)))
    model = Symnorm(config)
    stages = {"unet": Stage(("unet",), model.unet_loss), "vae": Stage(("vae",), model.vae_loss, of_maps=True)}
    passes, asks = len(model.covers), () if model.corrupts else ("hidden",)
    return System(model.init, stages, model.embed, model.residual, ("mse",), passes, MEANING, asks=asks)


class Symnorm:
    def __init__(self, config: ConfigDict):
        self.size, self.mask, self.loss = tuple(config.data.size), config.mask, config.loss
        self.corrupts, self.corruption = config.task == "corruption", config.corruption
        self.kind = "none" if self.corrupts else config.mask.kind
        self.threshold = config.difference.threshold
        self.unet = UNet(**config.unet, **config.network, channels=len(contrasts_of(config)))
        self.vae = BetaVAE(size=self.size, **config.vae, **config.network)
        grid = patch_grid(self.size, config.mask.patch)
        self.covers = cover(self.kind, grid, config.mask.ratio, config.mask.covers)  # [K, *grid] bool

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        image, keys = batch["image"], jax.random.split(key)
        unet = self.unet.init(keys[0], self._seen(image, jnp.ones_like(image[..., :1])))["params"]
        vae = self.vae.init(keys[1], image[..., :1], jnp.zeros((len(image), self.vae.latent)))["params"]
        return {"params": {"unet": unet, "vae": vae}, "stats": {}}

    def fill(self, variables: Variables, image: jax.Array, hidden: jax.Array) -> jax.Array:
        """Fill pixels `hidden` `[B, *S, 1]`, which the U-Net does not see; `[B, *S, C]`."""
        return self.unet.apply({"params": variables["params"]["unet"]}, self._seen(image, hidden))

    def _seen(self, image: jax.Array, hidden: jax.Array) -> jax.Array:
        """Join visible pixels, mask and, with `mirror_context`, their mirror images, `[B, *S, (C + 1) * (1 or 2)]`."""
        seen = jnp.concatenate([image * (1 - hidden), hidden], -1)
        return jnp.concatenate([seen, mirror_batch(seen)], -1) if self.mask.mirror_context else seen

    def reconstruct(self, variables: Variables, image: jax.Array) -> jax.Array:
        """Stitch a slice from what the U-Net says of each patch while that patch is hidden, `[B, *S, C]`.

        Patches that are hidden in several masks are averaged; those never hidden (of the kind "none") take the mean.
        """
        hidden = widen(jnp.asarray(self.covers), self.mask.patch)[:, None]  # [K, 1, *S, 1]

        def pass_of(mask: jax.Array) -> jax.Array:
            return self.fill(variables, image, jnp.broadcast_to(mask, image[..., :1].shape))

        weight = jnp.where(hidden.sum(0, keepdims=True) > 0, hidden, 1.0)
        return (jax.lax.map(pass_of, hidden) * weight).sum(0) / weight.sum(0)

    def residual(self, variables: Variables, batch: Batch) -> Residual:
        """Compare slices with their reconstruction; the score is the mean squared error over all contrasts."""
        reconstruction = self.reconstruct(variables, batch["image"])
        difference = (batch["image"] - reconstruction) * batch["brain"]
        visible = batch["image"] * (1 - widen(jnp.asarray(self.covers[:1]), self.mask.patch))
        panels = {"first mask": visible[..., :1], "reconstruction": (reconstruction * batch["brain"])[..., :1]}
        return Residual(difference, {"mse": losses.l2(reconstruction, batch["image"], batch["brain"])}, panels)

    def embedded_map(self, batch: Batch) -> jax.Array:
        """Shrink the difference map towards 0 by the threshold, so that what healthy people show is no load to embed.

        In units of the deviation of the VAE's likelihood, `[B, *S, 1]`.
        """
        size = jnp.maximum(jnp.abs(batch["difference"]) - self.threshold, 0)
        return jnp.sign(batch["difference"]) * size / self.loss.scale

    def unet_loss(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Measure the error on hidden brain pixels; on all of them where none is hidden."""
        image, brain, masked = batch["image"], batch["brain"], self.kind != "none"
        if self.corrupts:
            seen = corruption.corrupt(image, brain, example_keys(key, batch["index"]), self.corruption)
            hidden = jnp.zeros_like(brain)
        else:
            seen, hidden = image, widen(batch["hidden"], self.mask.patch)
        filled = self.fill(variables, seen, hidden)
        weight = brain * hidden if masked else brain
        error = losses.RECONSTRUCTION[self.loss.reconstruction](filled, image, weight).mean()
        metrics = {"reconstruction": error}
        if self.loss.ssim:
            # Windows reach into visible pixels, where the answer is free and the image is known.
            stitched = filled * hidden + image * (1 - hidden) if masked else filled
            metrics["ssim"] = losses.dissimilarity(stitched, image, weight).mean()
            error += self.loss.ssim * metrics["ssim"]
        return error, Aux(metrics, variables["stats"])

    def vae_loss(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Bound the evidence of the frozen U-Net's difference maps from below, in nats, with the KL warmed up."""
        target = self.embedded_map(batch)
        noise = jax.vmap(lambda one: jax.random.normal(one, (self.vae.latent,)))(example_keys(key, batch["index"]))
        decoded, mean, log_variance = self.vae.apply({"params": variables["params"]["vae"]}, target, noise)
        nll = losses.gaussian_nll(decoded, target, batch["brain"]).mean()
        kl = losses.kl_to_standard_normal(mean, log_variance).mean()
        beta = self.loss.beta * jnp.minimum(1.0, batch["progress"] / self.loss.warmup)
        return nll + beta * kl, Aux({"nll": nll, "kl": kl}, variables["stats"])

    def embed(self, variables: Variables, batch: Batch) -> Embedding:
        """Embed the difference map as its posterior mean."""
        params = {"params": variables["params"]["vae"]}
        return Embedding(self.vae.apply(params, self.embedded_map(batch), method="encode"))

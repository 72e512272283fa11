"""The rivals that reconstruct slices, in one network pass each, and what all rivals on slices share.

What differs from a publication stands with the rival. Shared are networks, and residuals, their scores and embeddings.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax import corruption, losses
from symnorm_jax.channels import channels_of
from symnorm_jax.masking import patch_grid
from symnorm_jax.models.autoencoder import Autoencoder
from symnorm_jax.models.unet import UNet
from symnorm_jax.settings import check_sides, contrasts_of
from symnorm_jax.systems.contract import DATA, Aux, Batch, Embedding, Residual, Stage, System, Variables, example_keys

FITTED = ("mask.patch", "difference")  # of every rival on slices, whose networks never see either
NET = "baseline"  # the name of a rival's network, of its stage, and of its section in `train`; it seeds random numbers


def autoencoder(config: ConfigDict) -> System:
    """AE with a dense bottleneck of 128 (Baur et al. 2021); L1 loss, the residual and the bottleneck are scored."""
    net = autoencoder_of(config)
    return _bottleneck(net, config, _reconstruction_loss(net, lambda image, brain, keys: image))


def context_encoder(config: ConfigDict) -> System:
    """Build the same network, which fills in erased rectangles (Pathak et al. 2016; for brains Zimmerer et al. 2018).

    Without the adversarial loss and the VAE of these; L1 loss in all of the brain. Nothing is erased at inference.
    """
    net = autoencoder_of(config)
    erase = partial(corruption.erase, settings=config.erasing)
    return _bottleneck(net, config, _reconstruction_loss(net, erase), "erasing")


def variational_autoencoder(config: ConfigDict) -> System:
    """VAE of the same architecture (Baur et al. 2021): L1 error summed over pixels, scored from the posterior mean.

    The error is weighed against the KL divergence in shares of the brain's range of intensities, as there.
    """
    net = autoencoder_of(config, variational=True)

    def loss(variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        params = {"params": variables["params"][NET]}
        mean, log_variance = net.apply(params, batch["image"], method="encode")
        noise = jax.vmap(lambda one: jax.random.normal(one, mean.shape[1:]))(example_keys(key, batch["index"]))
        decoded = net.apply(params, mean + noise * jnp.exp(0.5 * log_variance), method="decode")
        unit = corruption.RANGE * corruption.spread(batch["image"], batch["brain"])
        error = (jnp.abs(decoded - batch["image"]) / unit * batch["brain"]).sum((1, 2, 3)).mean()
        kl = losses.kl_to_standard_normal(mean, log_variance).mean()
        return error + kl, Aux({"l1": error, "kl": kl}, variables["stats"])

    return _bottleneck(net, config, loss)


def denoising_autoencoder(config: ConfigDict) -> System:
    """U-Net, of symnorm's widths, that takes coarse noise out (Kascenas et al. 2022); none is added at inference.

    There maps lose the rim of the brain and are median filtered; here `evaluation.postprocess` does that, for every
    system alike.
    """
    net = unet_of(config)
    restore = lambda params, image: net.apply(params, image)  # noqa: E731
    return _system(net, denoising_loss(net, config), restore, by_patch_of(config), "unet", "noise")


def denoising_loss(net, config: ConfigDict) -> Callable:
    """Make the squared loss of a network that takes out coarse noise. Raises ConfigError for too fine a grid."""
    corruption.check_grid(config, "noise")
    return _reconstruction_loss(net, partial(corruption.add_noise, settings=config.noise), "l2")


def _bottleneck(net, config: ConfigDict, loss: Callable, *meaning: str) -> System:
    channels_of(config)

    def encode(params: dict, image: jax.Array) -> jax.Array:
        return net.apply(params, image, method="encode")[0]

    def embed(variables: Variables, batch: Batch) -> Embedding:
        return Embedding(encode({"params": variables["params"][NET]}, batch["image"]))

    restore = lambda params, image: net.apply(params, encode(params, image), method="decode")  # noqa: E731
    return _system(net, loss, restore, embed, "autoencoder", *meaning)


def _system(net, loss: Callable, restore: Callable, embed: Callable, *meaning: str) -> System:
    def init(key: jax.Array, batch: Batch) -> Variables:
        return {"params": {NET: net.init(key, batch["image"])["params"]}, "stats": {}}

    def residual(variables: Variables, batch: Batch) -> Residual:
        return residual_of(batch, restore({"params": variables["params"][NET]}, batch["image"]))

    stages = {NET: Stage((NET,), loss)}
    return System(init, stages, embed, residual, ("mae",), meaning=(*DATA, *meaning), fitted=FITTED)


def _reconstruction_loss(net, corrupt: Callable, kind: str = "l1") -> Callable:
    """Make the loss, of a `kind` of `losses.RECONSTRUCTION`, of a network that restores corrupted brains."""

    def loss(variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        seen = corrupt(batch["image"], batch["brain"], example_keys(key, batch["index"]))
        filled = net.apply({"params": variables["params"][NET]}, seen)
        error = losses.RECONSTRUCTION[kind](filled, batch["image"], batch["brain"]).mean()
        return error, Aux({kind: error}, variables["stats"])

    return loss


def unet_of(config: ConfigDict) -> UNet:
    """Make the U-Net of a config. Raises ConfigError for slices that do not divide into its levels or into patches."""
    _check_slices(config, config.unet.stem * 2 ** (len(config.unet.widths) - 1))
    return UNet(**config.unet, **config.network, channels=len(contrasts_of(config)))


def autoencoder_of(config: ConfigDict, variational: bool = False) -> Autoencoder:
    """Make the autoencoder of a config. Raises ConfigError for slices that do not divide as it needs."""
    _check_slices(config, 2 ** len(config.autoencoder.widths))
    kind = {"size": tuple(config.data.size), "channels": len(contrasts_of(config)), "variational": variational}
    return Autoencoder(**config.autoencoder, **config.network, **kind)


def residual_of(batch: Batch, reconstruction: jax.Array) -> Residual:
    """Compare slices with their reconstruction; the score `mae` is the mean absolute residual in the brain."""
    difference = (batch["image"] - reconstruction) * batch["brain"]
    panels = {"reconstruction": (reconstruction * batch["brain"])[..., :1]}
    mae = losses.l1(reconstruction, batch["image"], batch["brain"])
    return Residual(difference, {"mae": mae}, panels)


def by_patch_of(config: ConfigDict) -> Callable[[Variables, Batch], Embedding]:
    """Make the `embed` of rivals without a bottleneck: the mean size of the map by patch. Raises ConfigError."""
    channels_of(config)
    return lambda variables, batch: Embedding(by_patch(jnp.abs(batch["difference"]), batch["brain"], config.mask.patch))


def by_patch(x: jax.Array, brain: jax.Array, patch: int) -> jax.Array:
    """Average x `[B, *S, 1]` over the brain in each patch of `patch` pixels a side, `[B, patches]`; 0 without brain."""
    window = (1, *(patch,) * (x.ndim - 2), 1)
    total, count = (jax.lax.reduce_window(one, 0.0, jax.lax.add, window, window, "VALID") for one in (x * brain, brain))
    return (total / jnp.maximum(count, 1.0)).reshape(x.shape[0], -1)


def _check_slices(config: ConfigDict, divisor: int) -> None:
    check_sides(config, divisor)
    patch_grid(tuple(config.data.size), config.mask.patch)

"""symnorm: the project's reading of "Normal is All You Need" (Wang et al., medRxiv 10.64898/2026.04.10.26350553).

A U-Net learns on healthy slices to fill hidden patches; a complementary cover of masks gives a whole, disorder-free
slice; a Beta-VAE embeds the difference map. The abstract fixes that chain, the 1024 dimensions and the Mahalanobis
distance; every other choice here is a config value.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax import losses
from symnorm_jax.data.geometry import mirror_batch
from symnorm_jax.errors import ConfigError
from symnorm_jax.masking import cover, patch_grid, widen
from symnorm_jax.models.unet import UNet
from symnorm_jax.models.vae import BetaVAE
from symnorm_jax.systems.contract import Aux, Batch, Embedding, Stage, System, Variables, example_keys

RESIDUAL_MEMORY = 0.99  # of the running mean of the healthy residual: about the last hundred batches

DIFFERENCE = {
    "absolute": jnp.abs,
    "signed": lambda difference: difference,
    "squared": jnp.square,
    "positive": jax.nn.relu,
    "negative": lambda difference: jax.nn.relu(-difference),
}


def build(config: ConfigDict) -> System:
    """The system of a config with sections `data`, `mask`, `unet`, `vae`, `loss` and `difference`.

    Raises ConfigError where a choice is unknown or the patches do not fit the images.
    """
    for key, value, allowed in (
        ("difference.kind", config.difference.kind, DIFFERENCE),
        ("loss.reconstruction", config.loss.reconstruction, losses.RECONSTRUCTION),
    ):
        if value not in allowed:
            raise ConfigError(f"{key}={value!r}; one of {sorted(allowed)} is allowed.")
    size, mask = tuple(config.data.size), config.mask
    halvings = max(len(config.unet.widths) - 1, len(config.vae.widths))
    if any(side % 2**halvings for side in size):
        raise ConfigError(f"data.size={size}; sides must divide by {2**halvings} for the depth of the networks.")
    covers = cover(mask.kind, patch_grid(size, mask.patch), mask.ratio, mask.covers)
    unet, vae = UNet(**config.unet), BetaVAE(size=size, **config.vae)

    def init(key: jax.Array, batch: Batch) -> Variables:
        image = batch["image"]
        keys = jax.random.split(key)
        seen = _unet_input(image, jnp.ones_like(image[..., :1]), mask.mirror_context)
        params = {
            "unet": unet.init(keys[0], seen)["params"],
            "vae": vae.init(keys[1], image[..., :1], jnp.zeros((len(image), vae.latent)))["params"],
        }
        residual = {"sum": jnp.zeros(size), "weight": jnp.zeros(size)}
        return {"params": params, "stats": {"residual": residual}}

    def fill(variables: Variables, image: jax.Array, hidden: jax.Array) -> jax.Array:
        """The U-Net's answer for pixels `hidden` `[B, *S, 1]`, which it does not see; `[B, *S, C]`."""
        return unet.apply({"params": variables["params"]["unet"]}, _unet_input(image, hidden, mask.mirror_context))

    def reconstruct(variables: Variables, image: jax.Array) -> jax.Array:
        """A slice stitched from what the U-Net says of each patch while that patch is hidden, `[B, *S, C]`.

        Patches that are hidden in several masks are averaged; those never hidden (`mask.kind="none"`) take the mean.
        """
        hidden = widen(jnp.asarray(covers), mask.patch)[:, None]  # [K, 1, *S, 1]
        filled = jax.lax.map(lambda one: fill(variables, image, jnp.broadcast_to(one, image[..., :1].shape)), hidden)
        weight = jnp.where(hidden.sum(0) > 0, hidden, 1.0)
        return (filled * weight).sum(0) / weight.sum(0)

    def difference_map(variables: Variables, batch: Batch, reconstruction: jax.Array) -> jax.Array:
        """`[B, *S, 1]`, zero outside the brain; in healthy residuals if `difference.relative`, else in intensities."""
        difference = (batch["image"] - reconstruction).mean(-1, keepdims=True) * batch["brain"]
        if config.difference.relative:
            difference = difference / _healthy_residual(variables["stats"]["residual"])
        return DIFFERENCE[config.difference.kind](difference)

    def unet_loss(variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        hidden = widen(batch["hidden"], mask.patch)
        filled = fill(variables, batch["image"], hidden)
        weight = batch["brain"] if mask.kind == "none" else batch["brain"] * hidden
        error = losses.RECONSTRUCTION[config.loss.reconstruction](filled, batch["image"], weight).mean()
        metrics = {"reconstruction": error}
        if config.loss.ssim:
            metrics["ssim"] = losses.dissimilarity(filled, batch["image"], weight).mean()
            error += config.loss.ssim * metrics["ssim"]
        residual = jnp.abs(filled - batch["image"]).mean(-1, keepdims=True)
        stats = {"residual": _remember(variables["stats"]["residual"], residual, weight)}
        return error, Aux(metrics, jax.lax.stop_gradient(stats))

    def vae_loss(variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        reconstruction = reconstruct(variables, batch["image"])
        target = jax.lax.stop_gradient(difference_map(variables, batch, reconstruction)) / config.loss.scale
        noise = jax.vmap(lambda k: jax.random.normal(k, (vae.latent,)))(example_keys(key, batch["index"]))
        decoded, mean, log_variance = vae.apply({"params": variables["params"]["vae"]}, target, noise)
        nll = losses.gaussian_nll(decoded, target, batch["brain"], scale=1.0).mean()
        kl = losses.kl_to_standard_normal(mean, log_variance).mean()
        beta = config.loss.beta * jnp.minimum(1.0, batch["progress"] / config.loss.warmup)
        return nll + beta * kl, Aux({"nll": nll, "kl": kl}, variables["stats"])

    def embed(variables: Variables, batch: Batch) -> Embedding:
        reconstruction = reconstruct(variables, batch["image"])
        difference = difference_map(variables, batch, reconstruction)
        z = vae.apply({"params": variables["params"]["vae"]}, difference / config.loss.scale, method="encode")
        visible = batch["image"] * (1 - widen(jnp.asarray(covers[:1]), mask.patch))
        panels = {"first mask": visible[..., :1], "reconstruction": (reconstruction * batch["brain"])[..., :1]}
        mse = losses.l2(reconstruction, batch["image"], batch["brain"])
        return Embedding(z, {"mse": mse}, difference, panels)

    return System(init, {"unet": Stage(("unet",), unet_loss), "vae": Stage(("vae",), vae_loss)}, embed)


def _unet_input(image: jax.Array, hidden: jax.Array, mirror_context: bool) -> jax.Array:
    """Visible pixels and the mask and, with `mirror_context`, their mirror images, `[B, *S, (C + 1) * (1 or 2)]`."""
    seen = jnp.concatenate([image * (1 - hidden), hidden], -1)
    return jnp.concatenate([seen, mirror_batch(seen)], -1) if mirror_context else seen


def _remember(residual: dict[str, jax.Array], new: jax.Array, weight: jax.Array) -> dict[str, jax.Array]:
    """Running sums of the residual at each pixel and of its weight, `[*S]`, from those of a batch `[B, *S, 1]`."""
    return {
        "sum": residual["sum"] * RESIDUAL_MEMORY + (new * weight).sum((0, -1)),
        "weight": residual["weight"] * RESIDUAL_MEMORY + weight.sum((0, -1)),
    }


def _healthy_residual(residual: dict[str, jax.Array]) -> jax.Array:
    """Mean absolute healthy residual at each pixel, `[1, *S, 1]`.

    Pixels that are seldom brain lean on the mean over all pixels, given the weight of ten observations.
    """
    overall = residual["sum"].sum() / jnp.maximum(residual["weight"].sum(), 1.0)
    mean = (residual["sum"] + 10 * overall) / (residual["weight"] + 10)
    return jnp.maximum(mean, losses.TINY)[None, ..., None]

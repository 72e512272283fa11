"""PaDiM-like: a Gaussian of the features of healthy brains at every place (Defard et al. 2021).

Its features come from the encoder of a denoising U-Net, trained here on the same healthy slices. Theirs come from a
network trained on ImageNet, whose weights cannot be had without a network connection.
"""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from symnorm_jax.losses import gaussian_blur
from symnorm_jax.settings import check_choice, check_one_contrast, check_rules
from symnorm_jax.systems.contract import DATA, Aux, Batch, Residual, Stage, System, Variables
from symnorm_jax.systems.rivals.reconstruction import FITTED, NET, by_patch_of, denoising_loss, unet_of

PATCHES = "patches"  # the stage that trains nothing and measures the healthy features
HEALTHY = "healthy"  # mean and scatter that it measures
RIDGE = 0.01  # added to the variance of every feature, as in the paper


def padim(config: ConfigDict) -> System:
    """Make the system of a config with sections `unet`, `noise` and `padim`. Raises ConfigError for bad settings."""
    most = sum(config.unet.widths)
    check_rules(config, {"padim.features": (lambda features: 1 <= features <= most, f"1 to {most} are")})
    check_choice("difference.kind", config.difference.kind, ("positive",))  # distances have no sign
    check_one_contrast(config)  # of several there would be one distance, and not a map of each
    model = Padim(config)
    stages = {NET: Stage((NET,), denoising_loss(model.net, config)), PATCHES: Stage((), model.measure, (HEALTHY,))}
    embed, meaning = by_patch_of(config), (*DATA, "unet", "noise", "padim")
    return System(model.init, stages, embed, model.residual, ("peak",), meaning=meaning, fitted=FITTED)


class Padim:
    def __init__(self, config: ConfigDict):
        self.net = unet_of(config)
        self.grid = tuple(side // config.unet.stem for side in config.data.size)
        self.blur = config.padim.blur / config.data.spacing
        chosen = np.random.default_rng(0).permutation(sum(config.unet.widths))
        self.chosen = np.sort(chosen[: config.padim.features])

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        params = {NET: self.net.init(key, batch["image"])["params"]}
        shape = (*self.grid, len(self.chosen))
        healthy = {"n": jnp.zeros(()), "mean": jnp.zeros(shape), "m2": jnp.zeros((*shape, shape[-1]))}
        return {"params": params, "stats": {HEALTHY: healthy}}

    def features(self, variables: Variables, image: jax.Array) -> jax.Array:
        """Choose among the features of every level, at the resolution of the first, `[B, *grid, features]`."""
        _, sown = self.net.apply({"params": variables["params"][NET]}, image, mutable=["intermediates"])
        (levels,) = sown["intermediates"]["encoder"]
        enlarged = [jax.image.resize(x, (image.shape[0], *self.grid, x.shape[-1]), "linear") for x in levels]
        return jnp.concatenate(enlarged, -1)[..., self.chosen]

    def measure(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Add a batch to mean and scatter at every place (Chan, Golub & LeVeque 1983); the loss is 0."""
        before, x = variables["stats"][HEALTHY], self.features(variables, batch["image"])
        n, new = before["n"] + len(x), x.mean(0)
        centred, gap = x - new[None], new - before["mean"]
        within = jnp.einsum("bhwc,bhwd->hwcd", centred, centred)
        m2 = before["m2"] + within + before["n"] * len(x) / n * gap[..., None] * gap[..., None, :]
        stats = {HEALTHY: {"n": n, "mean": before["mean"] + gap * len(x) / n, "m2": m2}}
        return jnp.zeros(()), Aux({"variance": jnp.trace(m2, axis1=-2, axis2=-1).mean() / n}, stats)

    def residual(self, variables: Variables, batch: Batch) -> Residual:
        """Map the Mahalanobis distance at every place, enlarged and blurred; its peak in the brain is the score."""
        healthy, brain = variables["stats"][HEALTHY], batch["brain"]
        covariance = healthy["m2"] / jnp.maximum(healthy["n"] - 1, 1) + RIDGE * jnp.eye(len(self.chosen))[None, None]
        whitening = inverse(jnp.linalg.cholesky(covariance))
        centred = self.features(variables, batch["image"]) - healthy["mean"][None]
        whitened = jnp.einsum("hwcd,bhwd->bhwc", whitening, centred, precision="highest")
        distance = jnp.linalg.norm(whitened, axis=-1, keepdims=True)
        distance = jax.image.resize(distance, brain.shape, "linear") * brain
        blurred = gaussian_blur(distance, brain, self.blur) if self.blur else distance
        return Residual(blurred, {"peak": blurred.max((1, 2, 3))})


def inverse(factor: jax.Array) -> jax.Array:
    """Invert lower triangular matrices `[H, W, C, C]` by forward substitution, row by row.

    LAPACK's solve, to which JAX gives them on a CPU, never ends where several devices of one share its threads.
    """
    unit = jnp.eye(factor.shape[-1])

    def with_row(i: jax.Array, found: jax.Array) -> jax.Array:
        known = jnp.einsum("hwc,hwcd->hwd", factor[:, :, i], found, precision="highest")  # rows from i on are 0 yet
        return found.at[:, :, i].set((unit[i][None, None] - known) / factor[:, :, i, i][..., None])

    return jax.lax.fori_loop(0, len(unit), with_row, jnp.zeros_like(factor))

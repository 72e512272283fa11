"""pDDPM-like: a diffusion model that fills in one noised patch of a slice at a time (Behrendt et al. 2023).

As there it sees the rest of the slice, predicts the clean slice, and starts from half of the timesteps, where nine
tenths of the power are noise; 1 in its unit is half the range of the brain, which spans -1 to 1 there. Unlike there
noise is Gaussian, not simplex, and a patch is refined in a few steps (DDIM, Song et al. 2021). It is the expensive
rival: passes are patches times steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from symnorm_jax import losses
from symnorm_jax.corruption import RANGE, spread
from symnorm_jax.errors import ConfigError
from symnorm_jax.settings import check_rules
from symnorm_jax.systems.contract import DATA, Aux, Batch, Residual, Stage, System, Variables, example_keys, folded
from symnorm_jax.systems.rivals.reconstruction import FITTED, NET, by_patch_of, residual_of, unet_of

TIMESTEPS = 1000  # of the linear schedule of Ho et al. (2020)


def pddpm(config: ConfigDict) -> System:
    """Make the system of a config with sections `unet` and `diffusion`. Raises ConfigError for bad settings."""
    steps, start, most = config.diffusion.steps, config.diffusion.start, min(config.data.size)
    if not 1 <= steps <= start <= TIMESTEPS:
        found = f"diffusion.steps={steps} with diffusion.start={start}"
        raise ConfigError(f"{found}; 1 to start, to {TIMESTEPS}, is allowed.")
    check_rules(config, {"diffusion.patches": (lambda patches: 1 <= patches <= most, f"1 to {most} a side are")})
    model, passes = PatchedDiffusion(config), config.diffusion.patches**2 * steps
    meaning = (*DATA, "unet", "diffusion")
    stages, embed = {NET: Stage((NET,), model.loss)}, by_patch_of(config)
    return System(model.init, stages, embed, model.residual, ("mae",), passes, meaning, FITTED)


class PatchedDiffusion:
    def __init__(self, config: ConfigDict):
        self.net = unet_of(config)
        self.settings = config.diffusion
        self.signal = np.cumprod(1 - np.linspace(1e-4, 0.02, TIMESTEPS)).astype(np.float32)  # its share of the power
        self.patches = _patches(tuple(config.data.size), config.diffusion.patches)

    def init(self, key: jax.Array, batch: Batch) -> Variables:
        image = batch["image"]
        seen = jnp.concatenate([image, jnp.ones_like(image[..., :1])], -1)
        return {"params": {NET: self.net.init(key, seen)["params"]}, "stats": {}}

    def denoise(self, variables: Variables, noisy: jax.Array, patch: jax.Array, t: jax.Array) -> jax.Array:
        """Predict the clean slice from one with noise of timestep t `[B]` in `patch` `[B, *S, 1]`."""
        level = patch * jnp.sqrt(1 - jnp.asarray(self.signal)[t])[:, None, None, None]
        return self.net.apply({"params": variables["params"][NET]}, jnp.concatenate([noisy, level], -1))

    def noised(self, clean: jax.Array, noise: jax.Array, patch: jax.Array, t: jax.Array) -> jax.Array:
        """Bring the patch of a slice to timestep t `[B]` (Ho et al. 2020, eq. 4)."""
        signal = jnp.asarray(self.signal)[t][:, None, None, None]
        return jnp.where(patch > 0, jnp.sqrt(signal) * clean + jnp.sqrt(1 - signal) * noise, clean)

    def loss(self, variables: Variables, batch: Batch, key: jax.Array) -> tuple[jax.Array, Aux]:
        """Average the absolute error of the predicted clean patch, in the brain, at a random timestep and place."""
        image, keys = batch["image"], example_keys(key, batch["index"])
        draw = lambda high: jax.vmap(lambda one: jax.random.randint(one, (), 0, high))  # noqa: E731
        t = draw(TIMESTEPS)(folded(keys, 0))
        patch = jnp.asarray(self.patches)[draw(len(self.patches))(folded(keys, 1))]
        noisy = self.noised(image, _noise(folded(keys, 2), batch), patch, t)
        error = losses.l1(self.denoise(variables, noisy, patch, t), image, batch["brain"] * patch).mean()
        return error, Aux({"l1": error}, variables["stats"])

    def residual(self, variables: Variables, batch: Batch) -> Residual:
        """Stitch the slice from what is made of each patch; its noise depends on nothing but the sample."""
        image, keys = batch["image"], example_keys(jax.random.key(0), batch["index"])

        def fill(numbered: tuple[jax.Array, jax.Array]) -> jax.Array:
            number, patch = numbered
            patch = jnp.broadcast_to(patch, image[..., :1].shape)
            return self.refine(variables, image, patch, _noise(folded(keys, number), batch)) * patch

        filled = jax.lax.map(fill, (jnp.arange(len(self.patches)), jnp.asarray(self.patches)[:, None]))
        return residual_of(batch, filled.sum(0))

    def refine(self, variables: Variables, image: jax.Array, patch: jax.Array, noise: jax.Array) -> jax.Array:
        """Predict the slice in `diffusion.steps` deterministic steps, first at timestep `diffusion.start`."""
        times = np.linspace(self.settings.start, 0, self.settings.steps + 1).round().astype(np.int32)
        clean = image
        noisy = self.noised(image, noise, patch, jnp.full(image.shape[0], times[0] - 1))
        for t, following in zip(times[:-1] - 1, times[1:] - 1, strict=True):
            clean = self.denoise(variables, noisy, patch, jnp.full(image.shape[0], t))
            # The noise that the prediction leaves over is kept, at the level of the next timestep (DDIM, eq. 12).
            left = (noisy - np.sqrt(self.signal[t]) * clean) / np.sqrt(1 - self.signal[t])
            mixed = np.sqrt(self.signal[following]) * clean + np.sqrt(1 - self.signal[following]) * left
            noisy = jnp.where(patch > 0, mixed, image)
        return clean


def _patches(size: tuple[int, ...], count: int) -> np.ndarray:
    """A grid of `count` patches a side that tile the slice, `[count ** 2, *size, 1]` float32."""
    row, column = (np.arange(side) * count // side for side in size)
    owner = row[:, None] * count + column
    return (owner == np.arange(count**2)[:, None, None])[..., None].astype(np.float32)


def _noise(keys: jax.Array, batch: Batch) -> jax.Array:
    """Draw noise whose deviation is half the range of the slice's brain, as where slices span -1 to 1."""
    image = batch["image"]
    drawn = jax.vmap(lambda key: jax.random.normal(key, image.shape[1:]))(keys)
    return drawn * RANGE / 2 * spread(image, batch["brain"])

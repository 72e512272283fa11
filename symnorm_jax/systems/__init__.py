"""The published systems and the learned baselines by name; each function makes a `System` of a config."""

from symnorm_jax.systems import baselines, padim, pddpm, simclr, symnorm

BUILD = {
    "symnorm": symnorm.build,
    "simclr": simclr.build,
    "ae": baselines.autoencoder,
    "vae": baselines.variational_autoencoder,
    "context_encoder": baselines.context_encoder,
    "dae": baselines.denoising_autoencoder,
    "padim": padim.padim,
    "pddpm": pddpm.pddpm,
}

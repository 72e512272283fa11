"""The published systems and the learned baselines by name; each function makes a `System` of a config."""

from symnorm_jax.systems import baselines, mae, padim, pddpm, simclr, supervised, symnorm

BUILD = {
    "symnorm": symnorm.build,
    "simclr": simclr.build,
    "mae": mae.build,
    "supervised": supervised.supervised,
    "untrained": supervised.untrained,
    "ae": baselines.autoencoder,
    "vae": baselines.variational_autoencoder,
    "context_encoder": baselines.context_encoder,
    "dae": baselines.denoising_autoencoder,
    "padim": padim.padim,
    "pddpm": pddpm.pddpm,
}

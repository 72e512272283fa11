"""The published systems and their rivals by name; each function makes a `System` of a config."""

from symnorm_jax.systems import dal, encoder, pretraining, saca, segmentation, symnorm
from symnorm_jax.systems.rivals import padim, pddpm, reconstruction

BUILD = {
    "symnorm": symnorm.build,
    "dal": dal.build,
    "simclr": pretraining.simclr,
    "mae": pretraining.mae,
    "saca": saca.saca,
    "segmenter": segmentation.segmenter,
    "supervised": encoder.supervised,
    "untrained": encoder.untrained,
    "ae": reconstruction.autoencoder,
    "vae": reconstruction.variational_autoencoder,
    "context_encoder": reconstruction.context_encoder,
    "dae": reconstruction.denoising_autoencoder,
    "padim": padim.padim,
    "pddpm": pddpm.pddpm,
}

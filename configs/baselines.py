"""Settings of the learned baselines. Each is a preset: `--config=configs/lgg.py:full,dae`.

They share data, trainer, number of steps and batch size with symnorm. `score.headline` is what each was published with.
"""

from ml_collections import ConfigDict

PRESETS = {
    "ae": {"system": "ae", "score.headline": "mae"},
    "vae": {"system": "vae", "score.headline": "mae"},
    "context_encoder": {"system": "context_encoder", "score.headline": "mae"},
    "dae": {"system": "dae", "score.headline": "mae"},
    "padim": {"system": "padim", "score.headline": "peak"},
    "pddpm": {"system": "pddpm", "score.headline": "mae"},
}


def add(config: ConfigDict, stage) -> None:
    """Add the sections of the baselines; `stage(steps, batch_size, learning_rate)` makes a section of `train`."""
    config.autoencoder = ConfigDict({"widths": (32, 64, 128), "latent": 128})  # of ae, vae and context_encoder
    config.noise = ConfigDict({"deviation": 0.2, "grid": 16})  # of dae and padim; cells a side
    config.erasing = ConfigDict({"rectangles": 3, "sides": (0.1, 0.3)})  # of context_encoder; shares of the slice
    config.padim = ConfigDict({"features": 64, "blur": 4.5})  # drawn from all of the encoder's; mm
    config.diffusion = ConfigDict({"start": 500, "steps": 5, "patches": 2})  # of pddpm; timesteps, patches a side
    config.train.baseline = stage(steps=10_000, batch_size=8, learning_rate=1e-3)
    config.train.patches = stage(steps=500, batch_size=32, learning_rate=0.0)  # of padim; measures, learns nothing
    config.finetune.baseline = stage(steps=500, batch_size=8, learning_rate=1e-4)
    config.finetune.patches = stage(steps=500, batch_size=32, learning_rate=0.0)

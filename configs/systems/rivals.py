"""The rivals on slices: each has the data, the number of steps and the batch size of symnorm.

`score.headline` of a preset is the score that the rival was published with.
"""

from configs.systems.parts import DIFFERENCE, PATCH, UNET, stage

SHARED = {
    "mask": {"patch": PATCH},  # maps are embedded by patch
    "difference": DIFFERENCE,
    "train": {"baseline": stage(steps=10_000, batch_size=8, learning_rate=1e-3)},
    "finetune": {"baseline": stage(steps=500, batch_size=8, learning_rate=1e-4)},
}
AUTOENCODER = SHARED | {"autoencoder": {"widths": (32, 64, 128), "latent": 128}}
NOISE = {"deviation": 1.7, "grid": 16}  # standard deviations of the slice's brain; cells a side
DENOISER = SHARED | {"unet": UNET, "noise": NOISE}
PATCHES = {"patches": stage(steps=500, batch_size=32, learning_rate=0.0)}  # measures, learns nothing
PADIM = {"padim": {"features": 64, "blur": 4.5}}  # drawn from all of the encoder's; mm
PADIM |= {section: SHARED[section] | PATCHES for section in ("train", "finetune")}
DIFFUSION = {"start": 500, "steps": 5, "patches": 2}  # timesteps; patches a side
SETTINGS = {
    "ae": AUTOENCODER,
    "vae": AUTOENCODER,
    "context_encoder": AUTOENCODER | {"erasing": {"rectangles": 3, "sides": (0.1, 0.3)}},  # shares of the slice
    "dae": DENOISER,
    "padim": DENOISER | PADIM,
    "pddpm": SHARED | {"unet": UNET, "diffusion": DIFFUSION},
}
TINY = {"mask.patch": 4, "unet.widths": (8, 16), "autoencoder.widths": (8, 16), "autoencoder.latent": 16}
TINY |= {"padim.features": 12, "diffusion.steps": 2}
PRESETS = {name: {"system": name, "score.headline": "mae"} for name in SETTINGS}
PRESETS["padim"] |= {"score.headline": "peak", "difference.kind": "positive"}  # its distances have no sign

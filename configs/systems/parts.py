"""What the settings of several systems are made of."""

from typing import Any

PATCH = 8  # pixels a side, of masks and of residuals
DIFFERENCE = {  # how the maps of a scan are made of raw ones; see symnorm_jax/standardise.py
    # absolute, signed, positive (what is too bright), negative; of signed ones maps show the size. Of several contrasts
    # one for all or, with commas, one for each
    "kind": "signed",
    "channels": "largest",  # or mahalanobis: how the maps of several contrasts become one
    "standard": "position",  # unit: healthy spread by pixel and position, or pixel: mean size by pixel, or none
    "antisymmetry": 0.5,  # share of the mirror image that is taken away
    "blur": 3.5,  # mm, deviation of a Gaussian blur within the brain, before maps are standardised; 0 for none
    "width": 0.08,  # of the height: deviation of the Gaussian by which positions are near one another
    "pseudo": 3.0,  # healthy slices' worth of the spread of all pixels, that a pixel's own spread leans on
    "across": 6.0,  # mm, deviation of a Gaussian average over the slices above and below; 0 for none
    "in_plane": 2.0,  # mm, the same within the slice
}
UNET = {"widths": (48, 96, 128), "depth": 1, "stem": 2}


def stage(steps: int, batch_size: int, learning_rate: float) -> dict[str, Any]:
    """Make the section of a training stage."""
    optimizer = {"learning_rate": learning_rate, "warmup_steps": 50, "weight_decay": 0.01, "clip_norm": 1.0}
    return {"steps": steps, "batch_size": batch_size, "optimizer": optimizer}

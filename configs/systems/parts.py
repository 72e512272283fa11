"""What the settings of several systems are made of."""

from typing import Any

PATCH = 8  # pixels a side, of masks and of residuals
UNET = {"widths": (48, 96, 128), "depth": 1, "stem": 2}


def stage(steps: int, batch_size: int, learning_rate: float) -> dict[str, Any]:
    """Make the section of a training stage."""
    optimizer = {"learning_rate": learning_rate, "warmup_steps": 50, "weight_decay": 0.01, "clip_norm": 1.0}
    return {"steps": steps, "batch_size": batch_size, "optimizer": optimizer}

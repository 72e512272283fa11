"""Scores that need no network: what an image gives away by itself, which every method has to beat."""

import numpy as np

from symnorm_jax.geometry import mirror_batch

Arrays = dict[str, np.ndarray]
FLUID = 0.35  # between fluid, about 0.15, and grey matter, about 0.6, where white matter on T1 is about 0.9


def trivial_scores(batch: Arrays) -> Arrays:
    """What an image gives away without any learning, `{name: [B]}`.

    `trivial_brightness` is the 99.5th percentile in the brain, `trivial_mirror` the mean absolute difference of the
    image from its mirror image where both are brain, `trivial_fluid` the dark share of the brain, which is
    cerebrospinal fluid on T1 and FLAIR.
    """
    image, brain = batch["image"][..., 0], batch["brain"][..., 0] > 0
    axes = tuple(range(1, image.ndim))
    both = (brain & mirror_batch(brain)).sum(axes)
    return {
        "trivial_brightness": np.array([np.percentile(x[m], 99.5) for x, m in zip(image, brain, strict=True)]),
        "trivial_fluid": (brain & (image < FLUID)).sum(axes) / np.maximum(brain.sum(axes), 1),
        "trivial_mirror": mirror_difference(image, brain).sum(axes) / np.maximum(both, 1),
    }


def mirror_difference(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Absolute difference `[B, *S]` of images from their mirror images where both are brain, zero elsewhere."""
    return np.abs(image - mirror_batch(image)) * (brain & mirror_batch(brain))

"""The optimizer of a training stage."""

import optax


def make_optimizer(
    *, steps: int, learning_rate: float, warmup_steps: int, weight_decay: float, clip_norm: float
) -> optax.GradientTransformation:
    """Make AdamW with linear warm-up, cosine decay to zero and gradients clipped by their global norm."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, min(warmup_steps, steps - 1), steps)
    return optax.chain(optax.clip_by_global_norm(clip_norm), optax.adamw(schedule, weight_decay=weight_decay))

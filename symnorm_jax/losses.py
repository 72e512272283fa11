"""Losses by example, `[B]`, which the caller reduces over the batch, once; `nt_xent` and `nce` alone compare examples.

`weight` is a pixel weight `[B, *S, 1]`, zero where a pixel does not count. Images are `[B, *S, C]`.
"""

import jax
import jax.numpy as jnp

TINY = 1e-6
WINDOW = 7  # pixels a side, of SSIM


def weighted_mean(x: jax.Array, weight: jax.Array) -> jax.Array:
    """Average x over pixels and channels under `weight`, `[B, *S, C] -> [B]`; zero where the weight is zero."""
    axes, weight = tuple(range(1, x.ndim)), jnp.broadcast_to(weight, x.shape)
    return (x * weight).sum(axes) / jnp.maximum(weight.sum(axes), TINY)


def l1(prediction: jax.Array, image: jax.Array, weight: jax.Array) -> jax.Array:
    """Compute the mean absolute error under `weight`, `[B]`."""
    return weighted_mean(jnp.abs(prediction - image), weight)


def l2(prediction: jax.Array, image: jax.Array, weight: jax.Array) -> jax.Array:
    """Compute the mean squared error under `weight`, `[B]`."""
    return weighted_mean(jnp.square(prediction - image), weight)


def dissimilarity(prediction: jax.Array, image: jax.Array, weight: jax.Array) -> jax.Array:
    """Compute 1 - SSIM (Wang et al. 2004) under `weight`, `[B]`, of intensities in 0..1, in windows of WINDOW."""
    mean_p, mean_i = _blur(prediction), _blur(image)
    var_p = _blur(prediction**2) - mean_p**2
    var_i = _blur(image**2) - mean_i**2
    cov = _blur(prediction * image) - mean_p * mean_i
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * mean_p * mean_i + c1) * (2 * cov + c2) / ((mean_p**2 + mean_i**2 + c1) * (var_p + var_i + c2))
    return weighted_mean(1 - ssim, weight)


def gaussian_nll(prediction: jax.Array, image: jax.Array, weight: jax.Array) -> jax.Array:
    """Sum over pixels the negative log-likelihood, in nats up to a constant, of a Gaussian of unit deviation, `[B]`."""
    squares = jnp.square(prediction - image) * weight
    # No average, so that it balances the KL divergence as in the evidence lower bound.
    return 0.5 * squares.sum(tuple(range(1, squares.ndim)))


def kl_to_standard_normal(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """Compute the KL divergence, in nats, of a Gaussian from N(0, I), `[B, D] -> [B]` (Kingma & Welling 2014)."""
    return 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance).sum(-1)


def nt_xent(one: jax.Array, other: jax.Array, temperature: float = 0.5, patients: jax.Array | None = None) -> jax.Array:
    """Compute the contrastive loss of two views' projections, `[B, D]` each, `[B]` (Chen et al. 2020, equation 1).

    A view must find the other view of its example among all 2 B - 1 others, by cosine similarity over `temperature`.
    The loss is the mean of its cross-entropy, in nats, from either view. The 2 B - 2 negatives are of the whole array,
    so with examples spread over a mesh of the global batch. With `patients`, `[B]` int, other scans of the *same*
    patient are no negatives either: to push two visits apart teaches what differs between visits, the scanner above
    all, and not what differs between people.
    """
    views = unit(jnp.concatenate([one, other]))
    similarity = jnp.einsum("id,jd->ij", views, views, precision="highest") / temperature
    count = len(one)
    partner = jnp.roll(jnp.eye(2 * count, dtype=bool), count, 1)
    people = jnp.tile(jnp.arange(count) if patients is None else patients, 2)
    compared = partner | (people[:, None] != people[None])
    pairs = jax.nn.logsumexp(similarity, 1, where=compared) - (similarity * partner).sum(1)
    return pairs.reshape(2, count).mean(0)


def unit(x: jax.Array) -> jax.Array:
    """Scale vectors `[..., D]` to length 1, float32; one of zeros stays, and has a gradient."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), TINY**2))


def asymmetry(one: jax.Array, other: jax.Array) -> jax.Array:
    """Compute (1 - cosine) / 2 of vectors `[..., D]`, 0 to 1: a quarter of the square between unit vectors, `[...]`.

    So it is exactly 0 of equal vectors, whatever is rounded, and the same of both orders.
    """
    return jnp.square(unit(one) - unit(other)).sum(-1) / 4


def bce(cosine: jax.Array, healthy: jax.Array, scale: jax.Array) -> jax.Array:
    """Compute the cross-entropy, in nats, of a cosine `[B]` taken as the logit of `healthy` `[B]`, 1 or 0 (Ma et al.).

    A cosine is no larger than 1: this does not fall below log(1 + 1 / e) = 0.313. `scale` is not used.
    """
    return healthy * jax.nn.softplus(-cosine) + (1 - healthy) * jax.nn.softplus(cosine)


def linear(cosine: jax.Array, healthy: jax.Array, scale: jax.Array) -> jax.Array:
    """Compute what a cosine `[B]` lacks to 1 of the healthy, and to 0 of others, `[B]`; `scale` is not used."""
    return healthy * (1 - cosine) + (1 - healthy) * cosine


def scaled(cosine: jax.Array, healthy: jax.Array, scale: jax.Array) -> jax.Array:
    """Compute `bce` of a logit that is learned, `[B]`: `scale` `[2]` holds the log of its slope, and its shift."""
    return bce(jnp.exp(scale[0]) * cosine + scale[1], healthy, scale)


def nce(cosine: jax.Array, healthy: jax.Array, scale: jax.Array, temperature: float = 0.07) -> jax.Array:
    """Compute -log of the share of the healthy in the softmax of the cosines `[B]`, the same for all of a batch, `[B]`.

    A batch of healthy people alone gives 0 and teaches nothing. `scale` is not used.
    """
    logits = cosine / temperature
    theirs = jnp.logaddexp(jax.nn.logsumexp(logits, where=healthy > 0), jnp.log(TINY))  # of nobody it is finite too
    return jnp.broadcast_to(jax.nn.logsumexp(logits) - theirs, cosine.shape)


def soft_dice(chance: jax.Array, lesion: jax.Array, brain: jax.Array) -> jax.Array:
    """Compute what the Dice of chances `[B, *S, 1]` with masks lacks to 1, in the brain, `[B]` (Milletari et al. 2016).

    One voxel is added above and below: a volume without a lesion teaches too, and is right where nothing is marked.
    """
    axes, chance, lesion = tuple(range(1, chance.ndim)), chance * brain, lesion * brain
    return 1 - (2 * (chance * lesion).sum(axes) + 1) / ((chance + lesion).sum(axes) + 1)


def cross_entropy(logits: jax.Array, lesion: jax.Array, brain: jax.Array) -> jax.Array:
    """Average the cross-entropy, in nats, of log-odds of lesion `[B, *S, 1]` over the brain, `[B]`."""
    return weighted_mean(jax.nn.softplus(logits) - lesion * logits, brain)


def gaussian_blur(x: jax.Array, brain: jax.Array, sigma: float) -> jax.Array:
    """Blur x `[B, *S, 1]`, zero outside the brain `[B, *S, 1]`, within it, with deviation `sigma` pixels."""

    def blurred(values: jax.Array) -> jax.Array:
        for axis, side in enumerate(values.shape[1:-1], start=1):
            place = jnp.arange(side)
            kernel = jnp.exp(-0.5 * ((place[:, None] - place[None]) / sigma) ** 2)
            values = jnp.moveaxis(jnp.tensordot(values, kernel, (axis, 0)), -1, axis)
        return values

    return blurred(x) / jnp.maximum(blurred(brain), TINY) * brain


def _blur(x: jax.Array) -> jax.Array:
    """Average over a window at each pixel; borders average what lies inside the image."""
    shape = (1, *(WINDOW,) * (x.ndim - 2), 1)

    def windowed(values):
        return jax.lax.reduce_window(values, 0.0, jax.lax.add, shape, (1,) * x.ndim, "SAME")

    return windowed(x) / windowed(jnp.ones_like(x))


RECONSTRUCTION = {"l1": l1, "l2": l2}
SYMMETRY = {"bce": bce, "linear": linear, "scaled": scaled, "nce": nce}

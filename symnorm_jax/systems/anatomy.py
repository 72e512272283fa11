"""What dal is made of: discrete anatomy, imaging information, and how one is told from the other. Pure functions.

Images `[B, *S, 1]` are in units of the brain of their own slice, see `in_own_unit`; a floor or noise of 0.03 is 3 % of
the brain's range. Anatomy `[B, *S, K]` are shares of K classes, or one of them at each pixel. Imaging information theta
`[B, K, 3]` has, for each class, the location m and the deviation s of its intensities and its share of the brain.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from symnorm_jax import corruption
from symnorm_jax.losses import TINY, weighted_mean

FLOOR = 0.03  # least deviation of a class, in shares of the brain's range
EMPTY = 1e-3  # share of the brain below which a class has no intensities of its own
ROUNDS, REACH = 3, 1.5  # of re-weighting; deviations at which a pixel's weight is a quarter
LEAST, SCALE = -6.0, 3.0  # log-likelihood at which evidence is cut, and its unit
CELLS, RIM = 8, 0.3  # of the noise that makes blobs uneven: cells a side, and its deviation in log radii


class Unit(NamedTuple):
    """The unit of each slice's brain, in shapes that broadcast."""

    middle: jax.Array  # [B, 1, ..., C] mean of the brain
    range: jax.Array  # [B, 1, ..., C] about the difference of the brain's percentiles 1 and 99

    def undo(self, x: jax.Array) -> jax.Array:
        return (x - 0.5) * self.range + self.middle


def in_own_unit(image: jax.Array, brain: jax.Array) -> tuple[jax.Array, Unit]:
    """Scale the brains of images so that most of it lies from 0 to 1: 1/2 + (x - mean) / (RANGE * deviation).

    So nothing here depends on what `data.normalise` makes of a scan. 0 outside the brain.
    """
    unit = Unit(corruption.middle(image, brain), corruption.RANGE * corruption.spread(image, brain))
    return ((image - unit.middle) / unit.range + 0.5) * brain, unit


def onehot(logits: jax.Array, kind: str, keys: jax.Array | None = None) -> jax.Array:
    """Take one class at each pixel; its gradient is that of softmax p: y = onehot(argmax p) + p - stop_gradient(p).

    `gumbel` first adds Gumbel noise of `keys` `[B]`, where there are any (Jang et al. 2017); `soft` gives p itself. Of
    equal logits the first class is taken.
    """
    if kind == "gumbel" and keys is not None:
        logits += jax.vmap(lambda key: jax.random.gumbel(key, logits.shape[1:]))(keys)
    p = jax.nn.softmax(logits)
    if kind == "soft":
        return p
    return jax.nn.one_hot(logits.argmax(-1), logits.shape[-1]) + (p - jax.lax.stop_gradient(p))


ONEHOT = ("straight_through", "gumbel", "soft")


def imaging(image: jax.Array, anatomy: jax.Array) -> jax.Array:
    """Measure imaging information theta of the pixels that `anatomy`, 0 outside the brain, gives to each class.

    m and s are weighted mean and deviation, the weights w divided by (1 + ((x - m) / (REACH s))^2)^2 in each of ROUNDS:
    an M-estimator, differentiable, that lesions hardly move. A class that is EMPTY takes those of the brain.
    """
    count, classes = image.shape[0], anatomy.shape[-1]
    x, weight = image.reshape(count, -1, 1), anatomy.reshape(count, -1, classes)
    total = weight.sum(1, keepdims=True)
    share = total / jnp.maximum(total.sum(-1, keepdims=True), TINY)
    weight = jnp.where(share > EMPTY, weight, weight.sum(-1, keepdims=True))
    kept = weight
    for _ in range(ROUNDS + 1):
        mass = jnp.maximum(kept.sum(1, keepdims=True), TINY)
        mean = (kept * x).sum(1, keepdims=True) / mass
        spread = jnp.sqrt(jnp.maximum((kept * jnp.square(x - mean)).sum(1, keepdims=True) / mass, FLOOR**2))
        kept = weight / jnp.square(1 + jnp.square((x - mean) / (REACH * spread)))
    return jnp.concatenate([mean, spread, share], 1).swapaxes(1, 2)


def evidence(image: jax.Array, theta: jax.Array) -> jax.Array:
    """Say which class a pixel's intensity speaks for under its image's own theta, `[B, *S, K]`, in -2 to 0.

    max(log softmax_k(-((x - m_k) / s_k)^2 / 2 - log s_k), LEAST) / SCALE: the same under any affine change of contrast.
    """
    mean, spread = _parts(theta, image)
    log = jax.nn.log_softmax(-0.5 * jnp.square((image - mean) / spread) - jnp.log(spread))
    return jnp.maximum(log, LEAST) / SCALE


def free_energy(image: jax.Array, logits: jax.Array, prior: jax.Array, brain: jax.Array) -> jax.Array:
    """Compute E_p[-log N(x; m_k, s_k)] + KL(p || prior), by example `[B]`, in nats a pixel (Dalca et al. 2019).

    p is the softmax of the logits; m and s are p's own, and no gradient goes through them.
    """
    p = jax.nn.softmax(logits)
    mean, spread = _parts(jax.lax.stop_gradient(imaging(image, p * brain)), image)
    unlike = 0.5 * jnp.square((image - mean) / spread) + jnp.log(spread)
    surprise = jax.nn.log_softmax(logits) - jnp.log(jnp.maximum(prior, TINY))
    return weighted_mean((p * (unlike + surprise)).sum(-1, keepdims=True), brain)


def table(anatomy: jax.Array, theta: jax.Array) -> jax.Array:
    """Give each pixel the intensity of its classes, sum_k y_k m_k, `[B, *S, 1]`."""
    return (anatomy * _parts(theta, anatomy)[0]).sum(-1, keepdims=True)


def expected_spread(anatomy: jax.Array, theta: jax.Array) -> jax.Array:
    """Compute the deviation that classes lead to expect, sqrt(sum_k q_k (s_k^2 + (m_k - table)^2) + FLOOR^2)."""
    mean, spread = _parts(theta, anatomy)
    variance = jnp.square(spread) + jnp.square(mean - table(anatomy, theta))
    return jnp.sqrt((anatomy * variance).sum(-1, keepdims=True) + FLOOR**2)


def _parts(theta: jax.Array, like: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Give m and s as `[B, 1, ..., K]`."""
    shape = (theta.shape[0], *(1,) * (like.ndim - 2), theta.shape[1])
    return theta[..., 0].reshape(shape), theta[..., 1].reshape(shape)


def edges(anatomy: jax.Array, brain: jax.Array, kind: str) -> jax.Array:
    """Take the edges of anatomy, to which what is no brain is one class more: |y[i + 1] - y[i]| along either axis.

    `boundary` is the largest over classes, `[B, X, Y, 2]`, and does not tell which meet; `none` the anatomy itself.
    """
    if kind == "none":
        return anatomy * brain
    whole = jnp.concatenate([anatomy * brain, 1 - brain], -1)
    last = whole[:, -1:], whole[:, :, -1:]
    steps = [jnp.abs(jnp.diff(whole, axis=1 + axis, append=last[axis])) for axis in range(2)]
    return jnp.concatenate([step.max(-1, keepdims=True) for step in steps], -1)


EDGES = ("boundary", "none")


def corrupt(
    anatomy: jax.Array, brain: jax.Array, keys: jax.Array, settings: ConfigDict, spacing: float
) -> tuple[jax.Array, jax.Array]:
    """Make blobs of `anatomy` one random class, and say where edges are kept, 1, and where erased, 0, `[B, *S, 1]`.

    `settings.blobs` times: with probability `paint` a blob is painted, with `erase` the edges in another are lost.
    Radii are log-uniform in `radii` mm; `spacing` is that of pixels in mm.
    """

    def of_one(y: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        paints, erases, painted, erased, which = (
            jax.random.split(own, settings.blobs) for own in jax.random.split(key, 5)
        )
        blob = jax.vmap(partial(_blob, side=y.shape[:2], radii=settings.radii, spacing=spacing))
        often = lambda keys, share: jax.vmap(jax.random.uniform)(keys)[:, None, None, None] < share  # noqa: E731
        patches, lost = blob(painted) * often(paints, settings.paint), blob(erased) * often(erases, settings.erase)
        classes = jax.vmap(lambda one: jax.nn.one_hot(jax.random.randint(one, (), 0, y.shape[-1]), y.shape[-1]))(which)
        for patch, klass in zip(patches, classes, strict=True):
            y = y + patch * (klass[None, None] - y)
        return y, 1 - lost.max(0, initial=0)

    y, keep = jax.vmap(of_one)(anatomy, keys)
    return y * brain, keep


def _blob(key: jax.Array, side: tuple[int, int], radii: tuple[float, float], spacing: float) -> jax.Array:
    """Draw an uneven blob anywhere in a slice, 0 or 1, `[X, Y, 1]`."""
    where, size, rim = jax.random.split(key, 3)
    low, high = (jnp.log(radius / spacing) for radius in radii)
    noise = jax.image.resize(jax.random.normal(rim, (CELLS, CELLS)), side, "cubic")
    radius = jnp.exp(low + (high - low) * jax.random.uniform(size) + RIM * noise)
    centre = jax.random.uniform(where, (2, 1, 1)) * jnp.array(side)[:, None, None]
    place = jnp.stack(jnp.meshgrid(*map(jnp.arange, side), indexing="ij"))
    return (jnp.sqrt(jnp.square(place - centre).sum(0)) < radius).astype(jnp.float32)[..., None]

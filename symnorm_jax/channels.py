"""The maps of several contrasts, each in units of healthy people, made one map.

`difference.channels` says how: the `largest` deviation at each pixel, with its sign, or the `mahalanobis` distance of
all from 0, for contrasts deviate together in healthy people too. Each contrast has its own `difference.kind`, the sign
in which a lesion is expected; what deviates the other way counts as 0.
"""

from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError
from symnorm_jax.settings import check_choices, contrasts_of
from symnorm_jax.standardise import KNOTS, SIGNS, TINY, Array, How, Scan, between, gaussian, hows_of

MAP = "map"
COMBINED = ("largest", "mahalanobis")
SHRINKAGE = 0.1  # share of the unit covariance, that of maps which have nothing in common


def channels_of(config: ConfigDict) -> dict[str, How]:
    """Name the maps that become one, in the order of the contrasts: `map`, or `map.0` and so on where there are more.

    Raises ConfigError for a choice in the section `difference` that is not allowed.
    """
    check_choices(config, {"difference.channels": COMBINED})
    hows = hows_of(config)
    if len(hows) == 1:
        return {MAP: hows[0]}
    if joint(config) and hows[0].standard != "position":
        found = f"difference.standard={hows[0].standard!r} with difference.channels='mahalanobis'"
        raise ConfigError(f"{found}; 'position' is allowed.")
    return {f"{MAP}.{number}": how for number, how in enumerate(hows)}


def joint(config: ConfigDict) -> bool:
    """Say whether maps become one by what healthy people show in all of them together."""
    return len(contrasts_of(config)) > 1 and config.difference.channels == "mahalanobis"


def covariance(scans: Iterator[tuple[Scan, list[Array]]], width: float) -> Array:
    """Measure how C standardised maps `[N, X, Y]` of healthy scans deviate together, `[P, C, C]` float32.

    At each of P slice positions, as `standardise` has them, it is the mean over all pixels of slices near it, which
    are few enough to be shrunk by SHRINKAGE.
    """
    products, pixels = 0, 0
    for scan, maps in scans:
        z = np.stack(maps, 1).reshape(len(scan.brain), len(maps), -1).astype(float)
        weight = gaussian(np.linspace(0, 1, KNOTS), scan.position, width).astype(float)
        products = products + np.tensordot(weight, z @ z.swapaxes(1, 2), 1)
        pixels = pixels + weight @ scan.brain.sum((1, 2))
    found = products / np.maximum(pixels, TINY)[:, None, None]
    return ((1 - SHRINKAGE) * found + SHRINKAGE * np.eye(found.shape[-1])).astype(np.float32)


def combined(maps: list[Array], kinds: list[str], position: Array, healthy: Array | None) -> Array:
    """Make one map `[N, X, Y]` of those of each contrast, of a `kind` each: the largest or, with `healthy`, a distance.

    `healthy` is their covariance `[P, C, C]`; slices lie at `position` `[N]`.
    """
    signed = [SIGNS[kind](z) for kind, z in zip(kinds, maps, strict=True)]
    if healthy is None:
        values = np.stack(signed)
        return np.take_along_axis(values, np.abs(values).argmax(0)[None], 0)[0]
    expected = np.stack([np.where(x != 0, z, 0) for x, z in zip(signed, maps, strict=True)], 1)  # [N, C, X, Y]
    r = expected.reshape(*expected.shape[:2], -1)
    return np.sqrt((r * np.linalg.solve(between(healthy, position), r)).sum(1)).reshape(maps[0].shape)

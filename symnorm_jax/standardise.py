"""Maps of whole scans in units of what healthy people show: at each pixel, and at each height of the head.

A raw map is signed, what a slice shows less what was expected, and 0 outside the brain. The steps that make a map of it
are the same for every system, and for plain intensity:

1. a share of the mirror image is taken away, for what both sides have is no lesion; a blur within the brain;
2. healthy mean and spread at each pixel, by slice position, make it a deviation z;
3. neighbours, in plane and in the slices above and below, are averaged, and the average is standardised again;
4. the sign in which a lesion is expected.

`difference.standard` is `position` for all of that; `pixel` divides, before the blur, by the mean size that healthy
people have at each pixel in slices of any height, and `none` has no unit.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from symnorm_jax.errors import ConfigError
from symnorm_jax.geometry import mirror_batch
from symnorm_jax.settings import check_choice, check_choices, contrasts_of

Array = np.ndarray
ROUNDS = {"position": 2, "pixel": 1, "none": 0}  # how often a map is standardised
KNOTS = 33  # positions, evenly from 0 to 1, at which the healthy are measured; between them it is interpolated
TINY = 1e-6
SIGNS = {
    "signed": lambda z: z,
    "absolute": np.abs,
    "positive": lambda z: np.maximum(z, 0),
    "negative": lambda z: np.maximum(-z, 0),
}


class How(NamedTuple):
    """The section `difference` of a config, but for what one system alone does; see configs/systems/parts.py."""

    kind: str
    standard: str
    antisymmetry: float
    blur: float  # pixels
    width: float
    pseudo: float
    across: float  # mm
    in_plane: float  # pixels


class Scan(NamedTuple):
    """The slices of one scan, from below to above."""

    brain: Array  # [N, X, Y] bool
    position: Array  # [N] share of the height, 0 to 1
    height: Array  # [N] mm


class Healthy(NamedTuple):
    """What healthy people show at each pixel of P slice positions, evenly from 0 to 1; of 1, at all alike."""

    mean: Array  # [P, X, Y] float32
    spread: Array  # [P, X, Y] float32, above 0


Fitted = dict[str, list[Healthy]]  # {map: one for each time that it is standardised}
Sweep = Callable[[], Iterator[tuple[Scan, dict[str, Array]]]]  # healthy scans, each with its raw maps [N, X, Y]


def hows_of(config: ConfigDict) -> list[How]:
    """Read the section `difference` for each contrast. Raises ConfigError for a choice that is not allowed."""
    section, spacing, count = config.difference, config.data.spacing, len(contrasts_of(config))
    check_choices(config, {"difference.standard": ROUNDS})
    kinds = section.kind.split(",")
    for kind in kinds:
        check_choice("difference.kind", kind, SIGNS)
    if len(kinds) not in (1, count):
        allowed = f"one, or as many as data.options.channel names, {count}, with commas between them, are allowed"
        raise ConfigError(f"difference.kind={section.kind!r}; {allowed}.")
    how = How(*(section[name] for name in How._fields))
    how = how._replace(blur=how.blur / spacing, in_plane=how.in_plane / spacing)
    return [how._replace(kind=kind) for kind in (kinds if len(kinds) == count else kinds * count)]


def scans_of(rows: pd.DataFrame) -> list[Array]:
    """List the places of each scan's slices among the rows of a manifest, from below to above."""
    number = rows.slice.to_numpy(int)
    scans = rows.groupby(["patient", "session"]).indices.values()
    return [one[np.argsort(number[one], kind="stable")] for one in scans]


def standardised(raw: Array, scan: Scan, healthy: list[Healthy], how: How) -> Array:
    """Take a raw map `[N, X, Y]` of a whole scan through its steps, float32, 0 outside the brain and signed.

    With fewer `healthy` than the steps ask for it ends where the next one of them is to be measured.
    """
    x = raw.astype(np.float32) * scan.brain
    for number, steps in enumerate(_steps(how)[: len(healthy) + 1]):
        for step in steps:
            x = step(x, scan)
        if number < len(healthy):
            mean, spread = (between(values, scan.position) for values in healthy[number])
            x = (x - mean) / spread * scan.brain
    return x


def fit(sweep: Sweep, maps: dict[str, How]) -> Fitted:
    """Measure the healthy for each of the `maps`, in as many sweeps over their scans as any is standardised."""
    fitted = {name: [] for name in maps}
    for number in range(max(ROUNDS[how.standard] for how in maps.values())):
        asked = {name: how for name, how in maps.items() if number < ROUNDS[how.standard]}
        sums = dict.fromkeys(asked, 0)
        for scan, raw in sweep():
            for name, how in asked.items():
                sums[name] = sums[name] + _moments(standardised(raw[name], scan, fitted[name], how), scan, how)
        for name, how in asked.items():
            fitted[name].append(_healthy(sums[name], how))
    return fitted


def intensity(image: Array, brain: Array) -> Array:
    """Express a scan's intensities `[N, X, Y]` as deviations from the brain's median, in robust standard deviations."""
    inside = image[brain].astype(np.float32)
    middle = np.median(inside)
    spread = 1.4826 * np.median(np.abs(inside - middle))  # of a Gaussian, the standard deviation
    return (image.astype(np.float32) - middle) / max(float(spread), TINY) * brain


def to_arrays(fitted: Fitted) -> dict[str, Array]:
    """Name the arrays of what was fitted, for a file."""
    found = {}
    for name, rounds in fitted.items():
        for number, healthy in enumerate(rounds):
            found |= {f"{name}.{number}.{field}": x for field, x in healthy._asdict().items()}
    return found


def from_arrays(arrays: dict[str, Array], maps: dict[str, How]) -> Fitted:
    """Read back what `to_arrays` has named."""
    return {
        name: [
            Healthy(*(arrays[f"{name}.{number}.{field}"] for field in Healthy._fields))
            for number in range(ROUNDS[how.standard])
        ]
        for name, how in maps.items()
    }


def smooth(x: Array, brain: Array, sigma: float, across: Array | None = None) -> Array:
    """Average x `[N, X, Y]`, 0 outside the brain, within it: a Gaussian of `sigma` pixels, and by weights `[N, N]`."""
    if not sigma and across is None:
        return x

    def summed(values: Array) -> Array:
        if sigma:
            left, right = (gaussian(np.arange(side), np.arange(side), sigma) for side in values.shape[1:])
            values = left @ values @ right
        return values if across is None else np.tensordot(across, values, 1)

    return summed(x) / np.maximum(summed(brain.astype(np.float32)), TINY) * brain


def _steps(how: How) -> list[list[Callable[[Array, Scan], Array]]]:
    """List what is done before each standardisation, and after the last."""
    mirrored = partial(_antisymmetric, share=how.antisymmetry)
    blurred = lambda x, scan: smooth(x, scan.brain, how.blur)  # noqa: E731
    averaged = partial(_averaged, how=how)
    return {
        "position": [[mirrored, blurred], [averaged], []],
        "pixel": [[mirrored], [blurred, averaged]],
        "none": [[mirrored, blurred, averaged]],
    }[how.standard]


def _antisymmetric(x: Array, scan: Scan, share: float) -> Array:
    return (x - share * mirror_batch(x)) * scan.brain


def _averaged(x: Array, scan: Scan, how: How) -> Array:
    across = gaussian(scan.height, scan.height, how.across) if how.across else None
    return smooth(x, scan.brain, how.in_plane, across)


def gaussian(here: Array, there: Array, sigma: float) -> Array:
    """Weigh places `[N]` by their distance from others `[M]`, `[N, M]` float32, 1 where there is none."""
    return np.exp(-0.5 * ((here[:, None] - there[None]) / sigma) ** 2).astype(np.float32)


def _moments(x: Array, scan: Scan, how: How) -> Array:
    """Sum weight, x and its square, or for `pixel` its size, at each pixel of each knot, `[3, P, X, Y]` float64."""
    if how.standard == "pixel":
        weight = np.ones((1, len(x)))
    else:
        weight = gaussian(np.linspace(0, 1, KNOTS), scan.position, how.width).astype(float)
    squares = np.abs(x) if how.standard == "pixel" else np.square(x)
    return np.stack([np.tensordot(weight, one, 1) for one in (scan.brain.astype(float), x, squares)])


def _healthy(sums: Array, how: How) -> Healthy:
    """Make mean and spread of sums: a pixel that is seldom brain leans on the spread of all, by `pseudo` of them."""
    weight, first, second = sums
    if how.standard == "pixel":
        mean = np.zeros_like(first)
    else:
        mean = first / np.maximum(weight, TINY)
        second = np.maximum(second - first * mean, 0)  # squares about the mean
    overall = second.sum((1, 2), keepdims=True) / np.maximum(weight.sum((1, 2), keepdims=True), TINY)
    spread = (second + how.pseudo * overall) / (weight + how.pseudo)
    spread = spread if how.standard == "pixel" else np.sqrt(spread)
    return Healthy(mean.astype(np.float32), np.maximum(spread, TINY).astype(np.float32))


def between(values: Array, position: Array) -> Array:
    """Interpolate `[P, X, Y]` between its knots at positions `[N]`, `[N, X, Y]`."""
    place = np.clip(position, 0, 1) * (len(values) - 1)
    low = np.minimum(place.astype(int), max(len(values) - 2, 0))
    share = (place - low)[:, None, None].astype(np.float32)
    return values[low] * (1 - share) + values[np.minimum(low + 1, len(values) - 1)] * share

"""Points of sweeps: what a reader of symnorm would want to see changed. For symnorm study sweep.

A point is a dict of config keys to values. `ablations` is what a config's `sweep()` gives unless it says otherwise;
`--points=masks` takes another function of this file.
"""

from itertools import product
from typing import Any

from configs.systems import dal, saca

Points = list[dict[str, Any]]


def grid(values: dict[str, tuple]) -> Points:
    """Every combination of values, the last key changing fastest."""
    return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]


def ablations() -> Points:
    """Twelve points: symnorm as it is, and eleven that change one thing each.

    Each choice of the method is then one row, one difference from the same reference, and one of eleven p-values that
    Holm corrects. A grid of as many points would vary two choices and leave the others untried. A centred mid-line cuts
    other slices, so that row is judged on other cases and stands unpaired.
    """
    return [
        {},
        {"mask.kind": "paired"},
        {"mask.kind": "hemisphere"},
        {"mask.kind": "checkerboard"},
        {"mask.kind": "exclusive"},
        {"mask.kind": "none"},
        {"mask.mirror_context": False},
        {"mask.ratio": 0.25},
        {"mask.covers": 1},
        {"difference.kind": "absolute"},
        {"difference.standard": "pixel"},
        {"data.midline": "centred"},
    ]


def masks() -> Points:
    """Each mask family with each share that it can hide: two halves cannot be quarters, and `none` hides nothing."""
    shares = grid({"mask.kind": ("exclusive", "paired", "random"), "mask.ratio": (0.5, 0.25, 0.125)})
    return shares + grid({"mask.kind": ("hemisphere", "checkerboard", "none")})


def differences() -> Points:
    """What each step of the map adds, from raw maps on; at every point the VAE sees all of the map."""
    off = {"difference.antisymmetry": 0.0, "difference.across": 0.0, "difference.in_plane": 0.0}
    plain = off | {"difference.standard": "none", "difference.threshold": 0.0}
    position = plain | {"difference.standard": "position"}
    neighbours = position | {"difference.across": 6.0, "difference.in_plane": 2.0}
    kinds = [plain | {"difference.kind": kind} for kind in ("absolute", "positive", "negative")]
    mirrored = neighbours | {"difference.antisymmetry": 0.5}
    return [{}, *kinds, plain | {"difference.standard": "pixel"}, position, neighbours, mirrored]


def dal_parts() -> Points:
    """What each part of dal adds: the method as it is, and each point without one part or with a plainer one."""
    return [{}, *dal.PARTS.values()]


def saca_parts() -> Points:
    """What each part of saca adds: the method as it is, and each point without one part or with one task alone."""
    return [{}, *saca.PARTS.values()]


def transfers() -> Points:
    """Twelve points for a config with `init_from`: what is fitted anew, on how many patients, and from scratch.

    The networks of a source mean what they meant there, so masks and difference maps cannot be changed here.
    """
    fitted = grid({"finetune.kind": ("gaussian", "vae", "all"), "finetune.patients": (0, 10, 5)})
    untouched = {"finetune.kind": "none"}
    return [*fitted, untouched, untouched | {"score.thresholds": "source"}, {"init_from": None}]

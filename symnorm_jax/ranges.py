"""The range of every number of a config, in the order of `configs/base.py` and `configs/systems/`."""

import math
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from ml_collections import ConfigDict

from symnorm_jax.settings import ALL_TEST, Rule, check_rules, flat


def numeric(value: Any) -> bool:
    """Say whether a value is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def number(low: float, high: float, text: str = "") -> Rule:
    """Allow a finite number from `low` to `high`."""
    return _range(lambda x: low <= x <= high, text or f"a number from {low:g} to {high:g}")


def above(low: float, high: float) -> Rule:
    """Allow a number above `low`, up to `high`."""
    return _range(lambda x: low < x <= high, f"a number above {low:g}, up to {high:g},")


def inside(low: float, high: float) -> Rule:
    """Allow a number that lies between `low` and `high` and is neither."""
    return _range(lambda x: low < x < high, f"a number between {low:g} and {high:g}, but neither,")


def whole(low: int, high: int = 10**9) -> Rule:
    """Allow a whole number from `low` to `high`."""
    return _range(lambda x: isinstance(x, int) and low <= x <= high, f"a whole number from {low} to {high:,}")


def _range(sound: Callable, text: str) -> Rule:
    return lambda x: numeric(x) and math.isfinite(x) and sound(x), f"{text} is"


def each(rule: Rule, counts: range, text: str) -> Rule:
    """Allow as many values as `counts` holds, of which each keeps to `rule`."""
    return lambda xs: isinstance(xs, list | tuple) and len(xs) in counts and all(map(rule[0], xs)), f"{text} are"


def also(rule: Rule, sound: Callable, text: str = "") -> Rule:
    """Allow what keeps to `rule` and is `sound`."""
    return lambda x: rule[0](x) and sound(x), f"{text} are" if text else rule[1]


MOST = 100_000  # people, voxels a side, widths: more is a slip of the hand
SHARE, COUNT, FROM_ZERO, MM = number(0, 1), whole(1), whole(0), number(0, 100)
SEED, WIDTH = whole(0, 2**32 - 1), whole(1, MOST)
WIDTHS = each(WIDTH, range(1, 17), f"1 to 16 whole numbers from 1 to {MOST:,}")
# An upper percentile below 50 would make more than half of the brain white: it is a fraction.
PERCENTS = "two percentiles from 0 to 100, the first smaller and the second from 50, as 1,99 and not 0.01,0.99,"
PERCENTILES = also(each(number(0, 100), range(2, 3), ""), lambda x: x[0] < x[1] >= 50, PERCENTS)
SUM = "three positive shares that sum to 1, or 0,0,1 to fit nothing,"
SPLIT = also(each(SHARE, range(3, 4), ""), lambda x: tuple(x) == ALL_TEST or min(x) > 0 and abs(sum(x) - 1) < 1e-6, SUM)
STEP = also(each(number(0, 100), range(2, 3), ""), lambda x: x[0] <= 1, "a probability, then a bound of 0 to 100,")
ASCENDING = "a probability, then two ascending exponents up to 100,"
SIDES = also(each(above(0, 1), range(2, 3), ""), lambda x: x[0] <= x[1], "two ascending shares above 0")
GAMMA = also(each(number(0, 100), range(3, 4), ""), lambda x: x[0] <= 1 and 0 < x[1] <= x[2], ASCENDING)

RANGES: dict[str, Rule] = {  # the first pattern that fits a key
    **dict.fromkeys(("seed", "data.split_seed", "data.options.seed"), SEED),
    "data.size": each(whole(1, 4096), range(2, 4), "two sides, of slices, or three, of volumes, from 1 to 4096"),
    "data.spacing": above(0, 100),
    "data.slice_spacing": MM,
    "data.min_similarity": number(-1, 1),
    "data.percentiles": PERCENTILES,
    "data.min_brain": number(0, 1e5),
    "data.min_lesion": number(0, 1e5),
    "data.margin": whole(0, 1000),
    "data.split": SPLIT,
    **dict.fromkeys(("data.folds", "data.fold"), whole(0, 100)),
    "data.duplicate": above(0, 1),
    **dict.fromkeys(("data.workers", "data.threads"), whole(0, 4096)),
    "data.options.planted": SHARE,
    "data.options.pairs": whole(0, 100),
    "data.options.spacing": above(0, 100),
    "data.options.noise": MM,
    "data.options.visits": whole(1, 1000),
    **dict.fromkeys(("data.options.healthy", "data.options.patients"), whole(0, MOST)),
    **dict.fromkeys(("sharding.fsdp", "sharding.smallest"), COUNT),
    **dict.fromkeys(("train.patients", "finetune.patients"), whole(0, MOST)),
    **dict.fromkeys(("train.accumulate", "train.log_every", "train.checkpoint_every"), COUNT),
    **dict.fromkeys(("*.steps", "*.batch_size"), COUNT),
    **dict.fromkeys(("*.patches.optimizer.learning_rate", "*.statistics.optimizer.learning_rate"), SHARE),
    "*.optimizer.learning_rate": above(0, 1),  # but for stages that measure and learn nothing
    "*.optimizer.warmup_steps": FROM_ZERO,
    "*.optimizer.weight_decay": number(0, 10),
    "*.optimizer.clip_norm": above(0, 1e6),
    "score.quantile": SHARE,
    "score.k": number(-100, 100),
    "score.alpha": inside(0, 1),
    "score.top_k": COUNT,
    "evaluation.replicates": whole(1, 10**6),
    "evaluation.strata": whole(1, 1000),
    "evaluation.margin": above(0, 1),
    "evaluation.erosion": MM,
    "evaluation.median": also(whole(1, 99), lambda x: x % 2 == 1, "odd numbers from 1 to 99"),
    **dict.fromkeys(("evaluation.smallest", "evaluation.smallest_lesion"), FROM_ZERO),
    **dict.fromkeys(("*.widths", "anatomy.where", "resnet.depths"), WIDTHS),
    **dict.fromkeys(("*.patch", "*.features", "*.latent", "projector.*", "*.stem", "resnet.stem_*"), WIDTH),
    "mask.covers": whole(1, 1000),
    **dict.fromkeys(("mask.ratio", "mae.ratio"), inside(0, 1)),
    "*.depth": whole(1, 100),
    **dict.fromkeys(("loss.ssim", "loss.beta"), number(0, 1e6)),
    **dict.fromkeys(("loss.scale", "*.deviation", "contrast.temperature"), above(0, 1e6)),
    "loss.warmup": above(0, 1),
    **dict.fromkeys(("*.blur", "difference.across", "difference.in_plane"), MM),
    "difference.antisymmetry": SHARE,
    "difference.width": above(0, 10),
    "difference.pseudo": above(0, 1e6),
    "difference.threshold": number(0, 1e6),
    **dict.fromkeys(("noise.grid", "corruption.grid"), WIDTH),
    "corruption.share": inside(0, 1),
    "erasing.rectangles": whole(1, 1000),
    **dict.fromkeys(("erasing.sides", "saca.blocks"), SIDES),
    **dict.fromkeys(("diffusion.start", "diffusion.patches"), WIDTH),
    "anatomy.classes": whole(2, 255),
    "anatomy.passes": whole(0, 100),
    **dict.fromkeys(("anatomy.invariance", "anatomy.cross"), number(0, 1e6)),
    **dict.fromkeys(("contrast.unchanged", "contrast.repaint", "contrast.monotone"), SHARE),
    "contrast.knots": whole(2, 1000),
    **dict.fromkeys(("contrast.bias", "contrast.noise"), number(0, 10)),
    **dict.fromkeys(("swin.embed", "swin.window"), whole(1, 1000)),
    **dict.fromkeys(("swin.depths", "swin.heads"), WIDTHS),
    "swin.cross_heads": whole(0, 1000),
    **dict.fromkeys(("saca.symmetry", "saca.rotation", "saca.contrast", "saca.inpaint"), number(0, 1e6)),
    "saca.temperature": above(0, 1e6),
    **dict.fromkeys(("saca.crop", "segment.crop"), whole(0, 4096)),
    "saca.cut": SHARE,
    "restore.blobs": whole(0, 1000),
    **dict.fromkeys(("restore.paint", "restore.erase"), SHARE),
    "restore.radii": also(each(above(0, 1000), range(2, 3), ""), lambda x: x[0] <= x[1], "two ascending radii above 0"),
    "views.crop": each(above(0, 1), range(3, 4), "three shares above 0, up to 1,"),
    "views.flip": number(0, 1, "a probability"),
    **dict.fromkeys(("views.rotate", "views.shift"), STEP),
    "views.gamma": GAMMA,
    "views.brain": _range(lambda x: 0 <= x < 1, "a share below 1"),
}


def rule_of(key: str) -> Rule | None:
    """Find the rule of a key, None where it has none."""
    return next((rule for pattern, rule in RANGES.items() if fnmatchcase(key, pattern)), None)


def check(config: ConfigDict, prefix: str = "") -> None:
    """Raise ConfigError for the first number of a config out of its range; `prefix` names a `config` that is a section.

    A key that no notebook of the package has is passed over.
    """
    for key, value in flat(config).items():
        rule = rule_of(prefix + key) if numeric(value) or isinstance(value, list) else None
        if rule:
            check_rules(config, {key: rule}, prefix)

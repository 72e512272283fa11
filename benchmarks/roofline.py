"""A step on paper: what it reads, what it sends to other devices as compiled, and the time a chip needs at its best.

The roofline model of Williams, Waterman & Patterson (2009), with the links between chips as a third roof: arithmetic,
memory and links each take their time, and the step at least the longest of them.
"""

import math
import re
from collections import defaultdict
from functools import cache
from typing import NamedTuple

import jax
import numpy as np
from jax.extend import core
from ml_collections import ConfigDict

from symnorm_jax.masking import patch_grid
from symnorm_jax.training.flops import PEAK


class Chip(NamedTuple):
    """A device by its maker's data sheet."""

    flops: float  # dense bfloat16 operations a second
    memory: float  # bytes
    bandwidth: float  # bytes a second between memory and cores
    link: float  # bytes a second that it sends to other chips, over all its links together


CHIPS = {
    "TPU v5e": Chip(PEAK["TPU v5 lite"], 16e9, 819e9, 1600e9 / 8),
    "H100 SXM": Chip(PEAK["NVIDIA H100 80GB HBM3"], 80e9, 3.35e12, 900e9 / 2),
    "H200 SXM": Chip(PEAK["NVIDIA H200"], 141e9, 4.8e12, 900e9 / 2),
}

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_COLLECTIVE = re.compile(rf" = (\(.*?\)|\S+) ({'|'.join(KINDS)})(-start)?\(")
_CALLS = re.compile(r"(?:body|condition|to_apply|calls|branch_computations|called_computations)=(\{[^}]*\}|%?[\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_ARRAY = re.compile(r"([a-z]+)(\d*)\w*\[([\d,]*)\]")


class Collective(NamedTuple):
    """One instruction by which devices exchange arrays."""

    kind: str  # one of KINDS
    payload: int  # bytes of its result on one device
    group: int  # devices that take part together
    times: int  # a step; more than 1 in a loop

    @property
    def sent(self) -> float:
        """Bytes that a device sends in a step where groups are rings, the fewest that any algorithm can send.

        Of an all-reduce 2 (n - 1) / n of its payload (Patarasuk & Yuan 2009), of all else (n - 1) / n of the array
        that is whole, and of a permutation all.
        """
        share = (self.group - 1) / self.group
        factor = {"all-reduce": 2 * share, "reduce-scatter": self.group - 1, "collective-permute": 1.0}
        return self.times * self.payload * factor.get(self.kind, share)


def collectives(hlo: str, devices: int) -> list[Collective]:
    """The collectives of a compiled program `hlo`, as `compiled.as_text()` has it, for so many devices.

    What stands in a loop counts as often as the loop is known to turn, once where that is not known.
    """
    lines = _by_computation(hlo)
    times = _times(lines)
    return [
        _collective(line, found, devices, times(name))
        for name, body in lines.items()
        for line in body
        if (found := _COLLECTIVE.search(line))
    ]


def traffic(jaxpr: core.Jaxpr) -> float:
    """Bytes that the convolutions and matrix products of a jaxpr read and write, each array once, loops unrolled.

    All else is taken to be fused into them. A compiler that fuses less moves more: this is a lower bound.
    """
    return float(sum(_of_equation(equation) for equation in jaxpr.eqns))


def batch_shapes(config: ConfigDict, size: int, asks: tuple[str, ...] = ("hidden",)) -> dict[str, jax.ShapeDtypeStruct]:
    """A training batch of `size` samples without its values, as `training_batches` makes it for the same `asks`."""
    sides = tuple(config.data.size)
    image, mask, number = ((*sides, 1), np.float32), (sides, np.bool_), ((), np.int32)
    each = {"image": image, "brain": image, "index": number, "patient": number}
    if "lesion" in asks:
        each["lesion"] = mask
    if "difference" in asks:
        each["difference"] = image
    if "healthy" in asks:
        each["healthy"] = ((), np.float32)
    if "hidden" in asks:
        each["hidden"] = (patch_grid(sides, config.mask.patch), np.bool_)
    return {name: jax.ShapeDtypeStruct((size, *shape), dtype) for name, (shape, dtype) in each.items()}


def _of_equation(equation: core.JaxprEqn) -> float:
    if equation.primitive.name in ("conv_general_dilated", "dot_general"):
        return sum(x.aval.size * x.aval.dtype.itemsize for x in (*equation.invars, *equation.outvars))
    inner = [traffic(jaxpr) for jaxpr in core.jaxprs_in_params(equation.params)]
    if equation.primitive.name == "cond":
        return max(inner)
    return sum(inner) * (equation.params["length"] if equation.primitive.name == "scan" else 1)


def _by_computation(hlo: str) -> dict[str, list[str]]:
    """The lines of each computation by its name; that of the entry is empty."""
    found, name = defaultdict(list), None
    for line in hlo.splitlines():
        if begins := _COMPUTATION.match(line):
            name = "" if begins[1] else begins[2]
        elif name is not None:
            found[name].append(line)
    return found


def _times(lines: dict[str, list[str]]):
    """A function from the name of a computation to how often a run of the program enters it."""
    callers = defaultdict(list)
    for name, body in lines.items():
        for line in body:
            trips = _TRIPS.search(line)
            for called in (one for names in _CALLS.findall(line) for one in re.findall(r"[\w.\-]+", names)):
                callers[called].append((name, int(trips[1]) if trips else 1))

    @cache
    def times(name: str) -> int:
        return 1 if name == "" else sum(times(caller) * trips for caller, trips in callers[name])

    return times


def _collective(line: str, found: re.Match, devices: int, times: int) -> Collective:
    shape, kind, starts = found.groups()
    group, payload = _group(line, devices), sum(_bytes(*array) for array in _ARRAY.findall(shape))
    if starts and kind == "all-gather":  # whose result has the operands beside what is gathered
        payload = payload * group // (group + 1)
    elif starts and kind == "collective-permute":
        payload //= 2
    return Collective(kind, payload, group, times)


def _group(line: str, devices: int) -> int:
    """How many devices take part together, of the three ways in which XLA writes `replica_groups`."""
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", line):
        sides = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return math.prod(int(part or sides[axis]) for axis, part in re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", named[2]))
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(iota[1])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", line)
    return listed[1].count(",") + 1 if listed else devices


def _bytes(kind: str, bits: str, sides: str) -> int:
    return (1 if kind == "pred" else int(bits or 0) // 8) * math.prod(int(side) for side in sides.split(",") if side)

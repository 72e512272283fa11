"""Arithmetic that a program asks for, counted in its jaxpr, and the peak of the devices.

Convolutions and matrix products are counted, a multiplication and an addition as two operations; all else is small
beside them. XLA's own count leaves out what a library computes on GPUs, and counts a loop's body once.
"""

import math

import jax
from jax.extend import core

PEAK = {  # dense bfloat16 operations a second of one device, from the makers' data sheets
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}


def count(jaxpr: core.Jaxpr) -> float:
    """Count the operations of a jaxpr, with the jaxprs in it as often as they run; of branches the dearest."""
    return float(sum(_of_equation(equation) for equation in jaxpr.eqns))


def peak() -> float | None:
    """Look up the operations a second of all devices at their best, None where it is not known."""
    one = PEAK.get(jax.devices()[0].device_kind)
    return one and one * jax.device_count()


def _of_equation(equation: core.JaxprEqn) -> float:
    name, settings = equation.primitive.name, equation.params
    if name == "conv_general_dilated":
        kernel, outputs = equation.invars[1].aval.shape, math.prod(equation.outvars[0].aval.shape)
        per_output = math.prod(kernel) / kernel[settings["dimension_numbers"].rhs_spec[0]]
        # A dilated input is mostly zeros, put there so that a gradient can be written as a convolution.
        return 2 * outputs * per_output / math.prod(settings["lhs_dilation"])
    if name == "dot_general":
        (contracted, _), _ = settings["dimension_numbers"]
        depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        return 2 * math.prod(equation.outvars[0].aval.shape) * depth
    inner = [count(jaxpr) for jaxpr in core.jaxprs_in_params(settings)]
    if name == "cond":
        return max(inner)
    return sum(inner) * (settings["length"] if name == "scan" else 1)  # of a `while`, whose end is not known, one turn

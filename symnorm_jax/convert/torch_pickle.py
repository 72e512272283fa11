"""What a pickle of torch.save stands for, found without executing anything of it.

A pickle is a program. `pickletools` only takes it apart; what follows knows the few instructions and names with which
tensors in dicts are written, keeps them as data, and refuses the rest.
"""

import pickletools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from symnorm_jax.errors import InputError

LEGIBLE = 80  # characters of what a file says that are repeated
DTYPES = {
    **{"torch FloatStorage": np.dtype(np.float32), "torch HalfStorage": np.dtype(np.float16)},
    **{"torch BFloat16Storage": np.dtype(jnp.bfloat16), "torch LongStorage": np.dtype(np.int64)},
}


# Nothing of a pickle may be printed, compared or hashed but strings and numbers: nested tuples that refer to each other
# take exponential time.


class Storage(NamedTuple):
    """Numbers in a record of the archive."""

    kind: str  # one of DTYPES
    key: str
    count: int  # values


class Tensor(NamedTuple):
    """What the pickle says of a tensor; nothing of it is checked but its types."""

    storage: Storage
    offset: int  # in values, like the strides
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Name(str):
    """What the pickle calls by name. It stays a name."""


class _OrderedDict(dict):
    """One that the pickle made by name; the only thing whose attributes it may set, and they are dropped."""


MARK = object()


def interpreted(pickle: bytes) -> Any:
    """Find what a pickle stands for, with a `Tensor` for each tensor.

    Raises InputError at the first instruction or name that is not listed below, and IndexError, KeyError, TypeError,
    ValueError or OverflowError for one that is damaged.
    """
    stack, memo = [], {}
    with warnings.catch_warnings(action="ignore"):  # of names that Python would write otherwise; they are not listed
        for opcode, argument, _ in pickletools.genops(pickle):
            name = opcode.name
            if name in LITERALS:
                stack.append(LITERALS[name](argument))
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[argument])
            elif name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = stack[-1]
            elif name in MAKERS:
                count, make = MAKERS[name]
                stack.append(make(_taken(stack, count)))
            elif name in CHANGERS:
                count, kinds, change = CHANGERS[name]
                taken = _taken(stack, count)
                _require(type(stack[-1]) in kinds)
                change(stack[-1], taken)
            elif name == "BUILD":
                stack.pop()
                if type(stack[-1]) is not _OrderedDict:
                    raise _unknown("sets attributes of what is no OrderedDict")
            elif name not in ("PROTO", "STOP"):  # without STOP as the last of them genops raises ValueError
                raise _unknown(f"uses the instruction {name}")
    return stack.pop()


def _taken(stack: list[Any], count: int | None) -> list[Any]:
    """Take the last so many off the stack; without a count everything above the last mark, and the mark."""
    if count is not None:
        return [stack.pop() for _ in range(count)][::-1]
    found = []
    while (one := stack.pop()) is not MARK:
        found.append(one)
    return found[::-1]


def _unknown(does: str) -> InputError:
    return InputError(f"its pickle {does}, which no dict of tensors needs; nothing of it is executed.")


def legible(text: Any) -> str:
    """Shorten what a file says, to be repeated."""
    return repr(text[:LEGIBLE] if isinstance(text, str) else text)


def _named(text: str) -> _Name:
    if text not in DTYPES and text not in FUNCTIONS:
        raise _unknown(f"names {legible(text.replace(' ', '.'))}")
    return _Name(text)


def _require(sound: bool) -> None:
    if not sound:
        raise TypeError


def _set_items(target: dict, items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        _require(type(key) in (str, int))
        if key in target:
            raise InputError(f"{legible(key)} stands twice in a dict of it; once is allowed.")
        target[key] = value


def _call(taken: list[Any]) -> Any:
    name, arguments = taken
    if type(name) is not _Name or name not in FUNCTIONS:
        raise _unknown("calls what is no function of tensors")
    _require(type(arguments) is tuple)
    return FUNCTIONS[name](*arguments)


def _storage(taken: list[Any]) -> Storage:
    word, kind, key, _, count = taken[0]
    _require([type(one) for one in (word, kind, key, count)] == [str, _Name, str, int])
    _require(word == "storage" and kind in DTYPES and count >= 0)
    return Storage(kind, key, count)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, hooks: Any, *_) -> Tensor:
    _require(type(storage) is Storage and type(shape) is tuple and type(strides) is tuple)
    _require(all(type(one) is int for one in (offset, *shape, *strides)))
    return Tensor(storage, offset, shape, strides)


def _parameter(tensor: Any, requires_grad: Any, hooks: Any) -> Tensor:
    _require(type(tensor) is Tensor)
    return tensor


FUNCTIONS = {
    "collections OrderedDict": lambda: _OrderedDict(),  # from nothing: a dict of a dict would be a copy
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}
LITERALS: dict[str, Callable[[Any], Any]] = {  # by what stands in the pickle; the others have nothing there
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"), lambda value: value),
    **{"NONE": lambda _: None, "NEWTRUE": lambda _: True, "NEWFALSE": lambda _: False, "MARK": lambda _: MARK},
    **{"EMPTY_DICT": lambda _: {}, "EMPTY_LIST": lambda _: [], "EMPTY_TUPLE": lambda _: (), "GLOBAL": _named},
}
MAKERS = {  # how many are taken off the stack, None for all above the mark, and what is made of them
    **{"TUPLE": (None, tuple), "TUPLE1": (1, tuple), "TUPLE2": (2, tuple), "TUPLE3": (3, tuple)},
    **{"BINPERSID": (1, _storage), "REDUCE": (2, _call)},
}
DICTS = (dict, _OrderedDict)
CHANGERS = {  # likewise, of which type the last must be then, and how they change it
    **{"APPEND": (1, (list,), list.extend), "APPENDS": (None, (list,), list.extend)},
    **{"SETITEM": (2, DICTS, _set_items), "SETITEMS": (None, DICTS, _set_items)},
}

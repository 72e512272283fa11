"""What a pickle of torch.save stands for, found without executing anything of it.

A pickle is a program. `pickletools` only takes it apart; what follows knows the few instructions and names with which
tensors in dicts are written, keeps them as data, and refuses the rest.
"""

import pickletools
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from symnorm_jax.errors import InputError

LEGIBLE = 80  # characters of what a file says that are repeated
DTYPES = {
    "torch FloatStorage": np.dtype(np.float32),
    "torch HalfStorage": np.dtype(np.float16),
    "torch BFloat16Storage": np.dtype(jnp.bfloat16),
    "torch LongStorage": np.dtype(np.int64),
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


class _Name(NamedTuple):
    """What the pickle calls by name. It stays a name."""

    text: str


class _OrderedDict(dict):
    """One that the pickle made by name; the only thing whose attributes it may set, and they are dropped."""


class _Machine(NamedTuple):
    stack: list[Any]
    memo: dict[int, Any]


MARK = object()


def interpreted(pickle: bytes) -> Any:
    """What a pickle stands for, with a `Tensor` for each tensor.

    Raises InputError at the first instruction or name that is not listed below, and EOFError, IndexError, KeyError,
    TypeError, ValueError or OverflowError for one that is damaged.
    """
    machine = _Machine([], {})
    with warnings.catch_warnings(action="ignore"):  # of names that Python would write otherwise; they are not listed
        for opcode, argument, _ in pickletools.genops(pickle):
            if opcode.name == "STOP":
                return machine.stack.pop()
            if opcode.name not in INSTRUCTIONS:
                raise _unknown(f"uses the instruction {opcode.name}")
            INSTRUCTIONS[opcode.name](machine, argument)
    raise EOFError


def _unknown(does: str) -> InputError:
    return InputError(f"its pickle {does}, which no dict of tensors needs; nothing of it is executed.")


def legible(text: Any) -> str:
    """What a file says, short enough to be repeated."""
    return repr(text[:LEGIBLE] if isinstance(text, str) else text)


def _marked(machine: _Machine) -> list[Any]:
    """Everything above the last mark, taken off the stack with it."""
    found = []
    while (one := machine.stack.pop()) is not MARK:
        found.append(one)
    return found[::-1]


def _top(machine: _Machine, count: int) -> list[Any]:
    """The last so many, taken off the stack."""
    return [machine.stack.pop() for _ in range(count)][::-1]


def _push(make: Callable[[_Machine, Any], Any], machine: _Machine, argument: Any) -> None:
    machine.stack.append(make(machine, argument))


def _named(machine: _Machine, text: str) -> _Name:
    if text not in DTYPES and text not in FUNCTIONS:
        raise _unknown(f"names {legible(text.replace(' ', '.'))}")
    return _Name(text)


def _extend(machine: _Machine, values: list[Any]) -> None:
    if type(machine.stack[-1]) is not list:
        raise TypeError
    machine.stack[-1].extend(values)


def _set_items(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) not in (dict, _OrderedDict):
        raise TypeError
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, int):
            raise TypeError
        if key in target:
            raise InputError(f"{legible(key)} stands twice in a dict of it; once is allowed.")
        target[key] = value


def _set_attributes(machine: _Machine) -> None:
    machine.stack.pop()
    if type(machine.stack[-1]) is not _OrderedDict:
        raise _unknown("sets attributes of what is no OrderedDict")


def _call(machine: _Machine) -> Any:
    name, arguments = _top(machine, 2)
    if type(name) is not _Name or name.text not in FUNCTIONS:
        raise _unknown("calls what is no function of tensors")
    if type(arguments) is not tuple:
        raise TypeError
    return FUNCTIONS[name.text](*arguments)


def _storage(machine: _Machine) -> Storage:
    word, name, key, _, count = machine.stack.pop()
    kinds = [type(one) for one in (word, name, key, count)]
    if kinds != [str, _Name, str, int] or word != "storage" or name.text not in DTYPES or count < 0:
        raise TypeError
    return Storage(name.text, key, count)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, hooks: Any, *_) -> Tensor:
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise TypeError
    if any(type(one) is not int for one in (offset, *shape, *strides)):
        raise TypeError
    return Tensor(storage, offset, shape, strides)


def _parameter(tensor: Any, requires_grad: Any, hooks: Any) -> Tensor:
    if type(tensor) is not Tensor:
        raise TypeError
    return tensor


FUNCTIONS = {
    "collections OrderedDict": lambda: _OrderedDict(),  # from nothing: a dict of a dict would be a copy
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}
VALUES = {
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"), lambda _, value: value),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, place: machine.memo[place]),
    **{f"TUPLE{count}": lambda machine, _, count=count: tuple(_top(machine, count)) for count in (1, 2, 3)},
    "NONE": lambda *_: None,
    "NEWTRUE": lambda *_: True,
    "NEWFALSE": lambda *_: False,
    "EMPTY_DICT": lambda *_: {},
    "EMPTY_LIST": lambda *_: [],
    "EMPTY_TUPLE": lambda *_: (),
    "TUPLE": lambda machine, _: tuple(_marked(machine)),
    "MARK": lambda *_: MARK,
    "GLOBAL": _named,
    "BINPERSID": lambda machine, _: _storage(machine),
    "REDUCE": lambda machine, _: _call(machine),
}
INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **{name: partial(_push, make) for name, make in VALUES.items()},
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda machine, place: machine.memo.update({place: machine.stack[-1]})),
    "PROTO": lambda *_: None,
    "APPEND": lambda machine, _: _extend(machine, _top(machine, 1)),
    "APPENDS": lambda machine, _: _extend(machine, _marked(machine)),
    "SETITEM": lambda machine, _: _set_items(machine, _top(machine, 2)),
    "SETITEMS": lambda machine, _: _set_items(machine, _marked(machine)),
    "BUILD": lambda machine, _: _set_attributes(machine),
}

"""Reads the tensors of a torch.save file without torch, and without executing anything that the file holds.

The file is a zip archive of `<name>/data.pkl`, a pickle, and `<name>/data/<key>`, the bytes of a storage each. A pickle
is a program. `pickletools` only takes it apart; what follows knows the few instructions and names with which tensors in
dicts are written, keeps them as data, and refuses the rest.
"""

import errno
import math
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from symnorm_jax.errors import InputError

STATE = "model_state_dict"  # where the checkpoint of a training has the network
MAX_PICKLE = 1 << 22  # bytes; a tensor's name, shape and storage take some two hundred
MAX_RANK = 8
LEGIBLE = 80  # characters of what a file says that are repeated
BYTE_ORDERS = {b"little": "<", b"big": ">"}
DTYPES = {
    "torch FloatStorage": np.dtype(np.float32),
    "torch HalfStorage": np.dtype(np.float16),
    "torch BFloat16Storage": np.dtype(jnp.bfloat16),
    "torch LongStorage": np.dtype(np.int64),
}
DAMAGE = (
    *(zipfile.BadZipFile, struct.error, EOFError, RuntimeError),  # as zipfile meets it
    *(IndexError, KeyError, TypeError, ValueError, OverflowError),  # as the interpreter does
)


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a state dict, or of the one under `model_state_dict`, by name, each of its own shape and type.

    Types are float32, float16, bfloat16 and int64. Arrays are read-only and share memory where tensors do: together
    they take little more than the file. Raises InputError for a file that is damaged or of another kind, and for one
    that holds or does anything but tensors, numbers, strings and containers of them.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file.")
    with path.open("rb") as file, _told_of(path):
        if file.read(2) != b"PK":
            raise InputError("is no zip archive, as torch writes since 1.6; torch.load and torch.save it there again.")
        with zipfile.ZipFile(file) as archive:
            _check_archive(archive, path.stat().st_size)
            folder = _folder(archive)
            return _arrays(archive, folder, _state(_interpreted(archive.read(f"{folder}/data.pkl"))))


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """One sentence with the file's name, also in place of the many errors that damage ends in."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which is a place in front of the file
            raise
        raise InputError(f"{path}: is cut off or damaged, {type(error).__name__}; it must be had again.") from None


def _check_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Raise InputError unless all records together take no more memory than the file has bytes, `size`."""
    names = set()
    for record in archive.infolist():
        if record.filename in names:
            raise InputError(f"{_legible(record.filename)} is in it twice; once is allowed.")
        names.add(record.filename)
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            raise InputError(f"{_legible(record.filename)} is compressed; torch.save stores records as they are.")
    claimed = sum(record.file_size for record in archive.infolist())
    if claimed > size:
        raise InputError(f"its records claim {claimed} bytes; the file has {size}.")


def _folder(archive: zipfile.ZipFile) -> str:
    """The name in front of every record."""
    found = [one for one in archive.infolist() if one.filename.partition("/")[2] == "data.pkl"]
    if len(found) != 1:
        raise InputError(f"has {len(found)} records <name>/data.pkl; a file of torch.save has one.")
    if found[0].file_size > MAX_PICKLE:
        raise InputError(f"its data.pkl has {found[0].file_size} bytes; {MAX_PICKLE} are allowed.")
    return found[0].filename.partition("/")[0]


# The interpreter. Nothing of a pickle may be printed, compared or hashed but strings and numbers: nested tuples that
# refer to each other take exponential time.


class _Storage(NamedTuple):
    kind: str  # one of DTYPES
    key: str
    count: int  # values


class _Tensor(NamedTuple):
    storage: _Storage
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


def _interpreted(pickle: bytes) -> Any:
    """What a pickle stands for. Raises InputError at the first instruction or name that is not listed below."""
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


def _legible(text: Any) -> str:
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
        raise _unknown(f"names {_legible(text.replace(' ', '.'))}")
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
            raise InputError(f"{_legible(key)} stands twice in a dict of it; once is allowed.")
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


def _storage(machine: _Machine) -> _Storage:
    word, name, key, _, count = machine.stack.pop()
    kinds = [type(one) for one in (word, name, key, count)]
    if kinds != [str, _Name, str, int] or word != "storage" or name.text not in DTYPES or count < 0:
        raise TypeError
    return _Storage(name.text, key, count)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, hooks: Any, *_) -> _Tensor:
    if type(storage) is not _Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise TypeError
    if any(type(one) is not int for one in (offset, *shape, *strides)):
        raise TypeError
    return _Tensor(storage, offset, shape, strides)


def _parameter(tensor: Any, requires_grad: Any, hooks: Any) -> _Tensor:
    if type(tensor) is not _Tensor:
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


# From what the pickle stands for to arrays.


def _state(found: Any) -> dict[str, _Tensor]:
    """The state dict in what a pickle stands for."""
    state = found.get(STATE, found) if isinstance(found, dict) else found
    if not isinstance(state, dict):
        raise InputError(f"holds no dict; a state dict is needed, by itself or under {STATE!r}.")
    for name, tensor in state.items():
        if type(name) is not str or type(tensor) is not _Tensor:
            raise InputError(f"{_legible(name)} is no tensor; a state dict is needed, by itself or under {STATE!r}.")
    return state


def _arrays(archive: zipfile.ZipFile, folder: str, state: dict[str, _Tensor]) -> dict[str, np.ndarray]:
    names = set(archive.namelist())
    marker = f"{folder}/byteorder"  # not in files before torch 2.1
    order = BYTE_ORDERS[archive.read(marker)] if marker in names else "<"
    bytes_of = cache(archive.read)
    found = {}
    for name, tensor in state.items():
        record, dtype = f"{folder}/data/{tensor.storage.key}", DTYPES[tensor.storage.kind]
        there = archive.getinfo(record).file_size if record in names else 0
        if there != tensor.storage.count * dtype.itemsize:
            claimed = f"{tensor.storage.count} values of {dtype}"
            raise InputError(f"{_legible(name)} needs {claimed} in {_legible(record)}, which has {there} bytes.")
        _check_inside(name, tensor)
        word = f"u{dtype.itemsize}"
        values = np.frombuffer(bytes_of(record), order + word).astype(word, copy=False).view(dtype)
        strides = [step * dtype.itemsize for step in tensor.strides]
        view = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides, writeable=False)
        found[name] = view
    return found


def _check_inside(name: str, tensor: _Tensor) -> None:
    """Raise InputError unless a tensor has values, no more of them than its storage, and all of them lie in it."""
    _, offset, shape, strides = tensor
    if len(shape) != len(strides) or len(shape) > MAX_RANK:
        raise InputError(
            f"{_legible(name)} has {len(shape)} sides and {len(strides)} strides; up to {MAX_RANK} are allowed."
        )
    last = offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
    inside = last < tensor.storage.count and math.prod(shape) <= tensor.storage.count
    if min(offset, *strides, 0) < 0 or min(shape, default=1) < 1 or not inside:
        where = f"shape {shape}, strides {strides} and offset {offset}"
        raise InputError(f"{_legible(name)} of {where} does not lie in its storage of {tensor.storage.count} values.")

"""Reads the tensors of a torch.save file without torch, and without executing anything that the file holds.

The file is a zip archive of `<name>/data.pkl`, a pickle, and `<name>/data/<key>`, the bytes of a storage each. Here the
archive is checked, and what `torch_pickle` says of its pickle is made arrays.
"""

import errno
import math
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from symnorm_jax.convert.torch_pickle import DTYPES, Tensor, interpreted, legible
from symnorm_jax.errors import InputError

STATES = ("model_state_dict", "state_dict")  # where the checkpoint of a training has the network
MAX_PICKLE = 1 << 22  # bytes; a tensor's name, shape and storage take some two hundred
MAX_RANK = 8
BYTE_ORDERS = {b"little": "<", b"big": ">"}
DAMAGE = (
    *(zipfile.BadZipFile, struct.error, EOFError, RuntimeError),  # as zipfile meets it
    *(IndexError, KeyError, TypeError, ValueError, OverflowError),  # as the interpreter does
)


def read(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a state dict, or of the one under STATES, by name, each of its shape and type.

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
            folder = _folder(archive, path.stat().st_size)
            return _arrays(archive, folder, _state(interpreted(archive.read(f"{folder}/data.pkl"))))


@contextmanager
def _told_of(path: Path) -> Iterator[None]:
    """Name the file in one sentence, also in place of the many errors that damage ends in."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which is a place in front of the file
            raise
        raise InputError(f"{path}: is cut off or damaged, {type(error).__name__}; it must be had again.") from None


def _folder(archive: zipfile.ZipFile, size: int) -> str:
    """Find the name in front of every record.

    Raises InputError unless all records together take no more memory than the file has bytes, `size`.
    """
    records, names = archive.infolist(), set()
    for record in records:
        if record.filename in names:
            raise InputError(f"{legible(record.filename)} is in it twice; once is allowed.")
        names.add(record.filename)
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            raise InputError(f"{legible(record.filename)} is compressed; torch.save stores records as they are.")
    if (claimed := sum(record.file_size for record in records)) > size:
        raise InputError(f"its records claim {claimed} bytes; the file has {size}.")
    found = [one for one in records if one.filename.partition("/")[2] == "data.pkl"]
    if len(found) != 1:
        raise InputError(f"has {len(found)} records <name>/data.pkl; a file of torch.save has one.")
    if found[0].file_size > MAX_PICKLE:
        raise InputError(f"its data.pkl has {found[0].file_size} bytes; {MAX_PICKLE} are allowed.")
    return found[0].filename.partition("/")[0]


def _state(found: Any) -> dict[str, Tensor]:
    within = [found[key] for key in STATES if key in found] if isinstance(found, dict) else []
    state = within[0] if within else found
    needed = f"a state dict is needed, by itself or under {' or '.join(map(repr, STATES))}."
    if not isinstance(state, dict):
        raise InputError(f"holds no dict; {needed}")
    for name, tensor in state.items():
        if type(name) is not str or type(tensor) is not Tensor:
            raise InputError(f"{legible(name)} is no tensor; {needed}")
    return state


def _arrays(archive: zipfile.ZipFile, folder: str, state: dict[str, Tensor]) -> dict[str, np.ndarray]:
    sizes = {record.filename: record.file_size for record in archive.infolist()}
    marker = f"{folder}/byteorder"  # not in files before torch 2.1
    order = BYTE_ORDERS[archive.read(marker)] if marker in sizes else "<"
    bytes_of, found = cache(archive.read), {}
    for name, tensor in state.items():
        kind, key, count = tensor.storage
        record, dtype = f"{folder}/data/{key}", DTYPES[kind]
        there, claimed = sizes.get(record, 0), f"{count} values of {dtype}"
        if there != count * dtype.itemsize:
            raise InputError(f"{legible(name)} needs {claimed} in {legible(record)}, which has {there} bytes.")
        _check_inside(name, tensor)
        word = f"u{dtype.itemsize}"
        values = np.frombuffer(bytes_of(record), order + word).astype(word, copy=False).view(dtype)[tensor.offset :]
        strides = [step * dtype.itemsize for step in tensor.strides]
        found[name] = np.lib.stride_tricks.as_strided(values, tensor.shape, strides, writeable=False)
    return found


def _check_inside(name: str, tensor: Tensor) -> None:
    """Raise InputError unless a tensor has values, no more of them than its storage, and all of them lie in it."""
    (_, _, count), offset, shape, strides = tensor
    if len(shape) != len(strides) or len(shape) > MAX_RANK:
        sides = f"{len(shape)} sides and {len(strides)} strides"
        raise InputError(f"{legible(name)} has {sides}; up to {MAX_RANK} are allowed.")
    last = offset + sum((side - 1) * step for side, step in zip(shape, strides, strict=True))
    inside = last < count and math.prod(shape) <= count
    if min(offset, *strides, 0) < 0 or min(shape, default=1) < 1 or not inside:
        where = f"shape {shape}, strides {strides} and offset {offset}"
        raise InputError(f"{legible(name)} of {where} does not lie in its storage of {count} values.")

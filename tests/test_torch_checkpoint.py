"""Files of torch are read without torch; what else they hold is refused and not executed."""

import ast
import copy
import pickle
import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from test_resnet3d import drawn, weights

from symnorm_jax.convert import torch_checkpoint, torch_pickle
from symnorm_jax.convert.torch_checkpoint import read
from symnorm_jax.errors import InputError
from symnorm_jax.models.encoder3d import ResNet3D

READER = (torch_checkpoint, torch_pickle)
STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "bfloat16": "BFloat16Storage", "int64": "LongStorage"}
SMALL = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float16([1, -2])}


# A writer of torch's format, so that these tests need no torch: protocol 2, as torch.save has it.


class Claim(NamedTuple):
    """A tensor as a file may claim it, over the values of `array` in a storage of its own or that of `key`."""

    array: np.ndarray
    shape: tuple
    strides: tuple
    offset: int = 0
    count: int | None = None
    key: str | None = None


class Raw(NamedTuple):
    """Instructions, as they are."""

    code: bytes


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def claim(array: np.ndarray) -> Claim:
    return Claim(array, array.shape, tuple(step // array.itemsize for step in array.copy().strides))


def code(value, storages: dict[str, bytes]) -> bytes:
    """The instructions that make `value`; the bytes of its tensors are added to `storages`."""
    of = lambda one: code(one, storages)  # noqa: E731
    if isinstance(value, Raw):
        return value.code
    if isinstance(value, np.ndarray):
        return of(claim(value))
    if isinstance(value, Claim):
        key = value.key or str(len(storages))
        storages.setdefault(key, np.ascontiguousarray(value.array).tobytes())
        name = STORAGES.get(value.array.dtype.name, "DoubleStorage")
        count = value.array.size if value.count is None else value.count
        kind = f"ctorch\n{name}\n".encode()
        storage = b"(" + text("storage") + kind + text(key) + text("cpu") + number(count) + b"tQ"
        hooks = b"ccollections\nOrderedDict\n)R"
        rest = number(value.offset) + of(value.shape) + of(value.strides) + b"\x89" + hooks
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + rest + b"tR"
    if isinstance(value, dict):  # as state_dict() gives them, with attributes
        items = b"".join(of(key) + of(one) for key, one in value.items())
        return b"ccollections\nOrderedDict\n)R(" + items + b"u}" + text("_metadata") + b"}sb"
    if isinstance(value, tuple | list):
        inside = b"".join(of(one) for one in value)
        return b"(" + inside + b"t" if isinstance(value, tuple) else b"](" + inside + b"e"
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    return text(value) if isinstance(value, str) else number(value)


def write(path: Path, value, change=None, order: bytes | None = b"little", **options) -> Path:
    """A file of torch with `value` in it; `change` may alter its records `{name: bytes}` beforehand."""
    storages = {}
    records = {"name/data.pkl": b"\x80\x02" + code(value, storages) + b"."}
    records |= {"name/byteorder": order} if order else {}
    records |= {f"name/data/{key}": content for key, content in storages.items()} | {"name/version": b"3\n"}
    if change:
        change(records)
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    return path


def released(state: dict[str, np.ndarray]) -> dict:
    """What the release holds: a training's checkpoint, here with an Adam that has taken a step."""
    moments = {"step": np.full((), 7, np.float32), "exp_avg": np.ones(3, np.float32)}
    group = {"lr": 3e-4, "betas": (0.9, 0.999), "amsgrad": False, "maximize": None, "params": [0, 1]}
    return {
        "epoch": 999,
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {0: moments}, "param_groups": [group]},
    }


def simclr(encoder: ResNet3D, projector: tuple[int, int]) -> dict[str, np.ndarray]:
    """The drawn weights of encoder and projector by the release's names."""
    state, _ = weights(encoder)
    features, (hidden, out) = encoder.widths[-1], projector
    state = {f"encoder.{name}": array for name, array in state.items()}
    counts = {name.replace("running_mean", "num_batches_tracked") for name in state if "running_mean" in name}
    state |= {name: np.full((), 5, np.int64) for name in counts}
    for name, shape in (("projector.0.weight", (hidden, features)), ("projector.2.weight", (out, hidden))):
        state[name] = drawn(name, shape)
    return {f"module.{name}": array for name, array in state.items()}


# Reading.


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_state_dict_is_read_alone_and_in_a_checkpoint(tmp_path, wrapped):
    found = read(write(tmp_path / "a.tar", released(SMALL) if wrapped else SMALL))
    assert found.keys() == SMALL.keys()
    for name, array in SMALL.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, jnp.bfloat16, np.int64])
@pytest.mark.parametrize("order", [b"little", b"big", None])
def test_types_and_byte_orders(tmp_path, rng, dtype, order):
    array = (1000 * rng.normal(size=(3, 2))).astype(dtype)

    def swap(records):
        stored = np.frombuffer(records["name/data/0"], f"<u{array.itemsize}")
        records["name/data/0"] = stored.astype(f">u{array.itemsize}").tobytes()

    path = write(tmp_path / "a.pt", {"a": array}, change=swap if order == b"big" else None, order=order)
    found = read(path)["a"]
    np.testing.assert_array_equal(found, array, strict=True)
    assert not found.flags.writeable


def test_views_keep_their_strides_and_share_their_memory(tmp_path):
    values = np.arange(12, dtype=np.float32)
    claims = {"all": Claim(values, (3, 4), (4, 1), key="0"), "turned": Claim(values, (4, 3), (1, 4), key="0")}
    claims |= {"part": Claim(values, (2, 2), (4, 2), offset=5, key="0")}
    found = read(write(tmp_path / "a.pt", claims))
    np.testing.assert_array_equal(found["turned"], values.reshape(3, 4).T)
    np.testing.assert_array_equal(found["part"], [[5, 7], [9, 11]])
    assert np.shares_memory(found["all"], found["part"])
    with pytest.raises(ValueError, match="read-only"):
        found["all"][0, 0] = 1


def test_what_torch_writes(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install '.[parity]'")
    net = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(2, 1, 5, 5, 5)).sum().backward()
    optimizer.step()
    state = net.state_dict() | {"parameter": torch.nn.Parameter(torch.ones(2)), "half": torch.ones(2).bfloat16()}
    torch.save({"model_state_dict": state, "optimizer_state_dict": optimizer.state_dict()}, tmp_path / "a.pt")
    found = read(tmp_path / "a.pt")
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        np.testing.assert_array_equal(found[name].astype(np.float32), tensor.detach().float().numpy(), strict=True)


# Refusing.

HOSTILE = {  # instructions that would run a command in a shell, and what is said of them
    "GLOBAL and REDUCE": (lambda line: b"cos\nsystem\n" + text(line) + b"\x85R", r"names 'os\.system'"),
    "STACK_GLOBAL": (lambda line: text("os") + text("system") + b"\x93" + text(line) + b"\x85R", "STACK_GLOBAL"),
    "short strings": (lambda line: b"\x8c\x02os\x8c\x06system\x93" + text(line) + b"\x85R", "SHORT_BINUNICODE"),
    "INST": (lambda line: b"(" + text(line) + b"ios\nsystem\n", "INST"),
    "OBJ": (lambda line: b"(cos\nsystem\n" + text(line) + b"o", r"names 'os\.system'"),
    "BUILD": (
        lambda line: b"cfunctools\npartial\ncbuiltins\nprint\n\x85R(cos\nsystem\n" + text(line) + b"\x85}Ntb)R",
        r"names 'functools\.partial'",
    ),
    "eval": (
        lambda line: b"cbuiltins\neval\n" + text(f"__import__('os').system({line!r})") + b"\x85R",
        r"names 'builtins\.eval'",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["alone", "for the state", "in the state", "deep", "in the optimizer"])
def test_nothing_that_a_pickle_does_is_executed(tmp_path, name, place):
    (instructions, sentence), canary = HOSTILE[name], tmp_path / "canary"
    attack = Raw(instructions(f"touch {canary}"))
    value = {
        "alone": attack,
        "for the state": {"model_state_dict": attack},
        "in the state": {"model_state_dict": SMALL | {"c": attack}},
        "deep": {"model_state_dict": SMALL | {"c": ([{"d": (1, attack)}],)}},
        "in the optimizer": released(SMALL) | {"optimizer_state_dict": [attack]},
    }[place]
    path = write(tmp_path / "a.pt", value)
    with pytest.raises(
        InputError, match=rf"a\.pt: its pickle (uses the instruction )?{sentence}, which no dict of tensors needs"
    ):
        read(path)
    assert not canary.exists()
    pickle.loads(b"\x80\x02" + attack.code + b".")
    assert canary.exists()  # so that the attack was one


@pytest.mark.parametrize(
    "instructions, sentence",
    [
        (b"ctorch\nFloatStorage\n)R", "calls what is no function of tensors"),
        (text("a") + b")R", "calls what is no function of tensors"),
        (b"ctorch\nDoubleStorage\n", r"names 'torch\.DoubleStorage'"),
        (b"ctorch._utils\n_rebuild_tensor_v3\n", r"names 'torch\._utils\._rebuild_tensor_v3'"),
        (b"}}b", "sets attributes of what is no OrderedDict"),
        (b"c" + 200 * b"m" + b"\nx\n", "names 'm{80}'"),
        (b"ccollections\nOrderedDict\n)\x81", "uses the instruction NEWOBJ"),
        (b"\x82\x01", "uses the instruction EXT1"),
        (b"Pid\n", "uses the instruction PERSID"),
    ],
)
def test_what_is_not_on_the_lists_is_refused(tmp_path, instructions, sentence):
    with pytest.raises(InputError, match=f"its pickle {sentence}, .*; nothing of it is executed."):
        read(write(tmp_path / "a.pt", {"a": Raw(instructions)}))


def test_the_reader_imports_neither_torch_nor_pickle():
    nodes = [node for module in READER for node in ast.walk(ast.parse(Path(module.__file__).read_text()))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert "pickletools" in names and not {one.split(".")[0] for one in names} & {"torch", "pickle", "_pickle", "dill"}


FOUR = np.arange(4, dtype=np.float32)
UNSOUND = "does not lie in its storage of 4 values"


@pytest.mark.parametrize(
    "tensor, sentence",
    [
        (Claim(FOUR, (10**12,), (1,)), UNSOUND),
        (Claim(FOUR, (10**9, 10**9), (0, 0)), UNSOUND),  # an expanded one: little in the file, much in memory
        (Claim(FOUR, (2**600,), (0,)), UNSOUND),
        (Claim(FOUR, (2, 2), (3, 1)), UNSOUND),  # places 0, 1, 3 and 4
        (Claim(FOUR, (2,), (-1,), offset=3), UNSOUND),
        (Claim(FOUR, (4,), (1,), offset=1), UNSOUND),
        (Claim(FOUR, (4,), (1,), offset=-1), UNSOUND),
        (Claim(FOUR, (0,), (1,)), UNSOUND),
        (Claim(FOUR, (-1, -4), (1, 1)), UNSOUND),
        (Claim(FOUR, (1,) * 9, (1,) * 9), "has 9 sides and 9 strides; up to 8 are allowed"),
        (Claim(FOUR, (2, 2), (1,)), "has 2 sides and 1 strides"),
        (Claim(FOUR, (4,), (1,), count=5), r"needs 5 values of float32 in 'name/data/0', which has 16 bytes"),
        (Claim(FOUR, (4,), (1,), count=2**62), "which has 16 bytes"),
        (Claim(FOUR, (4,), (1,), count=-4), "is cut off or damaged"),
        (Claim(FOUR, (4.0,), (1,)), "is cut off or damaged"),
        (Claim(FOUR, [4], [1]), "is cut off or damaged"),
        (3, "'a' is no tensor"),
        (SMALL, "'a' is no tensor"),
    ],
)
def test_tensors_that_do_not_lie_in_the_file_are_refused(tmp_path, tensor, sentence):
    with pytest.raises(InputError, match=sentence):
        read(write(tmp_path / "a.pt", {"a": tensor}))


def rename(records, old, new):
    records[new] = records.pop(old)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (
            lambda records: records.pop("name/data/0"),
            r"'a' needs 6 values of float32 in 'name/data/0', which has 0 bytes",
        ),
        (lambda records: records.pop("name/data.pkl"), "has 0 records <name>/data.pkl"),
        (lambda records: records.update({"other/data.pkl": b""}), "has 2 records <name>/data.pkl"),
        (lambda records: records.update({"name/data.pkl": bytes(1 << 22 | 1)}), "its data.pkl has 4194305 bytes"),
        (lambda records: records.update({"name/byteorder": b"middle"}), "is cut off or damaged"),
        (lambda records: records.update({"name/data.pkl": b"\x80\x02."}), "is cut off or damaged"),
        (lambda records: records.update({"name/data.pkl": b"\x80\x02}"}), "is cut off or damaged"),
        (lambda records: records.update({"name/data.pkl": b"\x80\x02N."}), "holds no dict"),
        (lambda records: records.update({"name/data.pkl": b"\x80\x02t."}), "is cut off or damaged"),
        (lambda records: records.update({"name/data.pkl": b"\x80\x02h\x07."}), "is cut off or damaged"),
    ],
)
def test_archives_that_lack_something_are_refused(tmp_path, change, sentence):
    with pytest.raises(InputError, match=sentence):
        read(write(tmp_path / "a.pt", SMALL, change=change))


def test_a_name_that_stands_twice_is_refused(tmp_path):
    items = text("a") + b"K\x01" + text("a") + b"K\x02"
    with pytest.raises(InputError, match="'a' stands twice in a dict of it"):
        read(write(tmp_path / "a.pt", Raw(b"}(" + items + b"u")))
    path = write(tmp_path / "b.pt", SMALL)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("name/data/0", bytes(24))
    with pytest.raises(InputError, match="'name/data/0' is in it twice"):
        read(path)


def test_a_zip_bomb_is_refused_before_memory_is_taken(tmp_path):
    path = write(tmp_path / "a.pt", {"a": np.zeros(10**6, np.float32)}, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**5
    with pytest.raises(InputError, match="is compressed; torch.save stores records as they are"):
        read(path)
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("name/data/0", bytes(10**6))
        archive.filelist[0].file_size = archive.filelist[0].compress_size  # as if it were stored
    with pytest.raises(InputError, match="is compressed; torch.save stores records as they are"):
        read(path)
    path = tmp_path / "b.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("name/data/0", bytes(1000))
        for i in range(1, 9):  # nine names for the same thousand bytes
            archive.filelist.append(copy.copy(archive.filelist[0]))
            archive.filelist[-1].filename = f"name/data/{i}"
    with pytest.raises(InputError, match="its records claim 9000 bytes; the file has"):
        read(path)


def test_tuples_that_double_a_hundred_times_take_no_time(tmp_path):
    """Twins of twins: in memory a hundred tuples, printed or hashed 2 ** 100."""
    doubled = b")" + b"q\x00h\x00\x86" * 100
    for value, sentence in (
        (Raw(b"}" + doubled + b"K\x01s"), "damaged"),
        ({"a": Raw(doubled)}, "'a' is no tensor"),
        (Raw(doubled), "holds no dict"),
        ({"a": Raw(b"ctorch._utils\n_rebuild_tensor_v2\n" + doubled + b"R")}, "damaged"),
        ({"a": Raw(doubled + b")R")}, "calls what is no function"),
        ({"a": Raw(b"ccollections\nOrderedDict\n}\x85R")}, "damaged"),  # a dict of a dict, which would double too
    ):
        with pytest.raises(InputError, match=sentence):
            read(write(tmp_path / "a.pt", value))


def test_files_of_another_kind_are_refused(tmp_path):
    legacy, absent = tmp_path / "a.pt", tmp_path / "b.pt"
    legacy.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2))  # as torch wrote before 1.6
    with pytest.raises(
        InputError, match=r"a\.pt: is no zip archive, .* 1\.6; torch.load and torch.save it there again"
    ):
        read(legacy)
    for path in (absent, tmp_path):
        with pytest.raises(InputError, match="there is no such file"):
            read(path)


def test_damage_ends_in_a_sentence(tmp_path, rng):
    """A file cut off anywhere is refused; with any bytes changed it is refused, or read as tensors."""
    whole, path = write(tmp_path / "whole.pt", released(SMALL)).read_bytes(), tmp_path / "a.pt"
    for length in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a\.pt: "):
            read(path)
    storages = {}
    pickled = b"\x80\x02" + code(released(SMALL), storages) + b"."
    for i in range(600):
        changed = bytearray(whole if i % 2 else pickled)
        for place in rng.integers(len(changed), size=rng.integers(1, 4)):
            changed[place] = rng.integers(256)
        if i % 2:
            path.write_bytes(changed)
        else:  # past the checksum of the record
            write(
                path,
                released(SMALL),
                change=lambda records, changed=changed: records.update({"name/data.pkl": bytes(changed)}),
            )
        try:
            assert all(isinstance(one, np.ndarray) and one.size <= 6 for one in read(path).values())
        except InputError as error:
            assert str(error).count("\n") == 0 and len(str(error)) < 2000

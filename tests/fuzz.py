"""Damages the files of a miniature release, one at a time; the same seed gives the same damage.

`DAMAGE` holds, for each kind of file, changes `(rng, data) -> data` of its bytes; `BOMBS` are those after which a small
file claims to be, or becomes, a large one. `damaged` puts a change in place and takes it back.
"""

import csv
import gzip
import io
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

Change = Callable[[np.random.Generator, bytes], bytes]

BOMB = 200 << 20  # bytes that a small file expands to
HUGE, NAN, INF = 1e30, float("nan"), float("inf")
FLOATS = (NAN, INF, -INF, 0.0, -1.0, HUGE, -HUGE, 1e-30, 49.0)
GZIP = b"\x1f\x8b"


def kind_of(path: Path) -> str | None:
    """The kind of damage that a file can take."""
    name = path.name.lower()
    kinds = {"nifti": (".nii", ".nii.gz", ".hdr", ".img"), "table": (".csv", ".tsv"), "dicom": ("im",)}
    kinds["picture"] = (".png", ".jpg", ".jpeg", ".tif")
    return next(
        (kind for kind, ends in kinds.items() if name.endswith(ends) or kind == "dicom" and name.startswith(ends)),
        None,
    )


@contextmanager
def damaged(path: Path, change: Change | str, seed: list[int], everywhere: bool = False) -> Iterator[list[Path]]:
    """The damaged files: `path`, or all its likes in the folder, after `change`, within the block.

    `change` is a function of the bytes, or the name of something that takes the path's place.
    """
    paths = sorted(path.parent.glob(f"*{path.suffix}")) if everywhere else [path]
    paths = [one for one in paths if one.is_file() and kind_of(one) == kind_of(path)]
    whole = [one.read_bytes() for one in paths]
    try:
        for one, data in zip(paths, whole, strict=True):
            if isinstance(change, str):
                _replace(one, change)
            else:
                one.write_bytes(change(np.random.default_rng(seed), data))
        yield paths
    finally:
        for one, data in zip(paths, whole, strict=True):
            _remove(one)
            one.write_bytes(data)


@contextmanager
def file_for_folder(folder: Path, aside: Path) -> Iterator[list[Path]]:
    """An empty file in place of a folder, within the block; the folder waits at `aside`."""
    folder.rename(aside)
    folder.write_bytes(b"")
    try:
        yield [folder]
    finally:
        folder.unlink()
        aside.rename(folder)


@contextmanager
def stray(path: Path) -> Iterator[list[Path]]:
    """Beside `path` its like with another number, which is a folder where it is a file and a file where it is not."""
    start, digit, end = re.fullmatch(r"(.*?)(\d?)(\D*)", path.name).groups()
    names = (path.with_name(f"{start}{other}{end}") for other in "9876543210" if other != digit)
    like = next(name for name in names if not name.exists())
    if path.is_dir():
        like.write_bytes(b"")
    else:
        like.mkdir()
    try:
        yield [like]
    finally:
        _remove(like)


def describe(change: Change | str) -> str:
    """A change in a few words."""
    if isinstance(change, partial):
        values = (describe(value) if callable(value) else f"{value!r:.60}" for value in change.keywords.values())
        return f"{describe(change.func)}({', '.join(values)})"
    return change if isinstance(change, str) else change.__name__.strip("_")


REPLACED = ("absent", "folder", "full folder", "dangling link", "link to itself", "link to its folder")


def _replace(path: Path, by: str) -> None:
    data = path.read_bytes()
    path.unlink()
    if by.endswith("folder") and not by.startswith("link"):
        path.mkdir()
        if by.startswith("full"):
            (path / path.name).write_bytes(data)
    elif by != "absent":
        targets = {"dangling link": "nowhere", "link to itself": path.name, "link to its folder": "."}
        path.symlink_to(targets[by])


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# Any file.


def _empty(rng, data: bytes) -> bytes:
    return b""


def _cut(rng, data: bytes) -> bytes:
    return data[: rng.integers(len(data))]


def _cut_early(rng, data: bytes) -> bytes:
    return data[: rng.integers(min(len(data), 400))]


def _flip(rng, data: bytes, first: int = 0, last: int | None = None) -> bytes:
    """Up to eight bits the other way, in the bytes from `first` to `last`."""
    changed = bytearray(data)
    last = min(last or len(data), len(data))
    for place in rng.integers(first, last, rng.integers(1, 9)) if first < last else ():
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def _noise(rng, data: bytes) -> bytes:
    """Up to 64 bytes in a row that say nothing."""
    start = rng.integers(len(data))
    return data[:start] + rng.bytes(rng.integers(1, 64)) + data[start + 16 :]


def _longer(rng, data: bytes) -> bytes:
    return data + rng.bytes(1000)


def _text(rng, data: bytes) -> bytes:
    return b"404 not found\n"


_BYTES = (_empty, _cut, _cut, _cut_early, _flip, _flip, partial(_flip, last=40), _noise, _noise, _longer, _text)


# NIfTI and Analyze files.

_OFFSETS = {  # of the fields of a header, and their types
    "sizeof_hdr": (0, "i"),
    "dim": (40, "8h"),
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
    "slope": (112, "f"),
    "inter": (116, "f"),
    "codes": (252, "2h"),
    "quaternion": (256, "3f"),
    "shift": (268, "3f"),
    "rows": (280, "12f"),
    "magic": (344, "4s"),
    "extension": (348, "4sii"),
}
_SHAPES = [
    (0,) * 8,
    (-1,) * 8,
    (8, *(2,) * 7),
    (2, 20, 24, 1, 1, 1, 1, 1),
    (3, -20, 24, 16, 1, 1, 1, 1),
    (3, 0, 24, 16, 1, 1, 1, 1),
    (3, *(32767,) * 3, 1, 1, 1, 1),
    (3, 600, 600, 600, 1, 1, 1, 1),
    (3, 500, 500, 20, 1, 1, 1, 1),
    (3, 32767, 1, 1, 1, 1, 1, 1),
    (3, 1, 1, 2, 1, 1, 1, 1),
    (3, 1, 1, 1, 1, 1, 1, 1),
    (4, 2, 2, 2, 2, 1, 1, 1),
    (5, 5, 6, 7, 1, 3, 1, 1),
    (7, *(32767,) * 7),
]
_ROWS = [
    (NAN,) * 12,
    (INF,) * 12,
    (0.0,) * 12,
    (HUGE, 0, 0, 0, 0, HUGE, 0, 0, 0, 0, HUGE, 0),
    (1, 0, 0, HUGE, 0, 1, 0, 0, 0, 0, 1, 0),
    (1, 0, 0, INF, 0, 1, 0, 0, 0, 0, 1, 0),
    (1, 0, 0, NAN, 0, 1, 0, 0, 0, 0, 1, 0),
    (1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0),
    (1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0),
    (1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0),
    (1e-30, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0),
    (49, 0, 0, 0, 0, 49, 0, 0, 0, 0, 49, 0),
    (0.06, 0, 0, 0, 0, 0.06, 0, 0, 0, 0, 0.06, 0),
]
_TYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 255, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, -1, 9999)
_FIELDS = [("dim", shape) for shape in _SHAPES] + [("rows", rows) for rows in _ROWS]
_FIELDS += [("datatype", (kind,)) for kind in _TYPES] + [("bitpix", (bits,)) for bits in (0, -8, 7)]
_FIELDS += [(name, (value,)) for name in ("slope", "inter") for value in (*FLOATS, 3e38, 1e-45)]
_FIELDS += [("vox_offset", (value,)) for value in (*FLOATS, 353.5, 1e9, 1 << 20, 2.0**31)]
_FIELDS += [("pixdim", (first, *(value,) * 7)) for value in FLOATS for first in (1.0, 0.5)]
_FIELDS += [("sizeof_hdr", (size,)) for size in (0, 540, 1543569408)] + [("codes", (0, 0)), ("codes", (99, -3))]
_FIELDS += [("magic", (magic,)) for magic in (b"", b"ni1", b"n+2", b"\xff" * 4)]
_FIELDS += [("extension", (b"\1", size, 6)) for size in (0, -1, 8, 17, 24, 2**31 - 1, -(2**31))]
_TURNS = [("quaternion", (value,) * 3) for value in (0.0, 1.0, NAN, INF, HUGE)] + [("shift", (INF,) * 3)]


def _inside(rng, data: bytes, change: Change) -> bytes:
    """`change` of what a compressed file holds."""
    if data[:2] != GZIP:
        return change(rng, data)
    return gzip.compress(change(rng, gzip.decompress(data)), 1)


def _set(data: bytes, name: str, values: tuple) -> bytes:
    offset, form = _OFFSETS[name]
    order = ">" if data[:4] == struct.pack(">i", 348) else "<"
    field = struct.pack(order + form, *values)
    return data[:offset] + field + data[offset + len(field) :]


def _header(rng, data: bytes, name: str, values: tuple) -> bytes:
    return _set(data, name, values)


def _quaternion(rng, data: bytes, name: str, values: tuple) -> bytes:
    return _set(_set(data, "codes", (1, 0)), name, values)


def _extreme(rng, data: bytes) -> bytes:
    """Voxels from the ends of what 32 or 64 bits hold."""
    wide = rng.random() < 0.5
    data = _set(data, "datatype", (64 if wide else 16,))
    ends = (1e300, -1e300, 1e-300) if wide else (3e38, -3e38, 1e-45)
    return data[:352] + rng.choice([*ends, 0, 1], 2**15).astype("<f8" if wide else "<f4").tobytes()


def _complex(rng, data: bytes) -> bytes:
    """Voxels of complex numbers, as many as the header says."""
    return _set(data, "datatype", (32,))[:352] + rng.random(2**16).astype("<f4").tobytes()


def _rare(rng, data: bytes) -> bytes:
    """Voxels of one value, but for a few."""
    values = np.full(2**15, 7, "<f4")
    values[rng.integers(0, 7000, 3)] = rng.choice([8, 1e6, 1e14])
    return _set(data, "datatype", (16,))[:352] + values.tobytes()


@lru_cache
def _stream(pattern: bytes = b"\0") -> bytes:
    """A small deflated stream that becomes BOMB bytes."""
    return zlib.compress(pattern * (BOMB // len(pattern)), 6, -15)


def _bomb(rng, data: bytes, offset: float, esize: int, size: int, repeat: bool = False) -> bytes:
    """A gzip file of `size` voxels a side that begin at `offset`, zeros, behind an extension that claims `esize` bytes.

    With `repeat` there is nothing but such extensions.
    """
    plain = gzip.decompress(data) if data[:2] == GZIP else data
    header = _set(plain[:348], "dim", (3, size, size, size, 1, 1, 1, 1))
    header = _set(_set(header, "vox_offset", (offset,)), "extension", (b"\1" if esize else b"", esize, 6))
    rest = _stream(struct.pack("<ii8x", esize, 6)) if repeat else _stream()
    first = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = first.compress(header[:352] if repeat else header) + first.flush(zlib.Z_FULL_FLUSH)
    return GZIP + b"\x08\0\0\0\0\0\0\xff" + start + rest + bytes(8)  # the checksum is wrong, but comes last


_NIFTI_BOMBS = [
    partial(_bomb, offset=352.0, esize=0, size=8),
    partial(_bomb, offset=352.0, esize=0, size=128),
    partial(_bomb, offset=1e9, esize=2**30, size=8),
    partial(_bomb, offset=1e9, esize=150 << 20, size=8),
    partial(_bomb, offset=1e9, esize=-1, size=8),
    partial(_bomb, offset=1e9, esize=16, size=8, repeat=True),
    partial(_bomb, offset=0.0, esize=16, size=8, repeat=True),
]
_NIFTI = [partial(_header, name=name, values=values) for name, values in _FIELDS]
_NIFTI += [partial(_quaternion, name=name, values=values) for name, values in _TURNS]
_NIFTI += [_extreme] * 4 + [_rare] * 3 + [_complex] + [partial(_flip, last=352)] * 12 + [_flip] * 3 + [_cut] * 2


# Pictures.

_PNG = b"\x89PNG\r\n\x1a\n"
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I", "F", "CMYK", "YCbCr", "HSV")
_FORMATS = ("PNG", "TIFF", "JPEG", "GIF", "BMP", "PPM", "EPS", "WEBP")
_CLAIMS = ((60000, 60000), (9500, 10000), (2048, 2048), (0, 0), (1, 1), (2**31 - 1, 1))


def _mode(rng, data: bytes, mode: str) -> bytes:
    """The picture in another mode, as PNG, TIFF or JPEG where these can hold it."""
    with Image.open(io.BytesIO(data)) as image:
        grey = image.convert("L")
        other = image.convert("RGB").convert(mode) if mode != "I;16" else Image.fromarray(np.asarray(grey, np.uint16))
        return next(kept for kept in (_saved(other, form) for form in (image.format, *_FORMATS)) if kept)


def _format(rng, data: bytes, form: str) -> bytes:
    """The picture in a format that its name does not say."""
    with Image.open(io.BytesIO(data)) as image:
        return _saved(image.convert("RGB"), form) or data


def _saved(image: Image.Image, form: str) -> bytes:
    kept = io.BytesIO()
    try:
        image.save(kept, form)
    except (OSError, ValueError, KeyError):
        return b""
    return kept.getvalue()


def _side(rng, data: bytes, size: tuple[int, int]) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return _saved(image.resize(size), image.format)


def _as_png(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        return _saved(image, "PNG")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _claim(rng, data: bytes, size: tuple[int, int]) -> bytes:
    """A PNG file whose header says that it has another size."""
    data = _as_png(data)
    return _PNG + _chunk(b"IHDR", struct.pack(">II", *size) + data[24:29]) + data[33:]


def _claim_jpeg(rng, data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        data = _saved(image.convert("RGB"), "JPEG")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", 60000, 60000) + data[place + 4 :]


def _picture_bomb(rng, data: bytes, name: bytes) -> bytes:
    """A PNG file of the right size, one chunk of which inflates to much more than it needs."""
    data = _as_png(data)
    zeros = b"\x78\xda" + _stream() + bytes(4)
    front = {b"IDAT": b"", b"zTXt": b"k\0\0", b"iCCP": b"k\0\0", b"iTXt": b"k\0\1\0\0\0"}[name]
    rest = data[33:] if name != b"IDAT" else _chunk(b"IEND", b"")
    return data[:33] + _chunk(name, front + zeros) + rest


_PICTURES = [partial(_mode, mode=mode) for mode in _MODES] + [partial(_format, form=form) for form in _FORMATS]
_PICTURES += [partial(_side, size=size) for size in ((1, 1), (2049, 1), (3, 50))] + [_claim_jpeg]
_PICTURES += [partial(_claim, size=size) for size in _CLAIMS] + [partial(_flip, last=200)] * 6
_PICTURE_BOMBS = [partial(_picture_bomb, name=name) for name in (b"IDAT", b"zTXt", b"iCCP", b"iTXt")]


# Tables.

PLACES = ("../../../../../../etc/passwd", "/etc/passwd", "/etc", "/dev/null", "/dev/zero", ".", "..", "~", "\\")
_CELLS = (
    *(*PLACES, "", " "),
    *("a\0b", "x" * 300, "x" * 100_000, "x" * 200_000, "9" * 5000, "ses-M" + "9" * 5000, "a\nb", "a\r\nb", '"', "''"),
    *("nan", "-1", "1e999", "%s%d", "{0}", "\u202eabc", "\u0663", "=1+1", "AD", "CN", "healthy", "n/a", "I"),
    *("1,1,1", "1e999,1,1", "nan,1,1", "0,0,0"),
)


def _rows(rng, data: bytes, change) -> bytes:
    """`change(rng, rows)` of a table's rows, the header among them."""
    text, kept = data.decode("utf-8-sig"), io.StringIO()
    delimiter = "\t" if "\t" in text else ","
    rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    csv.writer(kept, delimiter=delimiter, lineterminator="\n").writerows(change(rng, rows))
    return kept.getvalue().encode()


def _cell(rng, rows: list[list[str]], text: str, header: bool = False) -> list[list[str]]:
    """`text` in place of one cell."""
    row = rows[0 if header else rng.integers(1, len(rows))]
    row[rng.integers(len(row))] = text
    return rows


def _column(rng, rows: list[list[str]], text: str) -> list[list[str]]:
    """`text` in place of every cell of a column."""
    place = rng.integers(len(rows[0]))
    return [rows[0], *([*row[:place], text, *row[place + 1 :]] for row in rows[1:])]


def _reworded(rng, data: bytes, words: tuple[str, ...]) -> bytes:
    """What a table holds, in other characters, or bytes that are none."""
    text = data.decode("utf-8-sig")
    first, second = words
    return text.replace(first, second).encode("utf-8")


def _insert(rng, data: bytes, what: bytes) -> bytes:
    place = rng.integers(len(data))
    return data[:place] + what + data[place:]


def _encoded(rng, data: bytes, name: str) -> bytes:
    return (data.decode("utf-8-sig") + "é").encode(name)


def _header_quote(rng, data: bytes) -> bytes:
    """Quotation marks around the header's last name and the whole of the next line."""
    first, second, rest = data.split(b"\n", 2)
    place = max(first.rfind(b","), first.rfind(b"\t")) + 1
    return first[:place] + b'"' + first[place:] + b"\n" + second + b'"\n' + rest


_ROW_CHANGES = [partial(_cell, text=text) for text in _CELLS for _ in range(2)]
_ROW_CHANGES += [partial(_cell, text=text, header=True) for text in ("", "x", "a\nb", "split", "patient", "x" * 300)]
_ROW_CHANGES += [partial(_column, text=text) for text in ("", "x", "..", "1")]
_ROW_CHANGES += [
    lambda rng, rows: rows[:1],
    lambda rng, rows: rows[1:],
    lambda rng, rows: rows * 2,
    lambda rng, rows: [*rows, rows[-1]],
    lambda rng, rows: [rows[0], [], [], *rows[1:]],
    lambda rng, rows: [[*row, "more", "and more"] for row in rows],
    lambda rng, rows: [rows[0], *([*row, "more"] for row in rows[1:])],
    lambda rng, rows: [rows[0], *(row[: rng.integers(len(row))] for row in rows[1:])],
    lambda rng, rows: [row + row for row in rows],
    lambda rng, rows: [row[1:] for row in rows],
]
_TABLES = [partial(_rows, change=change) for change in _ROW_CHANGES]
_TABLES += [partial(_insert, what=what) for what in (b"\0", b"\xff\xfe", b'"', b"\r", b"\xe9", b'"', b'"\n"', b"\n\n")]
_TABLES += [partial(_encoded, name=name) for name in ("utf-16", "latin-1", "utf-8-sig", "utf-32")]
_TABLES += [partial(_reworded, words=words) for words in (("\n", "\r"), (",", ";"), ("\n", "\r\n"), ("_", " "))]
_TABLES += [_header_quote] * 2  # one for each half


# DICOM files.

_TAGS = {
    (0x28, 0x10): [struct.pack("<H", value) for value in (0, 1, 65535)],
    (0x28, 0x11): [struct.pack("<H", value) for value in (0, 65535)] + [b""],
    (0x28, 0x02): [struct.pack("<H", value) for value in (0, 3)],
    (0x28, 0x04): [b"RGB ", b"PALETTE COLOR ", b"\xff\xff"],
    (0x28, 0x100): [struct.pack("<H", value) for value in (0, 1, 7, 8, 32, 64, 65535)] + [b"", b"\1"],
    (0x28, 0x101): [struct.pack("<H", value) for value in (0, 17, 65535)],
    (0x28, 0x103): [struct.pack("<H", value) for value in (0, 9)],
    (0x28, 0x30): [
        b"1e300\\1e300 ",
        b"1e9\\1e9 ",
        b"nan\\1 ",
        b"inf\\1 ",
        b"-8\\8",
        b"0\\0 ",
        b"8 ",
        b"8\\8\\8 ",
        b"",
        b"x\\y ",
    ],
    (0x20, 0x32): [b"1e200\\0\\0 ", b"1e308\\-1e308\\1e308 ", b"1e16\\0\\0", b"inf\\0\\0 ", b"0\\0 ", b"0\\0\\0 ", b""],
    (0x20, 0x37): [b"1e200\\0\\0\\0\\1\\0", b"0\\0\\0\\0\\0\\0 ", b"nan\\0\\0\\0\\1\\0 ", b"1\\0\\0\\0\\1\\0 ", b"1 "],
    (0x28, 0x1053): [b"1e308 ", b"-1e308", b"nan ", b"0 ", b"x ", b"1\\2 "],
    (0x28, 0x1052): [b"1e308 ", b"inf "],
    (0x20, 0x0E): [b"", b"x ", b"\xff\xfe"],
    (0x02, 0x10): [b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2 ", b"1.2.840.10008.1.2.2 ", b"1.2.3 ", b""]
    + [b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.5 ", b"1.2.840.10008.1.2.4.90"],
    (0x7FE0, 0x10): [b"", b"\1\2", bytes(2000)],
}


def _find(data: bytes, tag: tuple[int, int]) -> tuple[int, int, int]:
    """Where an element begins, where its value does and where it ends."""
    place = data.index(struct.pack("<HH", *tag), 132)
    wide = data[place + 4 : place + 6] in (b"OB", b"OW", b"SQ", b"UN")
    start = place + (12 if wide else 8)
    length = struct.unpack("<I" if wide else "<H", data[place + 8 : start] if wide else data[place + 6 : start])[0]
    return place, start, start + length


def _value(rng, data: bytes, tag: tuple[int, int], value: bytes) -> bytes:
    place, start, end = _find(data, tag)
    length = struct.pack("<H" if start == place + 8 else "<I", len(value))
    return data[: start - len(length)] + length + value + data[end:]


def _lacking(rng, data: bytes, tag: tuple[int, int]) -> bytes:
    place, _, end = _find(data, tag)
    return data[:place] + data[end:]


def _twice(rng, data: bytes) -> bytes:
    place, _, end = _find(data, list(_TAGS)[rng.integers(len(_TAGS))])
    return data[:end] + data[place:end] + data[end:]


def _wrong_length(rng, data: bytes) -> bytes:
    place, start, _ = _find(data, list(_TAGS)[rng.integers(len(_TAGS))])
    return data[: start - 2] + rng.bytes(2) + data[start:]


def _long_value(rng, data: bytes, tag: tuple[int, int], kind: bytes, length: int) -> bytes:
    """An element that claims to be long, after the file's own transfer syntax or before its rows."""
    place = _find(data, (0x02, 0x10))[2] if tag[0] == 2 else _find(data, (0x28, 0x10))[0]
    return data[:place] + struct.pack("<HH2sHI", *tag, kind, 0, length) + data[place:]


def _deflated(rng, data: bytes) -> bytes:
    """The file as a deflated one of zeros."""
    data = _value(rng, data, (0x02, 0x10), b"1.2.840.10008.1.2.1.99")
    return data[: _find(data, (0x02, 0x10))[2]] + _stream()


def _nested(rng, data: bytes) -> bytes:
    """Sequences within sequences, too many to follow."""
    place = _find(data, (0x28, 0x10))[0]
    one = struct.pack("<HH2sHIHHI", 0x28, 0x09, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    return data[:place] + one * 3000 + data[place:]


_DICOM = [partial(_value, tag=tag, value=value) for tag, values in _TAGS.items() for value in values]
_DICOM += [partial(_lacking, tag=tag) for tag in _TAGS] + [_twice, _twice, *[_wrong_length] * 6, _nested]
_LONG_VALUES = [
    partial(_long_value, tag=(group, 0x9999), kind=kind, length=length)
    for group in (0x02, 0x27)
    for kind in (b"OB", b"UN", b"SQ")
    for length in (0xFFFFFFF0, 0xFFFFFFFF, 1 << 30)
]
_DICOM += [partial(_flip, last=900)] * 8

DAMAGE: dict[str, list[Change]] = {
    "nifti": [*_BYTES, *(partial(_inside, change=change) for change in _NIFTI)],
    "picture": [*_BYTES, *_PICTURES],
    "table": [*_BYTES, *_TABLES],
    "dicom": [*_BYTES, *_DICOM],
}
BOMBS: dict[str, list[Change]] = {
    "nifti": _NIFTI_BOMBS,
    "picture": _PICTURE_BOMBS,
    "dicom": [_deflated, *_LONG_VALUES],
}

"""A release of drawn heads on disk, with the truth that must come back, and what its writers share."""

import csv
import io
import unicodedata
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scans import Head, draw_head, mask_values, nifti


class Person(NamedTuple):
    """The scan of one person, as it must come back."""

    name: str  # patient, or patient/session
    head: Head
    standing: str  # healthy, abnormal or unlabelled
    lesion: np.ndarray | None = None  # [X, Y, Z] bool; None where the source has no mask of it
    brain: bool = False  # there is a mask of the brain
    near: float = 1.5  # by which values of the image may be off


class Release(NamedTuple):
    """A release on disk. `parts` are the files of its last person, who is ill or the like of it, by what they are."""

    source: str
    root: Path
    people: list[Person]
    parts: dict[str, list[Path]]  # image, lesion, brain: NIfTI; slices, drawn: pictures; series; table
    options: dict = {}
    brain: str = "file"  # data.brain


def two(rng, **kinds) -> list[Head]:
    """A head without a lesion and one with."""
    return [draw_head(rng, ill=False, **kinds), draw_head(rng, **kinds)]


def ending(rng) -> str:
    return rng.choice([".nii", ".nii.gz"])


def write_rows(rng, path: Path, rows: list[list], delimiter: str = ",") -> list[Path]:
    """Write a table as one of the programs does that people use: with a byte order mark, CRLF, quotation marks."""
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if rng.random() < 0.3 else csv.QUOTE_MINIMAL
    lines = rng.choice(["\n", "\r\n"])
    csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=lines).writerows(rows)
    path.write_bytes(text.getvalue().encode(rng.choice(["utf-8", "utf-8-sig"])))
    return [path]


def written(rng, name: str) -> str:
    """A name as this or that file system writes its umlauts."""
    return unicodedata.normalize(rng.choice(["NFC", "NFD"]), name)


def masks_of(rng, folder: Path, head: Head, brain: bool = True) -> dict[str, Path]:
    kinds = {"lesion": head.lesion} | ({"brain": head.brain} if brain else {})
    ends = {kind: f"{kind} {ending(rng)}" for kind in kinds}
    return {kind: nifti(rng, folder / ends[kind], mask_values(rng, mask), head.affine) for kind, mask in kinds.items()}

"""What the words of ADNI's tables and folders say of a person.

MCI, be it early or late, stable or progressive, and a subjective complaint (SMC) are neither healthy nor dementia: the
option `mci` decides. A normal visit (CN) of someone who is MCI or AD at another is left out with `mci="drop"`, and else
scored and not judged.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from symnorm_jax.data.sources.listing import refuse

CHOICES = ("abnormal", "drop", "keep")  # what becomes of MCI; kept, it is scored and not judged
WORDS = {
    "CN": ("CN", "NC", "NL", "NORMAL", "CONTROL"),
    "MCI": ("MCI", "EMCI", "LMCI", "SMCI", "PMCI", "SMC", "CI"),
    "AD": ("AD", "DEMENTIA"),
}


class Visit(NamedTuple):
    """A visit whose images were found, and what is known of it."""

    patient: str
    session: str
    word: str  # the diagnosis as it is written, or nothing
    files: tuple[str, ...]  # one NIfTI file, or slices
    groups: dict[str, str]
    split: str = ""


def kind_of(word: str) -> str | None:
    """Return `CN`, `MCI` or `AD`; None for a word that says none of them, such as `Patient`."""
    return next((kind for kind, words in WORDS.items() if word.strip().upper() in words), None)


def standing(kind: str | None, of_person: set[str], mci: str) -> str | None:
    """Return a scan's standing by its `kind` and the person's kinds at all listed visits; None to leave it out."""
    if kind == "AD":
        return "abnormal"
    if kind == "CN" and of_person == {"CN"}:
        return "healthy"
    if kind is None or mci == "drop":
        return None
    return "abnormal" if kind == "MCI" and mci == "abnormal" else "unlabelled"


def kinds_of(rows: Iterable[dict[str, str]], person: str, word: str) -> dict[str, set[str]]:
    """Collect what each person is at all visits: kinds, and words that say none, by the columns of both."""
    kinds = defaultdict(set)
    for row in rows:
        kinds[row[person]] |= {kind_of(row[word]) or row[word]} - {""}
    return kinds


def by_visit(rows: Iterable[tuple[Path, dict]], name: Callable[[dict], str], same: dict[str, Callable]) -> dict:
    """Return the row of each visit that has a `name`; ScanError where the meanings of the columns `same` differ."""
    found = {}
    for path, row in rows:
        visit = name(row)
        if not visit:
            continue
        for column, meaning in same.items():
            here, other = row[column], found.get(visit, row)[column]
            two = f"the {column} of {visit} is {here!r}, elsewhere {other!r}; one is allowed"
            refuse(path, meaning(other) != meaning(here), two)
        found[visit] = row
    return found

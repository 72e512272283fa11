"""What the name of a file and the table of scans tell: contrast, age, sex, site; and what training had not."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np

from symnorm_jax.data.targets import UNKNOWN

WORDS = {  # of file names, in lower case, that tell a contrast
    "t1": "t1|t1w|t1n|mprage|mpr|bravo|spgr",
    "t1 after contrast": "t1c|t1ce|t1gd|gd|gadolinium|postcontrast",
    "t2": "t2|t2w|tse",
    "flair": "flair|t2f",
    "pd": "pd|pdw",
    "diffusion": "dwi|adc|dti",
    "susceptibility": "swi|t2star|t2starw",
}
HIDDEN = {"t1 after contrast": "t1", "flair": "t2"}  # names of the one often have a word of the other
SEXES = {"male": "M", "m": "M", "female": "F", "f": "F"}  # in any case; another word is a sex of its own
PEOPLE = ("age", "sex", "site")  # columns of a table, in any case


class About(NamedTuple):
    """What is known of a scan beside its voxels."""

    name: str  # of its file, with the folder
    groups: Mapping[str, Any]  # of its person, by the columns of a table
    brain_from: str  # the kind of its brain mask


def said(text: str) -> list[str]:
    """List the contrasts of which a text has a word."""
    words = re.split("[^a-z0-9]+", text.lower())
    found = {kind for kind, known in WORDS.items() if any(re.fullmatch(known, word) for word in words)}
    return sorted(found - {HIDDEN[kind] for kind in found if kind in HIDDEN})


def said_of(path: str) -> list[str]:
    """List the contrasts that the name of a file tells, or else that of its folder."""
    return said(PurePath(path).name) or said(PurePath(path).parent.name)


def usual(sources: list[str]) -> list[str]:
    """List the contrasts that most names of training scans tell; none where most tell none."""
    counts = Counter(kind for source in sources for kind in said_of(source))
    return sorted(kind for kind, count in counts.items() if count > len(sources) / 2)


def people_of(everybody: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum up people by their groups: `age`, its 1st and 99th percentile to a whole year; the `sex`es and `site`s.

    What is told of nobody is left out.
    """
    known = [of_person(groups) for groups in everybody]
    found = {name: sorted({one[name] for one in known if name in one}) for name in PEOPLE}
    if found["age"]:
        low, high = np.percentile([one["age"] for one in known if "age" in one], [1, 99])
        found["age"] = [int(np.floor(low)), int(np.ceil(high))]
    return {name: values for name, values in found.items() if values}


def of_person(groups: Mapping[str, Any]) -> dict[str, float | str]:
    """Read age, sex and site of the cells of a table; what is blank, unknown or no number of years is left out."""
    cells = {name.lower(): str(cell).strip() for name, cell in groups.items()}
    found = {name: cells[name] for name in PEOPLE if cells.get(name, "").lower() not in UNKNOWN}
    if "sex" in found:
        found["sex"] = SEXES.get(found["sex"].lower(), found["sex"])
    if "age" in found:
        found["age"] = _number(found["age"])
    return {name: value for name, value in found.items() if value is not None}


def doubts(about: About, reference: Mapping[str, Any]) -> dict[str, str]:
    """Say what is told of a scan that training had not, `{kind: sentence}`."""
    contrast, person, known, found = said_of(about.name), of_person(about.groups), reference["told"], {}
    if contrast and reference["contrast"] and not set(contrast) & set(reference["contrast"]):
        kinds = ", ".join(contrast), ", ".join(reference["contrast"])
        found["name"] = "the name of the scan says {}, the model is of {}".format(*kinds)
    if {"age"} <= person.keys() & known.keys() and not known["age"][0] <= person["age"] <= known["age"][1]:
        found["age"] = "age {:g}; {} to {} is the range of training".format(person["age"], *known["age"])
    for kind in ("sex", "site"):
        if kind in person and kind in known and person[kind] not in known[kind]:
            found[kind] = f"{kind} {person[kind]!r}; training had {', '.join(known[kind])}"
    return found


def _number(text: str) -> float | None:
    try:
        return float(text) if np.isfinite(float(text)) else None
    except ValueError:
        return None

"""What was prepared: a cohort as tables, in Markdown and for the terminal, from nothing but the manifest.

A table is a list of lines, its header first. Names come from files and are written so that they cannot be taken for
markup.
"""

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from symnorm_jax.data import manifest

Tables = dict[str, list[list]]  # by title
LABELS = ("healthy", "abnormal", "neither", manifest.UNLABELLED)
LISTED = 50  # lines of a table that are shown; the rest stands in the manifest
VALUES = 8  # of a group that are named


def tables(rows: pd.DataFrame, train_on: str, noun: str) -> Tables:
    """All there is to say of the manifest `rows` of slices or volumes: scans, splits, groups, mid-lines, exclusions."""
    used = rows[rows.split != "excluded"]
    made = {"Scans": _scans(rows, used, noun), "Splits": _splits(used, train_on, noun), "Groups": _groups(used)}
    visits, excluded = _visits(used), rows[rows.split == "excluded"]
    return made | {
        "Mid-lines": _midlines(used),
        "Flagged mid-lines": _listed(visits[visits.flag != ""], "flag"),
        "Exclusions": _listed(excluded, "exclusion"),
    }


def markdown(title: str, made: Tables, notes: list[str]) -> str:
    """A page of Markdown: the sentences `notes`, then every table under its title."""
    page = [f"# {_escaped(title)}", *notes]
    for name, lines in made.items():
        header, *body = _shown(lines)
        marked = [header, ["---"] * len(header), *body]
        page += [f"## {name}", "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in marked)]
        page[-1:] = page[-1:] if body else ["None."]
    return "\n\n".join(page) + "\n"


def show(made: Tables, notes: list[str]) -> None:
    """The same on the terminal; tables without lines are left out."""
    console = Console()
    for name, lines in made.items():
        header, *body = _shown(lines)
        if not body:
            continue
        drawn = Table(*header, title=name, title_justify="left")
        for line in body:
            drawn.add_row(*map(Text, line))
        console.print(drawn)
    for note in notes:
        console.print(Text(_plain(note)), soft_wrap=True)


def _scans(rows: pd.DataFrame, used: pd.DataFrame, noun: str) -> list[list]:
    visits, excluded = _visits(used), int((rows.split == "excluded").sum())
    header = ["found", "used", "excluded", "flagged", "patients", f"{noun}s", f"{noun}s left out for too little brain"]
    flagged, left_out = int((visits.flag != "").sum()), int(visits.slices_left_out.sum())
    found = len(visits) + excluded
    return [header, [found, len(visits), excluded, flagged, used.patient.nunique(), len(used), left_out]]


def _splits(used: pd.DataFrame, train_on: str, noun: str) -> list[list]:
    labels = [label for label in LABELS if (used.label == label).any()]
    header = ["split", "patients", "scans", *(f"{label} {noun}s" for label in labels), "trained on"]
    learned = manifest.trainable(used, train_on)
    parts = {split: used[used.split == split] for split in _names(used)} | {"all": used}
    return [header] + [
        [split, part.patient.nunique(), len(_visits(part))]
        + [int((part.label == label).sum()) for label in labels]
        + [int(learned[part.index].sum())]
        for split, part in parts.items()
    ]


def _groups(used: pd.DataFrame) -> list[list]:
    """Every column that a source has added: patients by value, or the median and range over scans of a measure."""
    splits = _names(used)
    names = manifest.group_columns(used)
    visits = {split: _visits(used[used.split == split]) for split in splits}
    body = [[name, *(_group(part, name, _measured(used[name])) for part in visits.values())] for name in names]
    return [["group", *splits], *body]


def _measured(values: pd.Series) -> bool:
    """Whether a group is a measure, such as age, and no choice of a few names: numbers, and many of them."""
    known = values[values.astype(str).str.strip().ne("") & values.notna()]
    numbers = pd.to_numeric(known, errors="coerce")
    return len(known) > 0 and bool(np.isfinite(numbers).all()) and known.nunique() > VALUES


def _group(part: pd.DataFrame, name: str, measured: bool) -> str:
    values = part[name].fillna("").astype(str).str.strip()
    unknown = part.patient[values == ""].nunique()
    ends = [f"unknown {unknown}"] if unknown else []
    if measured:
        numbers = pd.to_numeric(values[values != ""])
        spread = [f"{numbers.median():.4g} ({numbers.min():.4g}–{numbers.max():.4g})"] if len(numbers) else []
        return ", ".join(spread + ends)
    counts = part.patient[values != ""].groupby(values).nunique().sort_values(ascending=False, kind="stable")
    shown = [f"{value} {count}" for value, count in counts.head(VALUES).items()]
    rest = [f"{len(counts) - VALUES} more values"] if len(counts) > VALUES else []
    return ", ".join(shown + rest + ends)


def _midlines(used: pd.DataFrame) -> list[list]:
    visits = _visits(used)
    measures = {
        "tilt, degrees": np.hypot(visits.roll, visits.yaw),
        "off centre, mm": visits.off_centre_mm.abs(),
        "likeness to the mirror image": visits.mirror_similarity,
    }
    body = [[name, *(f"{x:.3g}" for x in (m.median(), m.min(), m.max()))] for name, m in measures.items()]
    return [["measure", "median", "least", "most"], *body]


def _listed(rows: pd.DataFrame, column: str) -> list[list]:
    return [["patient", "session", "reason"], *rows[["patient", "session", column]].values.tolist()]


def _visits(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a scan."""
    return rows.drop_duplicates(["patient", "session"])


def _names(used: pd.DataFrame) -> list[str]:
    return [split for split in (*manifest.SPLITS, manifest.UNLABELLED) if (used.split == split).any()]


def _shown(lines: list[list]) -> list[list[str]]:
    """The lines as text, the first LISTED of them."""
    header, *body = [[_plain(cell) for cell in line] for line in lines]
    rest = [[f"and {len(body) - LISTED} more", *[""] * (len(header) - 1)]] if len(body) > LISTED else []
    return [header, *body[:LISTED], *rest]


def _plain(cell) -> str:
    """A cell as text in which nothing steers a terminal."""
    text = f"{cell:,}" if isinstance(cell, int) else str(cell)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    for letter, shown in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("*", "\\*"), ("`", "\\`"), ("[", "\\[")):
        text = text.replace(letter, shown)
    return text

"""What was prepared: a cohort as tables, in Markdown and for the terminal, from nothing but the manifest."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from rich.console import Console
from rich.text import Text

from symnorm_jax.data import manifest
from symnorm_jax.report.table import Table, markdown_text, printable

LABELS = ("healthy", "abnormal", "neither", manifest.UNLABELLED)
LISTED = 50  # rows of a table that are shown; the rest stands in the manifest
VALUES = 8  # of a group that are named


def tables(rows: pd.DataFrame, train_on: str, noun: str) -> list[Table]:
    """Tell all there is of the manifest `rows` of slices or volumes: scans, splits, groups, mid-lines, exclusions."""
    used, excluded = rows[rows.split != "excluded"], rows[rows.split == "excluded"]
    splits = {split: used[used.split == split] for split in (*manifest.SPLITS, manifest.UNLABELLED)}
    splits = {split: part for split, part in splits.items() if len(part)}
    visits = _visits(used)
    return [
        _scans(used, len(excluded), noun),
        _splits(used, splits, train_on, noun),
        _groups(used, splits),
        _midlines(visits),
        _reasons("Flagged mid-lines", visits[visits.flag != ""], "flag"),
        _reasons("Exclusions", excluded, "exclusion"),
    ]


def markdown(title: str, found: Iterable[Table] | dict[str, list[list]], notes: list[str]) -> str:
    """Write a page of Markdown: the sentences `notes`, then every table under its caption."""
    page = [f"# {markdown_text(title)}", *notes]
    for table in _shortened(found):
        page += [f"## {table.caption}", table.markdown() if table.rows else "None."]
    return "\n\n".join(page) + "\n"


def show(found: Iterable[Table] | dict[str, list[list]], notes: list[str]) -> None:
    """Print the tables that have rows, and then the sentences `notes`."""
    console = Console()
    for table in _shortened(found):
        table.print(console)
    for note in notes:
        console.print(Text(printable(note)), soft_wrap=True)


def _shortened(found: Iterable[Table] | dict[str, list[list]]) -> list[Table]:
    """Tables, or what `{caption: [header, *rows]}` says, with the first LISTED of their rows."""
    made = (
        [Table(name, lines[0], lines[1:]) for name, lines in found.items()] if isinstance(found, dict) else list(found)
    )
    for place, table in enumerate(made):
        if (rest := len(table.rows) - LISTED) > 0:
            last = [f"and {rest:,} more", *[""] * (len(table.header) - 1)]
            made[place] = table._replace(rows=[*table.rows[:LISTED], last])
    return made


def _scans(used: pd.DataFrame, excluded: int, noun: str) -> Table:
    visits = _visits(used)
    header = ["found", "used", "excluded", "flagged", "patients", f"{noun}s", f"{noun}s left out for too little brain"]
    flagged, left_out = int((visits.flag != "").sum()), int(visits.slices_left_out.sum())
    found = [len(visits) + excluded, len(visits), excluded, flagged]
    return Table("Scans", header, [[*found, used.patient.nunique(), len(used), left_out]])


def _splits(used: pd.DataFrame, splits: dict[str, pd.DataFrame], train_on: str, noun: str) -> Table:
    labels = [label for label in LABELS if (used.label == label).any()]
    learned = manifest.trainable(used, train_on)
    rows = [
        [split, part.patient.nunique(), len(_visits(part))]
        + [int((part.label == label).sum()) for label in labels]
        + [int(learned[part.index].sum())]
        for split, part in (splits | {"all": used}).items()
    ]
    return Table("Splits", ["split", "patients", "scans", *(f"{x} {noun}s" for x in labels), "trained on"], rows)


def _groups(used: pd.DataFrame, splits: dict[str, pd.DataFrame]) -> Table:
    """Every column that a source has added: patients by value, or the median and range over scans of a measure."""
    parts = [_visits(part) for part in splits.values()]
    names = manifest.group_columns(used)
    rows = [[name, *(_group(part, name, _measured(used[name])) for part in parts)] for name in names]
    return Table("Groups", ["group", *splits], rows)


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


def _midlines(visits: pd.DataFrame) -> Table:
    measures = {
        "tilt, degrees": np.hypot(visits.roll, visits.yaw),
        "off centre, mm": visits.off_centre_mm.abs(),
        "likeness to the mirror image": visits.mirror_similarity,
    }
    ends = {name: (of.median(), of.min(), of.max()) for name, of in measures.items()}
    rows = [[name, *(None if np.isnan(x) else f"{x:.3g}" for x in of)] for name, of in ends.items()]
    return Table("Mid-lines", ["measure", "median", "least", "most"], rows)


def _reasons(caption: str, rows: pd.DataFrame, column: str) -> Table:
    return Table(caption, ["patient", "session", "reason"], rows[["patient", "session", column]].values.tolist())


def _visits(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a scan."""
    return rows.drop_duplicates(["patient", "session"])

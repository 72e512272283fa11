"""What was prepared: a cohort as tables, in Markdown and for the terminal, from nothing but the manifest."""

from collections.abc import Iterable, Iterator

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
    visits = _visits(used)
    flagged, names = visits[visits.flag != ""], (*manifest.SPLITS, manifest.UNLABELLED)
    splits = {name: part for name in names if len(part := used[used.split == name])}
    header = ["found", "used", "excluded", "flagged", "patients", f"{noun}s", f"{noun}s left out for too little brain"]
    scans = [len(visits) + len(excluded), len(visits), len(excluded), len(flagged)]
    measures = {"tilt, degrees": np.hypot(visits.roll, visits.yaw), "off centre, mm": visits.off_centre_mm.abs()}
    measures |= {"likeness to the mirror image": visits.mirror_similarity}
    midlines = [[name, of.median(), of.min(), of.max()] for name, of in measures.items()]
    return [
        Table("Scans", header, [[*scans, used.patient.nunique(), len(used), int(visits.slices_left_out.sum())]]),
        _splits(splits | {"all": used}, train_on, noun),
        _groups(splits, used),
        Table("Mid-lines", ["measure", "median", "least", "most"], midlines),
        _reasons("Flagged mid-lines", flagged, "flag"),
        _reasons("Exclusions", excluded, "exclusion"),
    ]


def markdown(title: str, found: Iterable[tuple], notes: list[str]) -> str:
    """Write a page of Markdown: the sentences `notes`, then every table under its caption."""
    page = [f"# {markdown_text(title)}", *notes]
    for table in _shortened(found):
        page += [f"## {table.caption}", table.markdown() if table.rows else "None."]
    return "\n\n".join(page) + "\n"


def show(found: Iterable[tuple], notes: list[str]) -> None:
    """Print the tables that have rows, and then the sentences `notes`."""
    console = Console()
    for table in _shortened(found):
        table.print(console)
    for note in notes:
        console.print(Text(printable(note)), soft_wrap=True)


def _shortened(found: Iterable[tuple]) -> Iterator[Table]:
    """The tables with the first LISTED of their rows."""
    for table in (Table(*one) for one in found):
        rest = len(table.rows) - LISTED
        last = [[f"and {rest:,} more", *[""] * (len(table.header) - 1)]] if rest > 0 else []
        yield table._replace(rows=table.rows[:LISTED] + last)


def _visits(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates(["patient", "session"])


def _splits(parts: dict[str, pd.DataFrame], train_on: str, noun: str) -> Table:
    labels, rows = [label for label in LABELS if (parts["all"].label == label).any()], []
    for name, part in parts.items():
        marks = [*(part.label == label for label in labels), manifest.trainable(part, train_on)]
        rows.append([name, part.patient.nunique(), len(_visits(part)), *(int(mark.sum()) for mark in marks)])
    header = ["split", "patients", "scans", *(f"{label} {noun}s" for label in labels), "may be trained on"]
    return Table("Splits", header, rows)


def _groups(splits: dict[str, pd.DataFrame], used: pd.DataFrame) -> Table:
    """Every column that a source has added: patients by value, or the median and range over scans of a measure."""
    rows = []
    for name in manifest.group_columns(used):
        known = used[name][used[name].astype(str).str.strip().ne("") & used[name].notna()]
        # A measure, such as age, and no choice of a few names: numbers, and many of them.
        measured = known.nunique() > VALUES and bool(np.isfinite(pd.to_numeric(known, errors="coerce")).all())
        rows.append([name, *(_group(_visits(part), name, measured) for part in splits.values())])
    return Table("Groups", ["group", *splits], rows)


def _group(part: pd.DataFrame, name: str, measured: bool) -> str:
    values = part[name].fillna("").astype(str).str.strip()
    known, unknown = values[values != ""], part.patient[values == ""].nunique()
    if measured:
        numbers = pd.to_numeric(known)
        said = [f"{numbers.median():.4g} ({numbers.min():.4g}–{numbers.max():.4g})"] if len(known) else []
    else:
        counts = part.patient[known.index].groupby(known).nunique().sort_values(ascending=False, kind="stable")
        said = [f"{value} {count}" for value, count in counts.head(VALUES).items()]
        said += [f"{len(counts) - VALUES} more values"] if len(counts) > VALUES else []
    return ", ".join(said + ([f"unknown {unknown}"] if unknown else []))


def _reasons(caption: str, rows: pd.DataFrame, column: str) -> Table:
    return Table(caption, ["patient", "session", "reason"], rows[["patient", "session", column]].values.tolist())

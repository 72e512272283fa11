"""Templates filled with what stands in a run's files: numbers with three decimals, everything else escaped."""

from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
import rich.console
import rich.table
import rich.text

UNDEFINED = "–"
MARKUP = {"\\": "\\\\", "|": "\\|", "*": "\\*", "_": "\\_", "`": "\\`", "[": "\\[", "#": "\\#"}  # of Markdown


class Table(NamedTuple):
    """A table for a page or a card; a cell is text, or a mapping with `value` and perhaps `low`, `high` and `count`."""

    caption: str
    header: list[str]
    rows: list[list]
    marked: tuple[str, ...] = ()  # first cells of the rows that stand out
    notes: tuple[str, ...] = ()  # sentences below it

    def without(self, *columns: str) -> "Table":
        """The table without these columns."""
        kept = [place for place, name in enumerate(self.header) if name not in columns]
        rows = [[row[place] for place in kept] for row in self.rows]
        return self._replace(header=[self.header[place] for place in kept], rows=rows)

    @property
    def defined(self) -> bool:
        """Whether any cell holds a number with its interval or count."""
        return any(isinstance(cell, dict) and cell["value"] is not None for row in self.rows for cell in row)

    def print(self, console=None) -> None:
        """Draw the table on a terminal."""
        drawn = rich.table.Table(*self.header)
        for row in self.rows:
            drawn.add_row(*(rich.text.Text(cell(one)) for one in row))
        (console or rich.console.Console()).print(drawn)


def rendered(name: str, **context) -> str:
    """The template `name` of this folder with `context`; text is escaped for HTML, and a missing name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"number": number, "bounds": bounds, "interval": interval, "cell": cell, "plain": plain}
    return environment.get_template(name).render(**context)


def number(value: float | None) -> str:
    """Three decimals; a dash for what is undefined."""
    return UNDEFINED if value is None or np.isnan(value) else f"{value:.3f}"


def bounds(found: dict) -> str:
    """`(0.731–0.882)`, or nothing where there is no interval."""
    low, high = found.get("low"), found.get("high")
    if low is None or high is None or found.get("value") is None:
        return ""
    return f"({low:.3f} to {high:.3f})" if low < 0 else f"({low:.3f}–{high:.3f})"


def interval(found: dict | None) -> str:
    """`0.824 (0.731–0.882), 14 of 17`, as far as there are bounds and a count."""
    found = found or {}
    shown = " ".join(filter(None, (number(found.get("value")), bounds(found))))
    return ", ".join(filter(None, (shown, found.get("count"))))


def cell(content) -> str:
    """A cell of a Table as text."""
    return interval(content) if isinstance(content, dict) else str(content)


def plain(text) -> str:
    """Text on one line that Markdown shows as it is, once it is escaped for HTML."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(text))
    return "".join(MARKUP.get(letter, letter) for letter in shown)

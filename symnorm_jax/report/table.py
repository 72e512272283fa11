"""One table, written as HTML, Markdown and LaTeX and for the terminal; whatever text stands in it is escaped here."""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup
from rich import table as rich_table
from rich.console import Console
from rich.text import Text

UNDEFINED = "–"
MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {letter: f"\\{letter}" for letter in "\\|*_`[#"})
SPELT = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "²": "$^2$"}
LATEX = str.maketrans({letter: f"\\{letter}" for letter in "&%$#_{}"} | SPELT)


class Table(NamedTuple):
    """A table; a cell is text, a number, None, or a mapping with `value` and perhaps `low`, `high` and `count`.

    None and NaN are shown as a dash, a `value` with three decimals, other numbers with four significant digits.
    """

    caption: str
    header: list[str]
    rows: list[list]
    marked: Collection[str] = ()  # first cells of the rows that stand out
    notes: Collection[str] = ()  # sentences below it

    @property
    def defined(self) -> bool:
        """Tell whether any cell holds a number with its interval or count."""
        return any(isinstance(cell, dict) and cell["value"] is not None for row in self.rows for cell in row)

    def only(self, names: Collection[str]) -> "Table":
        """Keep the columns of these names, in the order in which they stand."""
        kept = [place for place, name in enumerate(self.header) if name in names]
        rows = [[row[place] for place in kept] for row in self.rows]
        return self._replace(header=[self.header[place] for place in kept], rows=rows)

    def dense(self) -> "Table":
        """Leave out the columns in which every cell is a dash."""
        columns = zip(self.header, zip(*self.rows, strict=True), strict=True) if self.rows else ()
        return self.only([name for name, cells in columns if any(cell_text(cell) != UNDEFINED for cell in cells)])

    def html(self) -> Markup:
        """Write the table for a page: a box that scrolls, bounds and counts in small print, notes as paragraphs."""
        return Markup(template("table.html.jinja").render(table=self))

    def markdown(self) -> Markup:
        """Write the table for Markdown, its notes below it and without its caption."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        grid = "\n".join(f"| {' | '.join(markdown_text(cell_text(cell)) for cell in line)} |" for line in lines)
        shown = grid if self.rows else f"{markdown_text(self.caption)}: nothing is defined."
        return Markup("\n\n".join([shown, *map(markdown_text, filter(None, [" ".join(self.notes)]))]))

    def latex(self) -> str:
        """Write the table as a `tabular` with the rules of booktabs, without caption and notes."""
        lines = [[printable(cell_text(cell)).translate(LATEX) for cell in line] for line in (self.header, *self.rows)]
        head, *body = [" & ".join(line) + r" \\" for line in lines]
        begin = rf"\begin{{tabular}}{{{'l' * len(self.header)}}}"
        return "\n".join([begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", ""])

    def print(self, console: Console | None = None) -> None:
        """Draw the table on a terminal, in which no text is markup; nothing where it has no rows."""
        if not self.rows:
            return
        drawn = rich_table.Table(title=Text(printable(self.caption)), title_justify="left")
        for name in self.header:
            drawn.add_column(Text(printable(name)))
        for row in self.rows:
            drawn.add_row(*(Text(printable(cell_text(cell))) for cell in row))
        (console or Console()).print(drawn)


def cell_text(cell) -> str:
    """Write a cell on one line, such as `0.824 (0.731–0.882), 14 of 17`, as far as there are bounds and a count."""
    if isinstance(cell, dict):
        shown = " ".join(filter(None, (number(cell["value"]), bounds(cell))))
        return ", ".join(filter(None, (shown, cell.get("count"))))
    if isinstance(cell, float):
        return UNDEFINED if np.isnan(cell) else f"{cell:.4g}"
    return UNDEFINED if cell is None else f"{cell:,}" if isinstance(cell, int) else str(cell)


def number(value: float | None) -> str:
    """Write a number with three decimals; a dash for what is undefined."""
    return UNDEFINED if value is None or np.isnan(value) else f"{value:.3f}"


def bounds(found: dict) -> str:
    """Write `(0.731–0.882)`, or nothing where there is no interval."""
    low, high = found.get("low"), found.get("high")
    if low is None or high is None or found["value"] is None:
        return ""
    return f"({low:.3f} to {high:.3f})" if low < 0 else f"({low:.3f}–{high:.3f})"


def p_value(value: float | None) -> str:
    """Write a p-value with three decimals, `<0.001` below them."""
    return UNDEFINED if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def printable(text) -> str:
    """Write text on one line in which nothing steers a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text))


def markdown_text(text) -> Markup:
    """Write text on one line that Markdown shows as it is."""
    return Markup(printable(text).translate(MARKDOWN))


@cache
def template(name: str) -> jinja2.Template:
    """Give a template of this folder; text is escaped for HTML, and a missing name is an error."""
    settings = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, **settings)
    environment.filters |= {"markdown": markdown_text, "cell": cell_text, "number": number, "bounds": bounds}
    return environment.get_template(name)

"""One table in four ways: the same cells, and no text that is taken for markup."""

import re

import pytest
from rich.console import Console

from symnorm_jax.report.table import Table, cell_text, p_value

HOSTILE = "<b>|_x_&\x1b[31m50 % $\\"
FOUND = {"value": 0.8244, "low": 0.7311, "high": 0.882, "count": "14 of 17"}
TABLE = Table("A < B", ["name", "AUROC"], [[HOSTILE, FOUND], ["plain", None]], (HOSTILE,), ("A note.", "Another."))


@pytest.mark.parametrize(
    "cell, text",
    [
        (FOUND, "0.824 (0.731–0.882), 14 of 17"),
        ({"value": 0.1, "low": -0.2, "high": 0.3}, "0.100 (-0.200 to 0.300)"),
        ({"value": 0.1, "low": None, "high": None}, "0.100"),
        ({"value": None}, "–"),
        (None, "–"),
        (float("nan"), "–"),
        (12345, "12,345"),
        (0.000123456, "0.0001235"),
        ("12345", "12345"),
    ],
)
def test_a_cell_is_written_as_what_it_is(cell, text):
    assert cell_text(cell) == text


def test_a_page_escapes_text_and_sets_bounds_apart():
    page = TABLE.html()
    assert "&lt;b&gt;" in page and "<b>" not in page and 'aria-label="A &lt; B"' in page
    assert '<td>0.824 <span class="ci">(0.731–0.882)</span> <span class="ci">14 of 17</span></td>' in page
    assert page.count('class="marked"') == 1 and page.count('<p class="note">') == 2 and "<td>–</td>" in page
    assert "A &lt; B: nothing is defined." in TABLE._replace(rows=[]).html()


def test_markdown_shows_text_as_it_is():
    head, rule, first, second, _, notes = TABLE.markdown().split("\n")
    assert head == "| name | AUROC |" and rule == "| --- | --- |" and second == "| plain | – |"
    assert first == r"| &lt;b&gt;\|\_x\_&amp;?\[31m50 % $\\ | 0.824 (0.731–0.882), 14 of 17 |"
    assert (
        notes == "A note. Another." and TABLE._replace(rows=[], notes=()).markdown() == "A &lt; B: nothing is defined."
    )


def test_latex_has_no_letter_that_it_would_read():
    lines = TABLE.latex().splitlines()
    assert lines[0] == r"\begin{tabular}{ll}" and lines[-1] == r"\end{tabular}"
    text, found = lines[4].removesuffix(r" \\").split(" & ")
    assert text == r"<b>|\_x\_\&?[31m50 \% \$\textbackslash{}" and found == "0.824 (0.731--0.882), 14 of 17"


def test_a_terminal_is_steered_by_nothing(capsys):
    TABLE._replace(header=["[red]name", "AUROC"]).print(Console(width=100))
    said = capsys.readouterr().out
    assert "[red]name" in said and "<b>|_x_&?[31m50 % $\\" in said and "\x1b" not in said
    TABLE._replace(rows=[]).print()
    assert not capsys.readouterr().out


def test_columns_are_chosen_by_name_and_left_out_where_nothing_is_defined():
    table = Table("", ["a", "b", "c"], [["1", None, {"value": None}], ["2", None, {"value": 0.5}]])
    assert table.dense().header == ["a", "c"] and table.dense().rows[1] == ["2", {"value": 0.5}]
    assert table.only(["c", "a"]).header == ["a", "c"] and table.defined
    assert not table.only(["a", "b"]).defined and Table("", ["a"], []).dense().header == []


def test_a_small_p_value_has_a_bound():
    assert [p_value(one) for one in (0.0009, 0.001, 0.25, None)] == ["<0.001", "0.001", "0.250", "–"]
    assert not re.search("<0", Table("", ["p"], [[p_value(0.0)]]).html())

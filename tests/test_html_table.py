"""Tables for notebooks: whatever a name is, it is shown as text."""

from __future__ import annotations

import pytest
from topwork.html_table import MAX_TEXT_LENGTH, escape_html, render_box, render_facts, render_rows

from .html_reading import HOSTILE, HOSTILE_DIRECTION, ReadHtml, check_harmless


def test_facts_and_rows_are_tables() -> None:
    facts = render_facts({"rows": 12, "nothing": None})
    rows = render_rows([{"column": "last", "features": "64"}, {"column": "layer2", "features": None}])
    read = ReadHtml(render_box("Store", facts, rows))
    assert read.texts == ["Store", "rows", "12", "column", "features", "last", "64", "layer2"]
    assert read.tags.count("table") == 2
    assert render_rows([]) == ""


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE_DIRECTION, '"><script>alert(1)</script>', "a\nb", "&lt;"])
def test_text_from_outside_stays_text_everywhere(text: str) -> None:
    html = render_box(text, render_facts({text: text}), render_rows([{text: text}]))
    read = check_harmless(html)
    assert set(read.tags) == {"div", "table", "tr", "th", "td", "bdi"}
    assert set(read.attributes) == {"style"}
    shown = text.replace("\u202e", "\\u202e").replace("\n", "\\n")
    assert read.texts == [shown] * 5


def test_colours_are_those_of_the_page() -> None:
    html = render_box("Store", render_facts({"rows": 1}))
    assert "color:inherit" in html
    assert "#" not in html  # no colour that light or dark pages lack contrast with
    assert "background:transparent" in html


def test_long_text_is_cut() -> None:
    (text,) = ReadHtml(escape_html("x" * 1000)).texts
    assert text == "x" * MAX_TEXT_LENGTH + "…"

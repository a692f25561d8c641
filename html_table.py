"""Small tables of HTML for notebooks: self-contained, in the colours of the page, and with every text escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .safe_text import escape_line

MAX_TEXT_LENGTH = 200
"""Characters of a text that are shown."""
CELL_STYLE = "text-align:left;vertical-align:top;padding:2px 12px 2px 0;border:0;background:transparent;color:inherit"
HEADING_STYLE = f"{CELL_STYLE};font-weight:normal;opacity:0.7"
TABLE_STYLE = "border-collapse:collapse;border:0;margin:2px 0 6px 0;color:inherit;background:transparent"
BOX_STYLE = (
    "border:1px solid rgba(127,127,127,0.4);border-radius:4px;padding:6px 10px;margin:4px 0;"
    "color:inherit;background:transparent;display:inline-block;max-width:100%;overflow-x:auto"
)


def escape_html(value: Any) -> str:
    """Return a value as text that is nothing but text in HTML, whatever is written in it.

    Marks that change the direction of text are shown as escapes, and the text does not reorder what is beside it.

    Examples
    --------
    >>> escape_html("<b>")
    '<bdi>&lt;b&gt;</bdi>'
    """
    text = escape_line(str(value))
    if len(text) > MAX_TEXT_LENGTH:
        text = text[:MAX_TEXT_LENGTH] + "…"
    return f"<bdi>{escape(text)}</bdi>"


def render_box(title: str, *tables: str) -> str:
    """Return a titled box around tables that other functions of this module returned."""
    heading = f'<div style="font-weight:bold;color:inherit">{escape_html(title)}</div>'
    return f'<div style="{BOX_STYLE}">{heading}{"".join(tables)}</div>'


def render_facts(facts: Mapping[str, Any]) -> str:
    """Return a table with a row for each name and value; values that are None are left out."""
    rows = []
    for name, value in facts.items():
        if value is not None:
            heading = f'<th style="{HEADING_STYLE}">{escape_html(name)}</th>'
            rows.append(f"{heading}{_render_cell(value)}")
    return _render_table(rows)


def render_rows(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table of rows that have the same names; nothing if there are no rows."""
    if not rows:
        return ""
    headings = "".join(f'<th style="{HEADING_STYLE}">{escape_html(name)}</th>' for name in rows[0])
    lines = ["".join(_render_cell(value) for value in row.values()) for row in rows]
    return _render_table([headings, *lines])


def _render_cell(value: Any) -> str:
    text = "" if value is None else escape_html(value)
    return f'<td style="{CELL_STYLE}">{text}</td>'


def _render_table(lines: Sequence[str]) -> str:
    rows = "".join(f'<tr style="background:transparent">{line}</tr>' for line in lines)
    return f'<table style="{TABLE_STYLE}">{rows}</table>'

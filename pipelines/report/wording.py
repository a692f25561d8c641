"""How labels, values and measures are written on the page."""

from __future__ import annotations

from typing import Any

from .markup import Markup, element, join, name_from_outside

UNKNOWN = "-"


def format_measure(value: Any) -> str:
    """Return a measure or number of items as text."""
    if value is None:
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def format_share(value: float | None) -> str:
    """Return a number from 0 to 1 as text, of the same length as others in a column."""
    return UNKNOWN if value is None else f"{value:.3f}"


def format_values(value: Any) -> str:
    """Return a value, or several, as text."""
    values = value if isinstance(value, list) else [value]
    return ", ".join(f"{each:.4g}" for each in values)


def quote_label(label: object) -> Markup:
    """Return a label, or what stands for an answer that was not given."""
    return element("em", "no answer") if label is None else name_from_outside(label)


def compare_labels(truth: object, predicted: object) -> Markup:
    """Return a true and a predicted label as one line."""
    return join(quote_label(truth), " → ", quote_label(predicted))


def name_with_split(title: str, split: str | None) -> Markup:
    """Return a heading that names the split, where there is one."""
    return join(title) if split is None else join(title, ": split ", name_from_outside(split))

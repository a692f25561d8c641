"""What a store holds, as a table for notebooks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ...html_table import render_box, render_facts, render_rows

if TYPE_CHECKING:
    from .content import StoreContent

MAX_NAMED_LABELS = 8
"""The most frequent labels, which are named with their numbers of rows."""


def render_store(store: StoreContent) -> str:
    """Return rows, labels and columns of a store as HTML."""
    backbone = "unknown (foreign features)" if store.is_foreign else store.identity["architecture"]
    facts: dict[str, Any] = {
        "path": store.path,
        "backbone": backbone,
        "rows": f"{store.n_rows:,}",
        "failed items": f"{len(store.failures()):,}",
    }
    for name in store.label_names:
        facts[name] = describe_labels(store.labels if name == "label" else store.get_labels(name))
    columns = [
        {"column": column.name, "features": f"{column.width:,}", "dtype": column.dtype} for column in store.columns
    ]
    return render_box(type(store).__name__, render_facts(facts), render_rows(columns))


def describe_labels(labels: list[Any]) -> str | None:
    """Return how many rows have which label; None if no row has one."""
    known = [name_label(label) for label in labels if label is not None]
    if not known:
        return None
    counts = Counter(known).most_common()
    if len(counts) > max(MAX_NAMED_LABELS, len(known) / 2):
        return f"{len(known):,} rows: {len(counts):,} different values"
    named = ", ".join(f"{name} ({number:,})" for name, number in counts[:MAX_NAMED_LABELS])
    n_others = len(counts) - MAX_NAMED_LABELS
    more = f", and {n_others:,} others" if n_others > 0 else ""
    return f"{len(known):,} rows: {named}{more}"


def name_label(label: Any) -> str:
    """Return a label, or several labels of a row, as text."""
    return " + ".join(map(str, label)) if isinstance(label, list) else str(label)

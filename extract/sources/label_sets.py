"""Several labels of one item, as one text that sources yield and stores keep.

The text begins with the unit separator of ASCII, which also stands between the names; a label of its own has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from ...errors import SourceError
from .identifiers import storable_text
from .path_labels import normalize_label

UNIT_SEPARATOR = "\x1f"
TRUE_CELLS = ("1", "1.0", "true", "yes")
FALSE_CELLS = ("0", "0.0", "false", "no")
"""Cells, in small letters, of columns that say whether a label applies."""


def join_labels(names: Iterable[Any]) -> str:
    """Return the names of the labels of an item as one text, each once, sorted; there may be none.

    Examples
    --------
    >>> split_labels(join_labels(["warm", "plant", "warm"]))
    ['plant', 'warm']
    """
    texts = {normalize_label(storable_text(str(name))) for name in names}
    if any(UNIT_SEPARATOR in text for text in texts):
        raise_control_character(sorted(texts))
    return UNIT_SEPARATOR + UNIT_SEPARATOR.join(sorted(texts))


def require_single_label(label: str) -> str:
    """Return a label; raise a SourceError if it could be taken for several."""
    if label.startswith(UNIT_SEPARATOR):
        raise_control_character(label)
    return label


def raise_control_character(label: Any) -> NoReturn:
    """Raise a SourceError for labels that hold what separates them."""
    raise SourceError(f"the label {label!r} holds the control character {UNIT_SEPARATOR!r}; expected a text without it")


def split_labels(label: Any) -> Any:
    """Return the names of several labels as a list; any other label unchanged.

    Examples
    --------
    >>> split_labels(join_labels(["plant"])), split_labels("plant"), split_labels(join_labels([]))
    (['plant'], 'plant', [])
    """
    if not isinstance(label, str) or not label.startswith(UNIT_SEPARATOR):
        return label
    names = label[len(UNIT_SEPARATOR) :]
    return names.split(UNIT_SEPARATOR) if names else []


def are_names(values: Iterable[Any]) -> bool:
    """Return whether values can be the names of several labels: texts or integers."""
    return all(isinstance(value, str | int) for value in values)


def require_separator(separator: str) -> None:
    """Raise a SourceError for an empty separator of labels."""
    if separator == "":
        raise SourceError("the separator of labels is empty; expected a text such as '|' (--label-separator)")


def split_cell(cell: str | None, separator: str) -> str | None:
    """Return the labels that a separator divides as one text; None for an empty cell."""
    if not cell or not cell.strip():
        return None
    parts = [part.strip() for part in cell.split(separator)]
    return join_labels(part for part in parts if part)


def join_columns(names: Sequence[str], cells: Sequence[str | None]) -> str | None:
    """Return the names of the columns that hold a yes in a row, as one text; None if a cell is empty.

    Raise a SourceError if a cell is neither yes nor no.
    """
    own = []
    for name, cell in zip(names, cells, strict=True):
        if not cell or not cell.strip():
            return None
        value = cell.strip().lower()
        if value not in (*TRUE_CELLS, *FALSE_CELLS):
            raise SourceError(
                f"column {name!r} holds {cell!r}; expected 1 or 0 (true or false) in each of several columns of labels"
            )
        if value in TRUE_CELLS:
            own.append(name)
    return join_labels(own)

"""The labels of a table's rows: a column of texts, numbers or lists, or a column for each label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import SourceError
from .identifiers import storable_text
from .label_sets import are_names, join_columns, join_labels, require_separator, require_single_label, split_cell
from .path_labels import normalize_label
from .table_file import format_cell, read_column, read_values

if TYPE_CHECKING:
    import pyarrow

LABEL_FIELD = "label"
DATASETS_KEY = b"huggingface"
"""Metadata of a table that ``datasets`` wrote, with the types of its columns."""


def read_row_labels(
    path: Path, rows: pyarrow.Table, columns: str | Sequence[str] | None, separator: str | None
) -> list[str | None] | None:
    """Return the label of each row as text, several as :mod:`.label_sets` joins them; None if there is no such column.

    A `separator` divides the labels in a cell; several `columns` hold a yes or no each.
    """
    if separator is not None:
        require_separator(separator)
    if columns is not None and not isinstance(columns, str):
        cells = [[format_cell(value, path, name) for value in read_values(path, rows, name)] for name in columns]
        return [join_columns(columns, row) for row in zip(*cells, strict=True)]
    name = columns or LABEL_FIELD
    if columns is None and name not in rows.column_names:
        return None
    class_names = find_class_names(rows, name)
    if has_lists(rows, name):
        values = read_values(path, rows, name)
        return [None if value is None else join_list(value, class_names, path, name) for value in values]
    labels = read_column(path, rows, LABEL_FIELD, name) or []
    if class_names is not None:
        labels = [name_class(label, class_names, path) for label in labels]
    if separator is not None:
        return [split_cell(label, separator) for label in labels]
    return [require_single_label(normalize_label(storable_text(label))) if label else None for label in labels]


def has_lists(rows: pyarrow.Table, name: str) -> bool:
    """Return whether a column holds lists."""
    from pyarrow import types

    if rows.column_names.count(name) != 1:
        return False
    kind = rows.schema.field(name).type
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def join_list(values: list[Any], class_names: list[str] | None, path: Path, name: str) -> str:
    """Return the labels in a list as one text; raise a SourceError if they are neither texts nor integers."""
    if not are_names(values):
        raise SourceError(
            f"column {name!r} of table {path} holds the list {values}; expected lists of texts or integers as labels"
        )
    if class_names is None:
        return join_labels(values)
    names = [name_class(str(value), class_names, path) for value in values]
    return join_labels(name for name in names if name is not None)


def find_class_names(rows: pyarrow.Table, name: str) -> list[str] | None:
    """Return the names that ``datasets`` keeps of the numbers in a column of classes; None if it is no such column."""
    described = (rows.schema.metadata or {}).get(DATASETS_KEY)
    if described is None:
        return None
    try:
        feature = json.loads(described)["info"]["features"].get(name)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if isinstance(feature, list) and feature:
        feature = feature[0]
    if isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
        feature = feature["feature"]
    if not isinstance(feature, dict) or feature.get("_type") != "ClassLabel":
        return None
    names = feature.get("names")
    return [str(class_name) for class_name in names] if isinstance(names, list) else None


def name_class(number: str | None, class_names: list[str], path: Path) -> str | None:
    """Return the name of a class that a cell numbers; None for an empty cell, and for -1, which is no class."""
    if number is None or number == "-1":
        return None
    if not number.isdecimal() or int(number) >= len(class_names):
        raise SourceError(f"table {path} has the label {number}, but names for {len(class_names)} classes only")
    return class_names[int(number)]

"""Labels that are set without touching features: tables of them, read and checked, and the history of changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ..sources.label_sets import are_names, join_labels, require_separator, split_cell, split_labels
from ..sources.table_file import read_rows
from .log import Action, Log
from .part import read_table

if TYPE_CHECKING:
    import pyarrow

LABELS_FOLDER = "labels"
BY_SOURCE = "source"
BY_USER = "user"
"""Who names a label; the user takes precedence."""
LABEL_ID_COLUMNS = ("id", "path")
"""Columns of a table of labels that name the items; the first of these is used."""


@dataclass(frozen=True)
class LabelChange:
    """An entry of the log that changed one column of labels.

    Parameters
    ----------
    number : int
        Number of the entry.
    time : str
        When it was written, in UTC.
    by : {"user", "source"}
        Whether the user set the labels, or a job found new ones in its source.
    values : dict
        The new label of each item by its id; None restores the label of the source.
    """

    number: int
    time: str
    by: str
    values: Mapping[str, Any]


def label_table(labels: Any, name: str) -> pyarrow.Table:
    """Return labels as a table with a column ``id`` and one for each kind of label.

    Labels are a mapping by id, a pandas.Series by its index (both named `name`), or a table with a column ``id`` or
    ``path``: a file, a pyarrow.Table or a pandas.DataFrame. Raise an InputError if there is no such column, an id
    occurs twice, or a column holds values of several types.
    """
    import pyarrow as pa

    table = tabulate_labels(labels, name)
    id_columns = [column for column in LABEL_ID_COLUMNS if column in table.column_names]
    others = [column for column in table.column_names if column not in LABEL_ID_COLUMNS]
    if not id_columns or not others:
        names = ", ".join(table.column_names) or "none"
        raise InputError(
            f"labels with the columns {names}; expected 'id' (or 'path'), and one or more columns of labels: rename one"
        )
    ids = read_id_cells(table[id_columns[0]], id_columns[0])
    duplicate = find_duplicate(ids)
    if duplicate is not None:
        raise InputError(f"labels name {duplicate!r} twice; expected one label for each id")
    columns = {column: simplify_column(table[column], column) for column in others}
    return pa.table({"id": pa.array(ids, pa.string()), **columns})


def name_windows(table: pyarrow.Table, ids: Sequence[str], sounds: Sequence[str] | None) -> pyarrow.Table:
    """Return a table of labels in which the windows of a sound stand for it, unless they are named themselves.

    `ids` are those of the rows of a store, and `sounds` those of their sounds; None returns the table unchanged.
    """
    if sounds is None:
        return table
    import pyarrow as pa

    named = table["id"].to_pylist()
    own = set(named)
    windows_of: dict[str, list[str]] = {}
    for item_id, sound in zip(ids, sounds, strict=True):
        if item_id not in own:
            windows_of.setdefault(sound, []).append(item_id)
    targets = [windows_of.get(item_id, [item_id]) for item_id in named]
    positions = np.repeat(np.arange(len(named)), [len(ids_of_row) for ids_of_row in targets])
    spread = table.take(pa.array(positions))
    return spread.set_column(0, "id", pa.array([item_id for ids_of_row in targets for item_id in ids_of_row]))


def label_columns(table: pyarrow.Table) -> list[str]:
    """Return the names of the labels in a table that :func:`label_table` made."""
    return [name for name in table.column_names if name != "id"]


def are_by_id(labels: Any) -> bool:
    """Return whether labels name the items that they belong to, as :func:`label_table` expects.

    A pandas.Series names them if its index is more than the numbers of its rows, a table by a column of ids.
    """
    if _is_of_pandas(labels, "Series"):
        return type(labels.index).__name__ != "RangeIndex"
    if _is_of_pandas(labels, "DataFrame"):
        return any(name in labels.columns for name in LABEL_ID_COLUMNS)
    return isinstance(labels, (Mapping, str, Path)) or hasattr(labels, "column_names")


def find_duplicate(ids: Sequence[str]) -> str | None:
    """Return the first id that occurs a second time, None if there is none."""
    if len(set(ids)) == len(ids):
        return None
    seen: set[str] = set()
    for item_id in ids:
        if item_id in seen:
            return item_id
        seen.add(item_id)
    return None


def _is_of_pandas(labels: Any, name: str) -> bool:
    return type(labels).__name__ == name and type(labels).__module__.partition(".")[0] == "pandas"


def tabulate_labels(labels: Any, name: str) -> pyarrow.Table:
    """Return labels of any supported kind as a table, unchecked."""
    import pyarrow as pa

    if isinstance(labels, pa.Table):
        return labels
    if isinstance(labels, (str, Path)):
        return read_rows(Path(labels))
    if isinstance(labels, Mapping):
        return _pair_labels(list(labels), list(labels.values()), name)
    if _is_of_pandas(labels, "Series"):
        return _pair_labels(labels.index.tolist(), labels.tolist(), name)
    if _is_of_pandas(labels, "DataFrame"):
        return convert_frame(labels)
    raise InputError(f"labels are a {type(labels).__name__}; expected a mapping from ids to labels, or a table")


def convert_frame(frame: Any) -> pyarrow.Table:
    """Return a pandas.DataFrame as a table, without its index."""
    import pyarrow as pa

    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except pa.ArrowException as error:
        raise InputError(f"labels cannot be stored: {error}. Expected one type in each column.") from error


def _pair_labels(ids: Sequence[Any], labels: Sequence[Any], name: str) -> pyarrow.Table:
    """Return ids and labels as a table."""
    import pyarrow as pa

    values = [label.item() if isinstance(label, np.generic) else label for label in labels]
    try:
        id_array = pa.array(map(str, ids), pa.string())
        return pa.table({"id": id_array, name: pa.array(values, from_pandas=True)})
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        raise InputError(
            f"labels cannot be stored: {error}. Expected only text, only lists of text, only numbers (integers of 64 "
            "bits with a sign, int64), or only booleans."
        ) from error


def read_id_cells(column: pyarrow.ChunkedArray, name: str) -> list[str]:
    """Return a column of ids as text, after checking that none is missing."""
    import pyarrow as pa

    if column.null_count:
        raise InputError(f"column {name!r} of the labels has {column.null_count} empty cells; expected an id in each")
    try:
        ids: list[str] = column.cast(pa.string()).to_pylist()
    except pa.ArrowException as error:
        raise InputError(f"column {name!r} of the labels is not text: {error}") from error
    return ids


def simplify_column(column: pyarrow.ChunkedArray, name: str) -> pyarrow.ChunkedArray:
    """Return a column of labels as text, integers, floats or booleans; empty cells and NaN are null, lists are text."""
    import pyarrow as pa
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_list(column.type) or types.is_large_list(column.type):
        return join_lists(column, name)
    is_text = types.is_string(column.type) or types.is_large_string(column.type)
    if is_text or types.is_null(column.type):
        text = column.cast(pa.string())
        return compute.if_else(compute.equal(text, ""), pa.scalar(None, pa.string()), text)
    if types.is_floating(column.type):
        return compute.if_else(compute.is_nan(column), pa.scalar(None, column.type), column)
    if types.is_uint64(column.type):
        return narrow_integers(column, name)
    if types.is_integer(column.type) or types.is_boolean(column.type):
        return column
    raise InputError(f"column {name!r} of the labels holds {column.type}; expected text, numbers or booleans")


def join_lists(column: pyarrow.ChunkedArray, name: str) -> pyarrow.ChunkedArray:
    """Return lists of labels as texts, see :mod:`topwork.extract.sources.label_sets`."""
    import pyarrow as pa

    joined = []
    for labels in column.to_pylist():
        if not are_names(labels or ()):
            raise InputError(f"column {name!r} of the labels holds {labels}; expected lists of texts or integers")
        joined.append(None if labels is None else join_labels(labels))
    return pa.chunked_array([joined], pa.string())


def divide_cells(table: pyarrow.Table, name: str, separator: str) -> pyarrow.Table:
    """Return a table in which a separator has divided the texts of one column into several labels each."""
    import pyarrow as pa
    from pyarrow import types

    require_separator(separator)
    if name not in table.column_names:
        columns = ", ".join(label_columns(table))
        raise InputError(f"labels have no column {name!r} to divide at {separator!r}; expected one of {columns}")
    column = table[name]
    if not types.is_string(column.type):
        raise InputError(f"column {name!r} of the labels holds {column.type}; expected text to divide at {separator!r}")
    divided = [split_cell(cell, separator) for cell in column.to_pylist()]
    return table.set_column(table.column_names.index(name), name, pa.array(divided, pa.string()))


def narrow_integers(column: pyarrow.ChunkedArray, name: str) -> pyarrow.ChunkedArray:
    """Return integers without a sign as int64; raise an InputError if one is too large."""
    import pyarrow as pa

    try:
        return column.cast(pa.int64())
    except pa.ArrowException as error:
        raise InputError(
            f"column {name!r} of the labels holds integers beyond int64: {error}. Expected them as text."
        ) from error


def source_label_table(labels: Mapping[str, tuple[str | None, str | None]]) -> pyarrow.Table:
    """Return the label and split that a source names for each id as a table."""
    import pyarrow as pa

    columns = {
        "id": list(labels),
        "label": [label for label, _ in labels.values()],
        "split": [split for _, split in labels.values()],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def label_history(root: Path, log: Log, name: str) -> list[LabelChange]:
    """Return every change of one column of labels, the oldest first."""
    changes = []
    for entry in log.history():
        if entry.action == Action.SET_LABELS and name in entry.details["columns"]:
            table = read_table(root / entry.details["file"])
            labels = map(split_labels, table[name].to_pylist())
            values = dict(zip(table["id"].to_pylist(), labels, strict=True))
            changes.append(LabelChange(entry.number, entry.time, entry.details["by"], values))
    return changes

"""Labels that are set without touching features: read from what the user has, checked, and their history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from .part import read_table, write_table

if TYPE_CHECKING:
    import pyarrow

    from .log import Log
    from .segment import Segment
    from .writer import StoreWriter

ACTION = "set_labels"
FOLDER = "labels"
SOURCE, USER = "source", "user"
"""Who says what a label is; the user has the last word."""
ID_COLUMNS = ("id", "path")


@dataclass(frozen=True)
class LabelChange:
    """An entry of the log that changed one column of labels.

    Parameters
    ----------
    number : int
        Of the entry.
    time : str
        When, in UTC.
    by : {"user", "source"}
        Whether the user set them, or a job found that its source names them anew.
    values : dict
        The new label of each item by its id; None where the source's own is good again.
    """

    number: int
    time: str
    by: str
    values: Mapping[str, Any]


def label_table(labels: Any, name: str) -> pyarrow.Table:
    """Return labels as a table with a column ``id`` and one for each kind of label.

    Parameters
    ----------
    labels : mapping, path, pyarrow.Table, pandas.DataFrame or pandas.Series
        Labels by id, of a series by its index; or a table with a column ``id`` (or ``path``).
    name : str
        Of the column, for a mapping.

    Raises
    ------
    InputError
        If there is no such column, an id comes twice, or a column holds values of several types.
    """
    table = _table(labels, name)
    found = [column for column in ID_COLUMNS if column in table.column_names]
    others = [column for column in table.column_names if column not in ID_COLUMNS]
    if not found or not others:
        raise InputError(
            f"labels with the columns {', '.join(table.column_names) or 'none'}; expected 'id' (or 'path'), and one or "
            "more columns of labels"
        )
    ids = _texts(table[found[0]], found[0])
    if len(set(ids)) < len(ids):
        raise InputError(f"labels name {_twice(ids)!r} twice; expected one label for each id")
    import pyarrow as pa

    columns = {column: _plain(table[column], column) for column in others}
    return pa.table({"id": pa.array(ids, pa.string()), **columns})


def are_by_id(labels: Any) -> bool:
    """Tell whether labels name the items that they are of, as :func:`label_table` takes them.

    Parameters
    ----------
    labels : object
        A series of pandas names them if its index is more than the numbers of its rows, a table by a column of ids.
    """
    if _is_of_pandas(labels, "Series"):
        return type(labels.index).__name__ != "RangeIndex"
    if _is_of_pandas(labels, "DataFrame"):
        return any(name in labels.columns for name in ID_COLUMNS)
    return isinstance(labels, (Mapping, str, Path)) or hasattr(labels, "column_names")


def _is_of_pandas(labels: Any, name: str) -> bool:
    return type(labels).__name__ == name and type(labels).__module__.partition(".")[0] == "pandas"


def _table(labels: Any, name: str) -> pyarrow.Table:
    import pyarrow as pa

    if isinstance(labels, pa.Table):
        return labels
    if _is_of_pandas(labels, "DataFrame"):
        try:
            return pa.Table.from_pandas(labels, preserve_index=False)
        except pa.ArrowException as error:
            raise InputError(f"labels cannot be kept: {error}. Expected one type in each column.") from error
    if isinstance(labels, (str, Path)):
        from ..sources.table import read_rows

        return read_rows(Path(labels))
    if isinstance(labels, Mapping):
        ids, given = list(labels), list(labels.values())
    elif _is_of_pandas(labels, "Series"):
        ids, given = labels.index.tolist(), labels.tolist()
    else:
        raise InputError(f"labels are a {type(labels).__name__}; expected a mapping from ids to labels, or a table")
    values = [value.item() if isinstance(value, np.generic) else value for value in given]
    try:
        return pa.table({"id": pa.array(map(str, ids), pa.string()), name: pa.array(values, from_pandas=True)})
    except (pa.ArrowException, UnicodeEncodeError) as error:
        raise InputError(f"labels cannot be kept: {error}. Expected texts, or numbers, or truth values.") from error


def _texts(column: pyarrow.ChunkedArray, name: str) -> list[str]:
    import pyarrow as pa

    if column.null_count:
        raise InputError(f"column {name!r} of the labels has {column.null_count} empty cells; expected an id in each")
    try:
        texts: list[str] = column.cast(pa.string()).to_pylist()
    except pa.ArrowException as error:
        raise InputError(f"column {name!r} of the labels is no text: {error}") from error
    return texts


def _twice(ids: list[str]) -> str:
    seen: set[str] = set()
    return next(item_id for item_id in ids if item_id in seen or seen.add(item_id))  # type: ignore[func-returns-value]


def _plain(column: pyarrow.ChunkedArray, name: str) -> pyarrow.ChunkedArray:
    """Return a column of labels as texts, whole numbers, numbers or truth values; empty cells are null."""
    import pyarrow as pa
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_string(column.type) or types.is_large_string(column.type) or types.is_null(column.type):
        texts = column.cast(pa.string())
        return compute.if_else(compute.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    if types.is_floating(column.type):
        return compute.if_else(compute.is_nan(column), pa.scalar(None, column.type), column)
    if types.is_integer(column.type) or types.is_boolean(column.type):
        return column
    raise InputError(f"column {name!r} of the labels holds {column.type}; expected texts, numbers or truth values")


def source_labels(named: Mapping[str, tuple[str | None, str | None]]) -> pyarrow.Table:
    """Return the labels and splits that a source names, by id, as a table."""
    import pyarrow as pa

    labels, splits = zip(*named.values(), strict=True)
    columns = {"id": list(named), "label": labels, "split": splits}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def enter_labels(writer: StoreWriter, table: pyarrow.Table, by: str = USER) -> None:
    """Enter labels into the log of a store.

    Parameters
    ----------
    writer : StoreWriter
    table : pyarrow.Table
        As :func:`label_table` makes it.
    by : {"user", "source"}

    Raises
    ------
    InputError
        If the store does not know an id, or labels of one column would be of several types.
    """
    names = [name for name in table.column_names if name != "id"]
    if by == USER:
        _require_known(writer, table["id"].to_pylist())
        for name in names:
            _require_one_type(writer.index.settle().with_values(_place(name, by), table["id"], table[name]), name)
    path = writer.store.path / FOLDER / f"l{writer.last.number + 1:06d}.parquet"
    path.parent.mkdir(exist_ok=True)
    write_table(path, table)
    details = {"file": f"{FOLDER}/{path.name}", "columns": names, "items": len(table), "by": by}
    writer.enter(ACTION, [path], details)


def with_labels(segment: Segment, root: Path, details: Mapping[str, Any]) -> Segment:
    """Return items with the labels that an entry of the log tells."""
    table = read_table(root / details["file"])
    for name in details["columns"]:
        segment = segment.with_values(_place(name, details["by"]), table["id"], table[name])
    return segment


def _place(name: str, by: str) -> str:
    """Return the column of a segment that holds labels."""
    from .segment import GIVEN

    return name if by == SOURCE else GIVEN + name


def _require_known(writer: StoreWriter, ids: list[str]) -> None:
    unknown = np.flatnonzero(writer.index.settle().places(ids) < 0)
    if len(unknown):
        raise InputError(
            f"{len(unknown)} of {len(ids)} ids of the labels are not in {writer.store.path}, the first is "
            f"{ids[unknown[0]]!r}; `ids` lists those that are. No label was changed."
        )


def _require_one_type(segment: Segment, name: str) -> None:
    kinds = {type(label).__name__ for label in segment.labels(name) if label is not None}
    if len(kinds) > 1:
        raise InputError(
            f"labels {name!r} would be {' and '.join(sorted(kinds))}, as those that other items have; give all items "
            "labels of one type, or use another name. No label was changed."
        )


def label_history(root: Path, log: Log, name: str) -> list[LabelChange]:
    """Return every change of one column of labels, the oldest first."""
    changes = []
    for entry in log.history():
        if entry.action == ACTION and name in entry.details["columns"]:
            table = read_table(root / entry.details["file"])
            values = dict(zip(table["id"].to_pylist(), table[name].to_pylist(), strict=True))
            changes.append(LabelChange(entry.number, entry.time, entry.details["by"], values))
    return changes

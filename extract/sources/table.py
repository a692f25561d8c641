"""A table whose rows are items: texts, or the paths of files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DecodeError, SourceError
from .file import check_regular, facts, read_file
from .identifiers import SPLIT_NAMES, UniqueIds, storable_text
from .item import Item, content_digest
from .item_kinds import ITEM_KINDS

if TYPE_CHECKING:
    import pyarrow

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
WHOLE = {
    ".csv": "UTF-8, and in each row as many cells as in the first",
    ".tsv": "UTF-8, and in each row as many cells as in the first",
    ".jsonl": "UTF-8, and in each line an object",
    ".parquet": "a whole Parquet file",
}
LARGEST_BLOCK = 2**31 - 1
"""Bytes of text that pyarrow takes at a time."""
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Table:
    """A table on disk, with the names of its columns; None takes a column of the field's own name if there is one.

    Parameters
    ----------
    file : str or path
        A ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file.
    path, text : str or None
        The column that says what an item is: a file, relative to the table's folder, or a text.
    label, id, split : str or None

    Examples
    --------
    >>> Table("train.csv", text="question", label="topic").label
    'topic'
    """

    file: str | Path
    path: str | None = None
    text: str | None = None
    label: str | None = None
    id: str | None = None
    split: str | None = None


COLUMNS = ("path", "text", "label", "id", "split")


class TableSource:
    """The rows of a table, in their order.

    A path is its own id; a text gets its content's digest for one, unless there is a column of ids.

    Parameters
    ----------
    table : Table
        Read at once.
    kind : {"image", "text", "tensor"}
    """

    ignored = 0

    def __init__(self, table: Table, kind: str = "image") -> None:
        self.path = path = Path(table.file)
        content = read_rows(path)
        self._values = {name: _column(path, content, name, getattr(table, name)) for name in COLUMNS}
        columns = ITEM_KINDS[kind].content_columns
        is_path_requested = table.path is not None and table.text is None
        self._content = "path"
        if "text" in columns and self._values["text"] is not None and not is_path_requested:
            self._content = "text"
        if self._values[self._content] is None:
            wanted = " or ".join(map(repr, columns))
            raise SourceError(
                f"table {path} has the columns {', '.join(content.column_names)}; expected one called {wanted}, or its "
                "name (--text-column, --path-column)"
            )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._values[self._content] or ())

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in the table's order."""
        unique = UniqueIds()
        for row in range(len(self)):
            content, label, split = self._cell(self._content, row), self._name("label", row), self._name("split", row)
            item = self._text(content) if self._content == "text" else self._file(content)
            identifier = unique(self._name("id", row) or item.id)
            split = SPLIT_NAMES.get(split.lower(), split) if split else None
            yield Item(identifier, item.read, label, split, item.size, item.mtime_ns)

    def _cell(self, name: str, row: int) -> str | None:
        column = self._values[name]
        return None if column is None else column[row]

    def _name(self, name: str, row: int) -> str | None:
        """Return a cell as text that can be stored; None for an empty one."""
        cell = self._cell(name, row)
        return storable_text(cell) if cell else None

    def _text(self, text: str | None) -> Item:
        return Item(f"text:{content_digest(text or '')[:32]}", partial(_present, text))

    def _file(self, name: str | None) -> Item:
        if not name:
            return Item("path:", partial(_present, None))
        path = str(self.path.parent / name)
        return Item(storable_text(Path(name).as_posix()), partial(read_file, path), None, None, *facts(path))


def _present(text: str | None) -> str:
    if text is None:
        raise DecodeError("this row of the table is empty")
    return text


def _column(path: Path, table: pyarrow.Table, field: str, name: str | None) -> list[str | None] | None:
    """Return a column as texts, None where the table has no value; None if there is no such column."""
    if name is None and field not in table.column_names:
        return None
    if table.column_names.count(name or field) > 1:
        raise SourceError(f"table {path} has several columns {name or field!r}")
    if (name or field) not in table.column_names:
        raise SourceError(f"table {path} has no column {name!r}; it has {', '.join(table.column_names)}")
    return [_text_of(value, path, name or field) for value in _values(path, table, name or field)]


def _values(path: Path, table: pyarrow.Table, name: str) -> list[Any]:
    from pyarrow import ArrowException

    try:
        return _of_microseconds(table[name]).to_pylist()  # type: ignore[no-any-return]
    except (ArrowException, ValueError, OverflowError) as error:
        raise SourceError(
            f"column {name!r} of table {path} holds a value that Python has no type for: "
            f"{str(error).rstrip('.')}. Expected texts or numbers; save the column as text."
        ) from error


def _of_microseconds(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """Return a column without nanoseconds, which become a type of pandas where it is installed, else an error."""
    from pyarrow import duration, timestamp, types

    if types.is_timestamp(column.type) and column.type.unit == "ns":
        return column.cast(timestamp("us", column.type.tz))
    if types.is_duration(column.type) and column.type.unit == "ns":
        return column.cast(duration("us"))
    return column


def _text_of(value: Any, path: Path, name: str) -> str | None:
    """Return a value as text; bytes that are not UTF-8 stay in it as surrogates, so that their item fails alone."""
    if value is None or value != value:  # NaN is not equal to itself
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, (list, dict)):
        raise SourceError(f"column {name!r} of table {path} holds a {type(value).__name__}; expected texts or numbers")
    return str(value)


def read_rows(path: Path) -> pyarrow.Table:
    """Read a table; the cells of text files stay the texts they are.

    Raises
    ------
    SourceError
        If it is no table, or damaged.
    """
    from pyarrow import ArrowException, parquet

    if path.suffix not in TABLE_SUFFIXES:
        raise SourceError(f"source {path} is no table: expected one of {', '.join(TABLE_SUFFIXES)}")
    try:
        size = check_regular(path)
        if path.suffix == ".parquet":
            with parquet.ParquetFile(path) as file:
                return file.read()
        return _read_jsonl(path) if path.suffix == ".jsonl" else _read_csv(path, size)
    except (ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        cause = str(error).rstrip(".") or "it does not fit into memory"
        raise SourceError(f"table {path} cannot be read: {cause}. Expected {WHOLE[path.suffix]}.") from error


def _read_csv(path: Path, size: int) -> pyarrow.Table:
    from pyarrow import ArrowInvalid

    try:
        table = _parsed(path)
    except ArrowInvalid:  # perhaps only of a cell that is longer than a block; and one thread tells the row
        table = _parsed(path, min(size + 1, LARGEST_BLOCK), threads=False)
    if path.suffix == ".tsv" and any(map(_swallows_lines, table.columns)):
        raise SourceError(
            f"a cell of table {path} holds tabs and ends of lines: a quotation mark at its start was taken for "
            "quoting. Save it as .csv, with quotation marks inside cells doubled."
        )
    return table


def _parsed(path: Path, block: int | None = None, threads: bool = True) -> pyarrow.Table:
    import pyarrow as pa
    from pyarrow import csv

    read = csv.ReadOptions(block_size=block, use_threads=threads)
    parse = csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",", newlines_in_values=True)
    with csv.open_csv(path, read, parse) as reader:
        names = reader.schema.names
    texts = csv.ConvertOptions(column_types={name: pa.string() for name in names}, strings_can_be_null=False)
    return csv.read_csv(path, read, parse, texts)


def _swallows_lines(column: Any) -> bool:
    return any("\t" in text and "\n" in text for text in column.to_pylist() if text)


def _read_jsonl(path: Path) -> pyarrow.Table:
    """Read one object a line; pyarrow's own reader would take texts that look like dates for dates."""
    import pyarrow as pa

    lines = enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1)
    rows = [_row(line, number) for number, line in lines if line.strip()]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pa.table({name: _texts(name, values) for name, values in columns.items()})


def _row(line: str, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} in line {number}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{error} in line {number}") from error
    if not isinstance(row, dict):
        raise ValueError(f"a {type(row).__name__} in line {number}")
    return row


def _texts(name: str, values: list[Any]) -> list[str | None] | list[bytes | None]:
    """Return the values of a column as texts, None for NaN; those of several types would be mixed up."""
    values = [None if value != value else value for value in values]
    types = {type(value).__name__ for value in values if value is not None}
    if len(types) > 1 or types & {"list", "dict"}:
        raise ValueError(f"column {name!r} holds {', '.join(sorted(types))}; expected texts or numbers")
    texts = [None if value is None else str(value) for value in values]
    if any(text and SURROGATE.search(text) for text in texts):  # which pyarrow takes as bytes only
        return [None if text is None else text.encode("utf-8", "surrogatepass") for text in texts]
    return texts

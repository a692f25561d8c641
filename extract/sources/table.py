"""A table whose rows are items: texts, or the paths of files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DecodeError, SourceError
from ..item import Item, content_digest
from .file import facts, read_file
from .labelling import SPLITS, UniqueIds

if TYPE_CHECKING:
    import pyarrow

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


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
        content = _read(path)
        self._values = {name: _column(path, content, name, getattr(table, name)) for name in COLUMNS}
        by_path = kind != "text" or self._values["text"] is None or (table.path is not None and table.text is None)
        self._content = "path" if by_path else "text"
        if self._values[self._content] is None:
            wanted = "'text' or 'path'" if kind == "text" else "'path'"
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
            content, label, split = self._cell(self._content, row), self._cell("label", row), self._cell("split", row)
            item = self._text(content) if self._content == "text" else self._file(content)
            identifier = unique(self._cell("id", row) or item.id)
            split = SPLITS.get(split.lower(), split) if split else None
            yield Item(identifier, item.read, label or None, split, item.size, item.mtime_ns)

    def _cell(self, name: str, row: int) -> str | None:
        column = self._values[name]
        return None if column is None else column[row]

    def _text(self, text: str | None) -> Item:
        return Item(f"text:{content_digest(text or '')[:32]}", partial(_present, text))

    def _file(self, name: str | None) -> Item:
        if not name:
            return Item("path:", partial(_present, None))
        path = str(self.path.parent / name)
        return Item(Path(name).as_posix(), partial(read_file, path), None, None, *facts(path))


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
    return [_text_of(value, path, name or field) for value in table[name or field].to_pylist()]


def _text_of(value: Any, path: Path, name: str) -> str | None:
    if value is None or value != value:  # NaN is not equal to itself
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, (list, dict)):
        raise SourceError(f"column {name!r} of table {path} holds a {type(value).__name__}; expected texts or numbers")
    return str(value)


def _read(path: Path) -> pyarrow.Table:
    """Read a table; the cells of text files stay the texts they are."""
    from pyarrow import ArrowException, csv, parquet

    if path.suffix not in TABLE_SUFFIXES:
        raise SourceError(f"source {path} is no table: expected one of {', '.join(TABLE_SUFFIXES)}")
    try:
        if path.suffix == ".parquet":
            return parquet.read_table(path)
        if path.suffix == ".jsonl":
            return _read_jsonl(path)
        return _read_csv(path, csv)
    except (ArrowException, OSError, ValueError, KeyError) as error:
        raise SourceError(f"table {path} cannot be read: {error}") from error


def _read_csv(path: Path, csv: Any) -> pyarrow.Table:
    import pyarrow as pa

    parse = csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",", newlines_in_values=True)
    with csv.open_csv(path, parse_options=parse) as reader:
        names = reader.schema.names
    texts = csv.ConvertOptions(column_types={name: pa.string() for name in names}, strings_can_be_null=False)
    table = csv.read_csv(path, parse_options=parse, convert_options=texts)
    if path.suffix == ".tsv" and any(map(_swallows_lines, table.columns)):
        raise SourceError(
            f"a cell of table {path} holds tabs and ends of lines: a quotation mark at its start was taken for "
            "quoting. Save it as .csv, with quotation marks inside cells doubled."
        )
    return table


def _swallows_lines(column: Any) -> bool:
    return any("\t" in text and "\n" in text for text in column.to_pylist() if text)


def _read_jsonl(path: Path) -> pyarrow.Table:
    """Read one object a line; pyarrow's own reader would take texts that look like dates for dates."""
    import pyarrow as pa

    rows = [json.loads(line) for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("expected an object in each line")
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pa.table({name: _texts(name, values) for name, values in columns.items()})


def _texts(name: str, values: list[Any]) -> list[str | None]:
    """Return the values of a column as texts; those of several types would be mixed up."""
    types = {type(value).__name__ for value in values if value is not None}
    if len(types) > 1 or types & {"list", "dict"}:
        raise ValueError(f"column {name!r} holds {', '.join(sorted(types))}; expected texts or numbers")
    return [None if value is None else str(value) for value in values]

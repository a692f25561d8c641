"""A table whose rows are items: text, or the paths of files."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DecodeError, SourceError
from .file import check_regular, file_item
from .identifiers import UniqueIds, storable_text
from .item import Item, content_id
from .item_kinds import ITEM_KINDS
from .path_labels import name_split, normalize_label
from .url import is_url, url_item

if TYPE_CHECKING:
    import pyarrow

EXPECTED_OF_SUFFIX = {
    ".csv": "UTF-8, and in each row as many cells as in the first",
    ".tsv": "UTF-8, and in each row as many cells as in the first",
    ".jsonl": "UTF-8, and in each line an object",
    ".parquet": "a whole Parquet file",
}
TABLE_SUFFIXES = tuple(EXPECTED_OF_SUFFIX)
CONTENT_COLUMNS = ("path", "image", "img", "bytes", "content")
"""Columns of Parquet files that may hold files themselves."""
CONTENT_FIELD = "content of a file"
"""What such a column is called while it is read."""
METADATA_COLUMN = "file_name"
"""Column of files in the tables of image folders of the hub of Hugging Face."""
PROBLEM_KEY = b"problem"
"""Metadata of a column of JSON lines that cannot be used: why."""
MAX_BLOCK_BYTES = 2**31 - 1
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
        The column that holds the items: files, relative to the table's folder, or text.
    label, id, split : str or None
    group, weight : str or None
        Columns of groups, which are held out together, and of the weights of items in training; none by default.

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
    group: str | None = None
    weight: str | None = None


TABLE_FIELDS = ("path", "text", "label", "id", "split")
OPTIONAL_FIELDS = ("group", "weight")
"""Columns that are read only if they are named."""


class TableSource:
    """The rows of a table, which is read at once, in their order.

    A path is its own id; a text has an id made from its content's digest, unless there is a column of ids.
    """

    ignored = 0

    def __init__(self, table: Table, kind: str = "image") -> None:
        self.path = Path(table.file)
        rows = read_rows(self.path)
        self.rows = rows
        if table.path is None and "path" not in rows.column_names and METADATA_COLUMN in rows.column_names:
            table = replace(table, path=METADATA_COLUMN)
        content = find_content_column(self.path, rows, table)
        if content is not None:
            rows = rows.set_column(rows.column_names.index(content), CONTENT_FIELD, rows[content])
            table = replace(table, path=None)
        self._columns = {field: read_column(self.path, rows, field, getattr(table, field)) for field in TABLE_FIELDS}
        for field in OPTIONAL_FIELDS:
            name = getattr(table, field)
            self._columns[field] = None if name is None else read_column(self.path, rows, field, name)

        # Texts are taken where the kind of input has them, unless only the column of paths was named.
        content_columns = ITEM_KINDS[kind].content_columns
        is_path_requested = table.path is not None and table.text is None
        self._has_texts = "text" in content_columns and self._columns["text"] is not None and not is_path_requested
        contents = self._columns["text" if self._has_texts else "path"]
        self._bytes = None
        if content is not None and not self._has_texts:
            contents = self._bytes = rows[CONTENT_FIELD].to_pylist()
        if contents is None:
            wanted = " or ".join(map(repr, content_columns))
            raise SourceError(
                f"table {self.path} has the columns {', '.join(rows.column_names)}; expected one called {wanted}, "
                "or its name (--text-column, --path-column)"
            )
        self._contents = contents

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._contents)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in the table's order."""
        unique = UniqueIds()
        make_item: Callable[[Any], Item] = text_item if self._has_texts else self.file_item
        if self._bytes is not None:
            make_item = self.content_item
        for row, content in enumerate(self._contents):
            item = make_item(content)
            label = self._storable_cell("label", row)
            split = self._storable_cell("split", row)
            if split is not None:
                split = name_split(split)
            yield replace(
                item,
                id=unique(self._storable_cell("id", row) or item.id),
                label=None if label is None else normalize_label(label),
                split=split,
                held_out_with=self._storable_cell("group", row),
                weight=self._storable_cell("weight", row),
            )

    def _storable_cell(self, field: str, row: int) -> str | None:
        """Return a cell as text that can be stored; None for an empty one, and where there is no such column."""
        column = self._columns[field]
        if column is None or not column[row]:
            return None
        return storable_text(str(column[row]))

    def file_item(self, name: str | None) -> Item:
        """Return the file of a row as an item."""
        if not name:
            return Item("path:", partial(_require_text, None))
        if is_url(name):
            return url_item(name)
        return file_item(storable_text(Path(name).as_posix()), str(self.path.parent / name))

    def content_item(self, content: bytes | dict[str, Any] | None) -> Item:
        """Return the file that a cell holds, as bytes or with its path, as an item."""
        path = None
        if isinstance(content, dict):
            path = content.get("path")
            content = content.get("bytes")
        if content is None:
            return self.file_item(path)
        read = partial(bytes, content)
        return Item(storable_text(path) if path else content_id("bytes", bytes(content)), read)


def find_content_column(path: Path, table: pyarrow.Table, named: Table) -> str | None:
    """Return the column of a Parquet file that holds files: their bytes, or ``datasets``' pairs of bytes and path."""
    from pyarrow import types

    if path.suffix.lower() != ".parquet":
        return None
    candidates = CONTENT_COLUMNS if named.path is None else (named.path,)
    for name in candidates:
        if table.column_names.count(name) == 1:
            kind = table.schema.field(name).type
            has_bytes = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
            is_bytes = name != "path" and (types.is_binary(kind) or types.is_large_binary(kind))  # paths may be bytes
            if has_bytes or is_bytes:
                return name
    return None


def text_item(text: str | None) -> Item:
    """Return the text of a row as an item."""
    return Item(content_id("text", text or ""), partial(_require_text, text))


def _require_text(text: str | None) -> str:
    if text is None:
        raise DecodeError("this row of the table is empty")
    return text


def read_column(path: Path, table: pyarrow.Table, field: str, requested: str | None) -> list[str | None] | None:
    """Return a column as text, None where the table has no value; None if there is no such column."""
    name = requested or field
    if requested is None and field not in table.column_names:
        return None
    if table.column_names.count(name) > 1:
        raise SourceError(f"table {path} has several columns {name!r}")
    if name not in table.column_names:
        raise SourceError(f"table {path} has no column {name!r}; it has {', '.join(table.column_names)}")
    problem = (table.schema.field(name).metadata or {}).get(PROBLEM_KEY)
    if problem:
        raise SourceError(f"table {path} cannot be used: {problem.decode()}.")
    values = to_whole_numbers(to_python_values(path, table, name))
    return [format_cell(value, path, name) for value in values]


def to_whole_numbers(values: list[Any]) -> list[Any]:
    """Return whole numbers that pandas made floats, as it does beside a gap, as integers again."""
    floats = [value for value in values if not _is_missing(value)]
    has_gap = len(floats) < len(values)
    if not has_gap or not all(isinstance(value, float) and value.is_integer() for value in floats):
        return values
    return [None if _is_missing(value) else int(value) for value in values]


def to_python_values(path: Path, table: pyarrow.Table, name: str) -> list[Any]:
    """Return the values of a column, None where a cell is empty."""
    from pyarrow import ArrowException

    try:
        values: list[Any] = to_microseconds(table[name]).to_pylist()
    except (ArrowException, ValueError, OverflowError) as error:
        raise SourceError(
            f"column {name!r} of table {path} holds a value that Python has no type for: "
            f"{str(error).rstrip('.')}. Expected texts or numbers; save the column as text."
        ) from error
    return values


def to_microseconds(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """Return a column without nanoseconds, which become a type of pandas where it is installed, else an error."""
    from pyarrow import duration, timestamp, types

    if types.is_timestamp(column.type) and column.type.unit == "ns":
        return column.cast(timestamp("us", column.type.tz))
    if types.is_duration(column.type) and column.type.unit == "ns":
        return column.cast(duration("us"))
    return column


def format_cell(value: Any, path: Path, name: str) -> str | None:
    """Return a value as text; bytes that are not UTF-8 stay in it as surrogates, so that their item fails alone."""
    if _is_missing(value):
        return None
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if isinstance(value, (list, dict)):
        raise SourceError(f"column {name!r} of table {path} holds a {type(value).__name__}; expected texts or numbers")
    return str(value)


def names_files(path: Path) -> bool:
    """Return whether a table has the column of files that the hub of Hugging Face defines."""
    from pyarrow import parquet

    if path.suffix.lower() == ".parquet":
        return METADATA_COLUMN in parquet.read_schema(path).names
    with open(path, encoding="utf-8-sig", errors="replace") as stream:
        return METADATA_COLUMN in re.findall(r"\w+", stream.readline())


def read_rows(path: Path) -> pyarrow.Table:
    """Read a table; the cells of text files are read as text. Raise a SourceError if it is no table, or damaged."""
    from pyarrow import ArrowException, parquet

    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise SourceError(f"source {path} is no table: expected one of {', '.join(TABLE_SUFFIXES)}")
    try:
        size = check_regular(path)
        if suffix == ".parquet":
            with parquet.ParquetFile(path) as file:
                return file.read()
        if suffix == ".jsonl":
            return read_jsonl(path)
        return read_csv(path, size)
    except (ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        cause = str(error).rstrip(".") or "it does not fit into memory"
        expected = EXPECTED_OF_SUFFIX[suffix]
        raise SourceError(f"table {path} cannot be read: {cause}. Expected {expected}.") from error


def read_csv(path: Path, size: int) -> pyarrow.Table:
    """Read a .csv or .tsv file of so many bytes; all cells are text."""
    from pyarrow import ArrowInvalid

    try:
        table = _parse_csv(path)
    except ArrowInvalid:  # a cell may be longer than a block; and a single thread reports the row
        table = _parse_csv(path, block_size=min(size + 1, MAX_BLOCK_BYTES), use_threads=False)
    if path.suffix.lower() == ".tsv" and any(has_swallowed_lines(column) for column in table.columns):
        raise SourceError(
            f"a cell of table {path} holds tabs and ends of lines: a quotation mark at its start was taken for "
            "quoting. Save it as .csv, with quotation marks inside cells doubled."
        )
    return table


def _parse_csv(path: Path, block_size: int | None = None, use_threads: bool = True) -> pyarrow.Table:
    """Read all cells as text."""
    import pyarrow as pa
    from pyarrow import csv

    read = csv.ReadOptions(block_size=block_size, use_threads=use_threads)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with csv.open_csv(path, read_options=read, parse_options=parse) as reader:
        names = reader.schema.names
    convert = csv.ConvertOptions(column_types={name: pa.string() for name in names}, strings_can_be_null=False)
    return csv.read_csv(path, read_options=read, parse_options=parse, convert_options=convert)


def has_swallowed_lines(column: Any) -> bool:
    """Return whether a cell holds both tabs and ends of lines."""
    return any("\t" in text and "\n" in text for text in column.to_pylist() if text)


def read_jsonl(path: Path) -> pyarrow.Table:
    """Read one object a line; pyarrow's own reader would take texts that look like dates for dates."""
    import pyarrow as pa

    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.strip():
            rows.append(parse_json_line(line, number))
    columns = []
    fields = []
    for name in dict.fromkeys(itertools.chain.from_iterable(rows)):
        values = [row.get(name) for row in rows]
        problem = find_mixed_types(name, values)
        columns.append(pa.array(format_column(values)))
        fields.append(pa.field(name, columns[-1].type, metadata={PROBLEM_KEY: problem} if problem else None))
    return pa.table(columns, schema=pa.schema(fields))


def parse_json_line(line: str, number: int) -> dict[str, Any]:
    """Parse the object in a line; raise a ValueError that names the line if there is none."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg} in line {number}, column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{error} in line {number}") from error
    if not isinstance(row, dict):
        raise ValueError(f"a {type(row).__name__} in line {number}")
    return row


def find_mixed_types(name: str, values: list[Any]) -> str:
    """Return why a column cannot be used: it would mix up values of several types; "" if it can."""
    types = {type(value).__name__ for value in values if not _is_missing(value)}
    if types == {"int", "float"}:
        return ""
    if len(types) > 1 or types & {"list", "dict"}:
        return f"column {name!r} holds {', '.join(sorted(types))}; expected texts or numbers"
    return ""


def format_column(values: list[Any]) -> list[str | None] | list[bytes | None]:
    """Return the values of a column as text, None for NaN; of integers beside other numbers all are floats."""
    present = [value for value in values if not _is_missing(value)]
    if {type(value) for value in present} == {int, float}:
        values = [None if _is_missing(value) else float(value) for value in values]
    texts = [None if _is_missing(value) else str(value) for value in values]
    if any(text and SURROGATE.search(text) for text in texts):  # which pyarrow takes as bytes only
        return [None if text is None else text.encode("utf-8", "surrogatepass") for text in texts]
    return texts


def _is_missing(value: Any) -> bool:
    return value is None or value != value  # NaN is not equal to itself

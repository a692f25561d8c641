"""The files of tables: their rows as a table of Arrow, and the cells of a column as text."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import SourceError
from .embedded import ArrowCells, Cells, ParquetCells, holds_bytes, holds_paths
from .file import check_regular

if TYPE_CHECKING:
    import pyarrow

EXPECTED_OF_SUFFIX = {
    ".csv": "UTF-8, and in each row as many cells as in the first",
    ".tsv": "UTF-8, and in each row as many cells as in the first",
    ".jsonl": "UTF-8, and in each line an object",
    ".parquet": "a whole Parquet file",
    ".arrow": "a whole file or stream of Arrow",
}
TABLE_SUFFIXES = tuple(EXPECTED_OF_SUFFIX)
DATASETS_STATE = "state.json"
"""File of a folder that ``datasets`` saved: it names the files of Arrow beside it."""
DATASETS_INFO = "dataset_info.json"
ARROW_FILE_MAGIC = b"ARROW1"
PROBLEM_KEY = b"problem"
"""Metadata of a column of JSON lines that cannot be used: why."""
PATH_COLUMN = "path"
"""Column of paths, which may be bytes, or of files themselves."""
LEFT_OUT = {b"left out": b"yes"}
"""Metadata of a column whose values are the contents of files, which are not in memory."""
MAX_BLOCK_BYTES = 2**31 - 1
"""Bytes of text that pyarrow takes at a time."""
MAX_EMPTY_CELLS = 1_000_000
MAX_CELLS_PER_VALUE = 10
"""Cells that a table of JSON lines may have for each value in it, beyond so many empty ones."""
SURROGATE = re.compile("[\ud800-\udfff]")


def read_column(path: Path, table: pyarrow.Table, field: str, requested: str | None) -> list[str | None] | None:
    """Return a column as text, None where the table has no value; None if there is no such column."""
    name = requested or field
    if requested is None and field not in table.column_names:
        return None
    return [format_cell(value, path, name) for value in read_values(path, table, name)]


def read_values(path: Path, table: pyarrow.Table, name: str) -> list[Any]:
    """Return the values of a column, None where a cell is empty."""
    if table.column_names.count(name) > 1:
        raise SourceError(f"table {path} has several columns {name!r}")
    if name not in table.column_names:
        raise SourceError(f"table {path} has no column {name!r}; it has {', '.join(table.column_names)}")
    problem = (table.schema.field(name).metadata or {}).get(PROBLEM_KEY)
    if problem:
        raise SourceError(f"table {path} cannot be used: {problem.decode()}.")
    return to_whole_numbers(to_python_values(path, table, name))


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


def has_column(path: Path, name: str) -> bool:
    """Return whether a table has a column, without reading its rows; of JSON lines the first one is read."""
    from pyarrow import ArrowException, parquet

    if path.suffix.lower() == ".parquet":
        try:
            return name in parquet.read_schema(path).names
        except ArrowException as error:
            raise SourceError(f"table {path} cannot be read: {error}. Expected a whole Parquet file.") from error
    with open(path, encoding="utf-8-sig", errors="replace") as stream:
        return name in re.findall(r"\w+", stream.readline())


def read_rows(path: Path, keep: Collection[str] | None = None) -> pyarrow.Table:
    """Read a table; the cells of text files are read as text. Raise a SourceError if it is no table, or damaged.

    A folder that ``datasets`` saved is a table as well. If the columns to `keep` are named, others of a Parquet file
    that hold the contents of files are left out: their cells are empty, see :func:`open_cells`.
    """
    from pyarrow import ArrowException

    suffix = ".arrow" if is_datasets_folder(path) else path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise SourceError(
            f"source {path} is no table, but columns are named; expected one of {', '.join(TABLE_SUFFIXES)}, or no "
            "names of columns"
        )
    try:
        return _read_rows(path, suffix, keep)
    except FileNotFoundError as error:
        raise SourceError(
            f"table {path} does not exist; check its name. Expected a {', '.join(TABLE_SUFFIXES)}"
        ) from error
    except (ArrowException, OSError, ValueError, KeyError, OverflowError, MemoryError) as error:
        cause = str(error).rstrip(".") or "it does not fit into memory"
        expected = EXPECTED_OF_SUFFIX[suffix]
        raise SourceError(f"table {path} cannot be read: {cause}. Expected {expected}.") from error


def _read_rows(path: Path, suffix: str, keep: Collection[str] | None) -> pyarrow.Table:
    if is_datasets_folder(path):
        return read_datasets_folder(path)
    size = check_regular(path)
    if suffix == ".parquet":
        return read_parquet(path, keep)
    if suffix == ".arrow":
        return read_arrow(path)
    if suffix == ".jsonl":
        return read_jsonl(path)
    return read_csv(path, size)


def read_parquet(path: Path, keep: Collection[str] | None) -> pyarrow.Table:
    """Read a Parquet file, without the columns of the contents of files beside those to `keep`; None keeps all."""
    import pyarrow as pa
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        fields = list(file.schema_arrow)
        left_out = find_contents(path, file.schema_arrow, keep)
        if not left_out:
            return file.read()
        n_rows = file.metadata.num_rows
        rows = file.read(columns=[field.name for field in fields if field.name not in left_out])
    columns = []
    for position, field in enumerate(fields):
        if field.name in left_out:
            fields[position] = field.with_metadata(LEFT_OUT)
            columns.append(pa.nulls(n_rows, field.type))
        else:
            columns.append(rows[field.name])
    return pa.table(columns, schema=pa.schema(fields, rows.schema.metadata))


def find_contents(path: Path, schema: pyarrow.Schema, keep: Collection[str] | None) -> set[str]:
    """Return the columns of a Parquet file that hold the contents of files, beside those to `keep`; None keeps all."""
    if keep is None:
        return set()
    names = {field.name for field in schema if holds_bytes(field.type)} - set(keep)
    if PATH_COLUMN in names and holds_paths(ParquetCells(path, PATH_COLUMN)):
        names.remove(PATH_COLUMN)
    return names


def open_cells(path: Path, rows: pyarrow.Table, name: str) -> Cells:
    """Return the values of a column of a table that was read, from the file if they were left out."""
    is_left_out = rows.schema.field(name).metadata == LEFT_OUT
    return ParquetCells(path, name) if is_left_out else ArrowCells(rows[name])


def is_datasets_folder(path: Path) -> bool:
    """Return whether a folder is one that ``datasets`` saved."""
    return (path / DATASETS_STATE).is_file() and (path / DATASETS_INFO).is_file()


def read_datasets_folder(path: Path) -> pyarrow.Table:
    """Read the files that the state of a folder of ``datasets`` names, one below the other, mapped into memory."""
    import pyarrow as pa

    state = json.loads((path / DATASETS_STATE).read_bytes())
    if state.get("_indices_data_files"):
        raise ValueError("it selects rows by an index; call flatten_indices() before save_to_disk()")
    names = [Path(entry["filename"]).name for entry in state["_data_files"]]
    return pa.concat_tables(read_arrow(path / name) for name in names)


def read_arrow(path: Path) -> pyarrow.Table:
    """Read a file or a stream of Arrow, mapped into memory; raise an ArrowInvalid for lengths that reach beyond it."""
    import pyarrow as pa

    mapped = pa.memory_map(str(path))
    is_file = mapped.read(len(ARROW_FILE_MAGIC)) == ARROW_FILE_MAGIC
    mapped.seek(0)
    reader = pa.ipc.open_file(mapped) if is_file else pa.ipc.open_stream(mapped)
    table = reader.read_all()
    table.validate(full=True)  # reading cells at other places would end the process
    return table


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
    for name, cells in collect_cells(rows).items():
        values = list(cells.values())
        problem = find_mixed_types(name, values)
        texts: list[Any] = [None] * len(rows)
        for row, text in zip(cells, format_column(values), strict=True):
            texts[row] = text
        columns.append(pa.array(texts))
        fields.append(pa.field(name, columns[-1].type, metadata={PROBLEM_KEY: problem} if problem else None))
    return pa.table(columns, schema=pa.schema(fields))


def collect_cells(rows: list[dict[str, Any]]) -> dict[str, dict[int, Any]]:
    """Return the values that are not missing of each column, by row; raise a ValueError if most are missing."""
    columns: dict[str, dict[int, Any]] = {}
    for number, row in enumerate(rows):
        for name, value in row.items():
            cells = columns.setdefault(name, {})
            if not _is_missing(value):
                cells[number] = value
    check_sparsity(rows, columns)
    return columns


def check_sparsity(rows: list[dict[str, Any]], names: Collection[str]) -> None:
    """Raise a ValueError for a table most of whose cells are empty: a small file could have any number of them."""
    n_cells = len(rows) * len(names)
    n_present = sum(map(len, rows))
    if n_cells > MAX_EMPTY_CELLS + MAX_CELLS_PER_VALUE * n_present:
        raise ValueError(f"its {len(rows):,} rows have {len(names):,} names, most of which occur in few rows")


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
    types = {type(value).__name__ for value in values}
    if types == {"int", "float"} or is_column_of_lists(values):
        return ""
    if len(types) > 1 or types & {"list", "dict"}:
        return f"column {name!r} holds {', '.join(sorted(types))}; expected texts in all rows, or numbers in all"
    return ""


def is_column_of_lists(values: list[Any]) -> bool:
    """Return whether all values, of which none is missing, are lists of texts and integers."""
    if not values or not all(isinstance(value, list) for value in values):
        return False
    return all(isinstance(part, str | int) for value in values for part in value)


def format_column(values: list[Any]) -> list[Any]:
    """Return the values of a column, of which none is missing, as text.

    Of integers beside other numbers all are floats. The parts of lists are texts.
    """
    if is_column_of_lists(values):
        return [[str(part) for part in value] for value in values]
    if {type(value) for value in values} == {int, float}:
        values = [float(value) for value in values]
    texts = [str(value) for value in values]
    if any(SURROGATE.search(text) for text in texts):  # which pyarrow takes as bytes only
        return [text.encode("utf-8", "surrogatepass") for text in texts]
    return texts


def _is_missing(value: Any) -> bool:
    return value is None or value != value  # NaN is not equal to itself

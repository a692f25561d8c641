"""Files in a column of a typed table: their bytes, or ``datasets``' pairs of bytes and path.

Of a Parquet file a few rows are in memory at a time; the columns of Arrow are mapped into memory.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate, chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ...errors import DecodeError, SourceError, reason
from .identifiers import storable_text
from .item import Item, content_id

if TYPE_CHECKING:
    import pyarrow

MAX_PATH_BYTES = 4096
"""Longest path of Linux."""
BATCH_ROWS = 16
BUFFER_BYTES = 1_000_000
MIN_KEPT_BATCHES = 4
KEPT_BYTES = 16_000_000
"""Size of the batches that are kept beyond these, as several threads read rows that are near to each other."""


class Cells(Protocol):
    """The values of a column, of which each can be read."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def __getitem__(self, row: int) -> Any:
        """Return the value of a row."""

    def iterate(self) -> Iterator[Any]:
        """Yield the values of all rows."""

    def list_paths(self) -> list[str] | None:
        """Return the paths beside the contents, without reading these; None if a cell lacks one of both."""


class ArrowCells:
    """The values of a column of Arrow."""

    def __init__(self, column: pyarrow.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._column)

    def __getitem__(self, row: int) -> Any:
        """Return the value of a row."""
        return self._column[row].as_py()

    def iterate(self) -> Iterator[Any]:
        """Yield the values of all rows."""
        return (value.as_py() for value in self._column)

    def list_paths(self) -> list[str] | None:
        """Return None: contents that are mapped into memory need not be spared."""
        return None


class ParquetCells:
    """The values of a column of a Parquet file, of which the batches that were read last are kept in memory.

    The file stays open: another that replaces it changes nothing.
    """

    def __init__(self, path: Path, column: str) -> None:
        from pyarrow.fs import LocalFileSystem

        self._path = path
        self._column = column
        self._handle = LocalFileSystem().open_input_file(str(path))
        self._file = self._open()
        groups = [self._file.metadata.row_group(number) for number in range(self._file.num_row_groups)]
        self._group_starts = [0, *accumulate(group.num_rows for group in groups)]
        self._lock = Lock()
        self._batches: Iterator[pyarrow.Array] = iter(())
        self._next_row = 0
        self._kept: deque[tuple[int, pyarrow.Array]] = deque()

    def __len__(self) -> int:
        """Return the number of rows."""
        n_rows: int = self._group_starts[-1]
        return n_rows

    def __getitem__(self, row: int) -> Any:
        """Return the value of a row; rows in order are read once."""
        with self._lock:
            first, batch = self._find_batch(row)
        return batch[row - first].as_py()

    def iterate(self) -> Iterator[Any]:
        """Yield the values of all rows."""
        batches = self._read_batches(self._open(), 0)
        return (value.as_py() for value in chain.from_iterable(batches))

    def list_paths(self) -> list[str] | None:
        """Return the paths beside the contents, without reading these; None if a cell lacks one of both."""
        from pyarrow import compute

        names = self._file.schema
        leaves = {names.column(number).path: number for number in range(len(names))}
        if f"{self._column}.path" not in leaves or not self._is_complete(leaves[f"{self._column}.bytes"]):
            return None
        pairs = self._open().read(columns=[f"{self._column}.path"])[self._column]
        paths = compute.struct_field(pairs, "path")
        has_gap = paths.null_count > 0 or compute.any(compute.equal(paths, "")).as_py()
        return None if has_gap else paths.to_pylist()

    def _is_complete(self, leaf: int) -> bool:
        """Return whether the file's statistics say that a column has no missing values."""
        metadata = self._file.metadata
        for number in range(self._file.num_row_groups):
            statistics = metadata.row_group(number).column(leaf).statistics
            if statistics is None or not statistics.has_null_count or statistics.null_count:
                return False
        return True

    def _open(self) -> Any:
        from pyarrow import parquet

        return parquet.ParquetFile(self._handle, buffer_size=BUFFER_BYTES, pre_buffer=False)

    def _read_batches(self, file: Any, group: int) -> Iterator[pyarrow.Array]:
        """Yield the batches of a group of rows and of those that follow it."""
        from pyarrow import ArrowException

        groups = range(group, file.num_row_groups)
        try:
            for batch in file.iter_batches(BATCH_ROWS, groups, columns=[self._column], use_threads=False):
                yield batch.column(0)
        except (ArrowException, OSError) as error:
            raise SourceError(
                f"column {self._column!r} of table {self._path} cannot be read: {reason(error)}. Expected a whole "
                "Parquet file; write it again."
            ) from error

    def _find_batch(self, row: int) -> tuple[int, pyarrow.Array]:
        """Return the batch of a row, and the row that it begins with."""
        for first, batch in self._kept:
            if first <= row < first + len(batch):
                return first, batch
        group = bisect_right(self._group_starts, row) - 1
        is_behind = row < self._next_row
        is_in_later_group = self._group_starts[group] > self._next_row
        if is_behind or is_in_later_group or not self._kept:
            self._next_row = self._group_starts[group]
            self._batches = self._read_batches(self._file, group)
        self._read_up_to(row)
        return self._kept[-1]

    def _read_up_to(self, row: int) -> None:
        """Read batches until the last one holds a row; after a failure the next call begins anew."""
        kept = self._kept
        self._kept = deque()
        while row >= self._next_row:
            kept.append((self._next_row, next(self._batches)))
            self._next_row += len(kept[-1][1])
            while len(kept) > MIN_KEPT_BATCHES and sum(batch.nbytes for _, batch in kept) > KEPT_BYTES:
                kept.popleft()
        self._kept = kept


class Name(NamedTuple):
    """What the file in a cell is called: an identifier, or where the cell has no content, its path, if any."""

    identifier: str = ""
    path: str | None = None


class EmbeddedFiles:
    """The files in the cells of a column as items; `file_item` makes an item of a cell that has a path alone."""

    def __init__(self, cells: Cells, file_item: Callable[[str | None], Item]) -> None:
        self._cells = cells
        self._file_item = file_item
        self._names: list[Name] | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._cells)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items; their names are remembered, as they may be digests of the contents."""
        paths = self._cells.list_paths() if self._names is None else None
        if paths is not None:
            self._names = [Name(storable_text(path)) for path in paths]
        if self._names is not None:
            yield from map(self._make_item, range(len(self)), self._names)
            return
        names = []
        for row, cell in enumerate(self._cells.iterate()):
            names.append(name_cell(cell))
            yield self._make_item(row, names[-1])
        self._names = names

    def _make_item(self, row: int, name: Name) -> Item:
        if not name.identifier:
            return self._file_item(name.path)
        return Item(name.identifier, partial(self._read, row))

    def _read(self, row: int) -> bytes:
        try:
            _, content = split_cell(self._cells[row])
        except SourceError as error:
            raise DecodeError(str(error)) from error
        return content or b""


def name_cell(cell: Any) -> Name:
    """Return the name of the file in a cell: its path, or an identifier made from its content."""
    path, content = split_cell(cell)
    if content is None:
        return Name(path=path)
    return Name(storable_text(path) if path else content_id("bytes", content))


def split_cell(cell: Any) -> tuple[str | None, bytes | None]:
    """Return the path and the content of the file in a cell, None for what it lacks."""
    if isinstance(cell, dict):
        return cell.get("path"), cell.get("bytes")
    return None, cell


def holds_bytes(kind: pyarrow.DataType) -> bool:
    """Return whether values of a type may be files: bytes, or pairs of bytes and path."""
    from pyarrow import types

    is_pair = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    return bool(is_pair or types.is_binary(kind) or types.is_large_binary(kind))


def holds_paths(cells: Cells) -> bool:
    """Return whether the first value of a column is the path of a file, in bytes: one line of text."""
    first = next((cell for cell in cells.iterate() if cell is not None), None)
    if not isinstance(first, bytes):
        return False
    return 0 < len(first) <= MAX_PATH_BYTES and min(first) >= ord(" ")

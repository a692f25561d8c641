"""A part: the items of one unit of work with their feature matrices, written once and never changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...atomic import new_folder
from ...errors import MissingFileError, StoreDamagedError
from ...identity import digest_of_file
from .remote_copy import provide

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

ITEMS_FILE = "items.parquet"
DAMAGE_REMEDY = (
    "`topwork store verify` lists what is affected; restore the file from a copy, or `topwork store repair`."
)


@dataclass(frozen=True)
class Row:
    """One item of a part.

    `digest` is the SHA-256 of the item's content, "" if it could not be read. `status` is "ok", "failed", "duplicate"
    or "pending"; pending items have to be computed again, because their features were damaged. `reason` says why the
    item failed; for a duplicate it is the id of its original. `row` is the item's row in the part's matrices; failed
    and pending items have none. An unchanged file is recognised by `size` and `mtime_ns`. `group` is the id of the item
    that this is a view of.
    """

    id: str
    digest: str
    status: str
    reason: str | None = None
    row: int | None = None
    label: str | None = None
    split: str | None = None
    size: int | None = None
    mtime_ns: int | None = None
    group: str | None = None


@dataclass(frozen=True)
class WrittenPart:
    """A part on disk that is not in the log yet: its folder within the store, items, and SHA-256 of its files.

    The files are named by their paths within the store.
    """

    folder: str
    n_items: int
    files: Mapping[str, str]


ROW_FIELDS = tuple(field.name for field in fields(Row))


def format_part_name(number: int) -> str:
    """Return a part's folder within the store, such as ``parts/p000001``."""
    return f"parts/p{number:06d}"


def parse_part_number(name: str) -> int:
    """Return the number in a part's name."""
    return int(name.rpartition("/p")[2])


def rows_to_table(rows: Sequence[Row]) -> pyarrow.Table:
    """Return rows as a table with a column for each field of :class:`Row`."""
    import pyarrow as pa

    types = {"row": pa.int32(), "size": pa.int64(), "mtime_ns": pa.int64()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in ROW_FIELDS])
    columns = {name: [getattr(row, name) for row in rows] for name in ROW_FIELDS}
    return pa.Table.from_pydict(columns, schema=schema)


def write_part(folder: Path, items: pyarrow.Table, matrices: Mapping[str, NDArray[Any]]) -> list[Path]:
    """Write a part, whole or not at all, and return its files.

    `items` come from :func:`rows_to_table`; each of `matrices`, by the column's key, has shape (n_rows, n_features).
    """
    with new_folder(folder) as temporary:
        write_table(temporary / ITEMS_FILE, items)
        for key, matrix in matrices.items():
            little_endian = matrix.dtype.newbyteorder("<")
            write_matrix(temporary / f"{key}.npy", np.ascontiguousarray(matrix, little_endian))
    return [folder / ITEMS_FILE, *(folder / f"{key}.npy" for key in matrices)]


def write_unnamed_part(
    root: Path, part: str, items: pyarrow.Table, matrices: Mapping[str, NDArray[Any]]
) -> WrittenPart:
    """Write a part of the store in a folder, see :func:`write_part`, which the log does not name yet.

    Raise a FileExistsError if there is one of that name.
    """
    files = write_part(root / part, items, matrices)
    return WrittenPart(part, len(items), {path.relative_to(root).as_posix(): digest_of_file(path) for path in files})


def write_matrix(path: Path, matrix: NDArray[Any]) -> None:
    """Write a ``.npy``; :func:`numpy.save` reports no error when the last bytes do not fit on the disk."""
    with open(path, "wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(matrix))
        stream.write(matrix.data)


def write_table(path: Path, table: pyarrow.Table) -> None:
    """Write a table as Parquet."""
    from pyarrow import parquet

    parquet.write_table(table, path, compression="zstd")


def write_tables(path: Path, tables: Iterable[pyarrow.Table]) -> None:
    """Write at least one table, all with the same columns, as Parquet, one below the other."""
    from pyarrow import parquet

    tables = iter(tables)
    first = next(tables)
    with parquet.ParquetWriter(path, first.schema, compression="zstd") as writer:
        for table in chain([first], tables):
            writer.write_table(table)


def read_items(folder: Path) -> pyarrow.Table:
    """Read the items of a part, with at least the fields of :class:`Row`."""
    import pyarrow as pa

    path = folder / ITEMS_FILE
    table = read_table(path)
    if "group" not in table.column_names:  # written by a version without views
        table = table.append_column("group", pa.nulls(len(table), pa.string()))
    if not set(ROW_FIELDS) <= set(table.column_names):
        found = ", ".join(table.column_names)
        raise StoreDamagedError(f"{path} has the columns {found}; expected {', '.join(ROW_FIELDS)}")
    return table


def read_table(path: Path) -> pyarrow.Table:
    """Read a Parquet file of a store; raise a StoreDamagedError if it is missing or damaged."""
    from pyarrow import ArrowException, parquet

    with _reading(path, ArrowException):
        return parquet.read_table(provide(path), partitioning=None)


def open_matrix(folder: Path, key: str) -> NDArray[np.floating[Any]]:
    """Map one matrix of a part into memory, read-only; raise a StoreDamagedError if it is missing or damaged."""
    path = folder / f"{key}.npy"
    with _reading(path, EOFError, ValueError):
        matrix: NDArray[np.floating[Any]] = np.load(provide(path), mmap_mode="r", allow_pickle=False)
        if matrix.ndim != 2:
            raise ValueError(f"it holds an array of shape {matrix.shape}")
        return matrix


@contextmanager
def _reading(path: Path, *damage_errors: Any) -> Iterator[None]:
    """Turn errors of reading a file into errors of the store that name the remedy."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing. {DAMAGE_REMEDY}") from error
    except PermissionError as error:
        raise StoreDamagedError(f"{path} may not be read: check its permissions.") from error
    except (OSError, *damage_errors) as error:
        raise StoreDamagedError(f"{path} is truncated or damaged: {error}. {DAMAGE_REMEDY}") from error

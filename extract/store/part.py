"""A part: the items of one unit of work with their feature matrices, written once and never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import StoreDamagedError
from ..atomic import new_folder

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

ITEMS_FILE = "items.parquet"


@dataclass(frozen=True)
class Row:
    """One item of a part.

    Parameters
    ----------
    id, digest : str
        The digest is of the item's content.
    status : {"ok", "failed", "duplicate"}
    reason : str or None
        Why it failed; the id of the original of a duplicate.
    row : int or None
        Its row in the part's matrices; failed items have none.
    label, split : str or None
    size, mtime_ns : int or None
        Of the file, to recognise it unchanged.
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


def _schema() -> pyarrow.Schema:
    import pyarrow as pa

    kinds = {"row": pa.int32(), "size": pa.int64(), "mtime_ns": pa.int64()}
    return pa.schema([(field.name, kinds.get(field.name, pa.string())) for field in fields(Row)])


def write_part(folder: Path, rows: Sequence[Row], matrices: Mapping[str, NDArray[Any]]) -> list[Path]:
    """Write a part, whole or not at all.

    Parameters
    ----------
    folder : Path
        ``parts/p000001``; must not exist.
    rows : sequence of Row
    matrices : dict
        A matrix ``(n_rows, n_features)`` for each column's key.

    Returns
    -------
    list of Path
        The files of the part.
    """
    import pyarrow as pa
    from pyarrow import parquet

    with new_folder(folder) as temporary:
        schema = _schema()
        columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
        table = pa.Table.from_pydict(columns, schema=schema)
        parquet.write_table(table, temporary / ITEMS_FILE, compression="zstd")
        for key, matrix in matrices.items():
            np.save(temporary / f"{key}.npy", np.ascontiguousarray(matrix, matrix.dtype.newbyteorder("<")))
    return [folder / ITEMS_FILE, *(folder / f"{key}.npy" for key in matrices)]


def read_rows(folder: Path) -> list[Row]:
    """Read the items of a part.

    Raises
    ------
    StoreDamagedError
        If the file is missing or damaged.
    """
    from pyarrow import ArrowException, parquet

    try:
        return [Row(**fields) for fields in parquet.read_table(folder / ITEMS_FILE).to_pylist()]
    except (OSError, ArrowException, TypeError) as error:
        raise _damaged(folder / ITEMS_FILE, error) from error


def open_matrix(folder: Path, key: str) -> NDArray[np.float32]:
    """Map one matrix of a part into memory, read-only.

    Raises
    ------
    StoreDamagedError
        If the file is missing or damaged.
    """
    try:
        matrix: NDArray[np.float32] = np.load(folder / f"{key}.npy", mmap_mode="r", allow_pickle=False)
        return matrix
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(folder / f"{key}.npy", error) from error


def _damaged(path: Path, error: Exception) -> StoreDamagedError:
    return StoreDamagedError(
        f"{path} is missing or damaged: {error}. `topwork store verify` lists what is affected; "
        "restore the file from a copy."
    )

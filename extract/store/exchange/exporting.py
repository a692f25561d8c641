"""Write a store's rows for other tools: Parquet, Arrow IPC, or a folder that Hugging Face ``datasets`` reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....atomic import new_file, new_folder
from ....errors import InputError
from ....identity import digest
from ...graphs.cut import Column
from ..content import StoreContent
from ..segment import SOURCE_LABELS

if TYPE_CHECKING:
    import pyarrow

METADATA_KEY = "topwork"
"""Key in the schema's metadata for the origin of the rows."""
BYTES_PER_BATCH = 32 * 2**20
"""Approximate size of the rows held in memory."""
BYTES_PER_SHARD = 500 * 10**6
"""Approximate size of one file of ``datasets``."""


def export_store(
    store: StoreContent,
    path: str | Path,
    format: str = "parquet",  # noqa: A002 - the name that users and other libraries use
    columns: Sequence[str | Column] | None = None,
) -> None:
    """Write the items that have features with their features, a batch at a time; see :meth:`FeatureStore.export`.

    A row has id, digest, label, split, group, the other labels, status, duplicate_of (an id), and for each column a
    list of its width. Fingerprint and columns of the store are in the schema's metadata, under ``topwork``.
    """
    path = Path(path)
    if format not in WRITERS:
        raise InputError(f"format {format!r}: expected one of {', '.join(WRITERS)}")
    _require_free(path)
    if columns is None:
        columns = store.columns
    rows = ExportedRows(store, columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        WRITERS[format](path, rows)
    except FileExistsError:  # another process was faster
        _require_free(path)
        raise


def _require_free(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise InputError(f"{path} exists already, and is not overwritten; choose another name, or remove it")


class ExportedRows:
    """The rows of an export, read on access in tables of about `bytes_per_batch` bytes.

    Repeated columns are exported once. The metadata of ``schema`` name the origin of the rows; ``version`` is the
    digest of the store's state and the columns.
    """

    def __init__(
        self, store: StoreContent, columns: Sequence[str | Column], bytes_per_batch: int = BYTES_PER_BATCH
    ) -> None:
        self.bytes_per_batch = bytes_per_batch
        self.matrices = {}
        for column in columns:
            name = column.name if isinstance(column, Column) else column
            self.matrices[name] = store.matrix(column)
        self.label_names = store.label_names
        self.items = build_item_table(store)
        check_names_are_unique([*self.items.column_names, *self.matrices])
        own_columns = {column.name: column.to_json() for column in store.columns}
        origin = {"fingerprint": digest(store.identity), "columns": [own_columns[name] for name in self.matrices]}
        self.schema = self._table(0, 0).schema.with_metadata({METADATA_KEY: json.dumps(origin)})
        self.version = digest([origin, store.entries[-1].digest])

    def __len__(self) -> int:
        return int(self.items.num_rows)

    @property
    def bytes_per_row(self) -> int:
        """Approximate size of a row."""
        feature_bytes = sum(int(matrix.shape[1]) * matrix.dtype.itemsize for matrix in self.matrices.values())
        item_bytes = int(self.items.nbytes) // max(len(self), 1)
        return feature_bytes + item_bytes + 1

    def tables(self, start: int, stop: int) -> Iterator[pyarrow.Table]:
        """Yield rows as tables of about :attr:`bytes_per_batch`."""
        size = max(1, self.bytes_per_batch // self.bytes_per_row)
        for first in range(start, stop, size):
            yield self._table(first, min(first + size, stop))

    def _table(self, start: int, stop: int) -> pyarrow.Table:
        table = self.items.slice(start, stop - start)
        for name, matrix in self.matrices.items():
            features = np.ascontiguousarray(matrix[start:stop])
            table = table.append_column(name, rows_to_lists(features))
        return table


def rows_to_lists(matrix: np.ndarray[Any, Any]) -> pyarrow.FixedSizeListArray:
    """Return rows as lists, without copying them."""
    import pyarrow as pa

    values = pa.array(matrix.reshape(-1))  # (n_rows, width) -> (n_rows * width,)
    return pa.FixedSizeListArray.from_arrays(values, type=pa.list_(values.type, matrix.shape[1]))


def build_item_table(store: StoreContent) -> pyarrow.Table:
    """Return the items that have features as a table, without their features."""
    import pyarrow as pa

    status = store.index.column("status")
    reasons = store.index.column("reason")
    duplicate_of = [reason if end == "duplicate" else None for reason, end in zip(reasons, status, strict=True)]
    user_labels = [name for name in store.label_names if name not in SOURCE_LABELS]
    columns = [
        ("id", build_text_array(store.ids)),
        ("digest", build_text_array(store.index.column("digest"))),
        *((name, build_label_array(store, name)) for name in SOURCE_LABELS),
        ("group", build_text_array(store.sounds or store.groups)),
        *((name, build_label_array(store, name)) for name in user_labels),
        ("status", build_text_array(status)),
        ("duplicate_of", build_text_array(duplicate_of)),
    ]
    check_names_are_unique([name for name, _ in columns])
    return pa.table(dict(columns))


def check_names_are_unique(names: Sequence[str]) -> None:
    """Raise an error if two columns of an export have one name."""
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise InputError(
            f"an export would have several columns {name!r}; choose among the columns of features, or give the labels "
            "another name"
        )


def build_text_array(texts: Sequence[str | None]) -> pyarrow.Array:
    """Return texts as an array of Arrow, also where all are None."""
    import pyarrow as pa

    return pa.array(texts, pa.string())


def build_label_array(store: StoreContent, name: str) -> pyarrow.Array:
    """Return labels as values of one type; text if there are none."""
    import pyarrow as pa

    try:
        array = pa.array(store.get_labels(name))
    except pa.ArrowException as error:
        raise InputError(
            f"labels {name!r} are of several types: {error}. Give all items labels of one type with set_labels."
        ) from error
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array


def write_tables(writer: Any, tables: Iterator[pyarrow.Table]) -> None:
    """Write tables one after the other with a writer of pyarrow."""
    for table in tables:
        writer.write_table(table)


def write_parquet(path: Path, rows: ExportedRows) -> None:
    """Write a Parquet file, whole or not at all."""
    from pyarrow import parquet

    options = {"use_dictionary": rows.label_names, "write_statistics": rows.items.column_names}
    with new_file(path) as temporary, parquet.ParquetWriter(temporary, rows.schema, **options) as writer:
        write_tables(writer, rows.tables(0, len(rows)))


def write_arrow(path: Path, rows: ExportedRows) -> None:
    """Write an Arrow IPC file, whole or not at all."""
    import pyarrow as pa

    with (
        new_file(path) as temporary,
        pa.OSFile(str(temporary), "wb") as stream,
        pa.ipc.new_file(stream, rows.schema) as writer,
    ):
        write_tables(writer, rows.tables(0, len(rows)))


def write_datasets(path: Path, rows: ExportedRows, bytes_per_shard: int = BYTES_PER_SHARD) -> None:
    """Write a folder of ``datasets``, whole or not at all: shards of whole rows, and metadata."""
    import pyarrow as pa

    n_bytes = len(rows) * rows.bytes_per_row
    n_shards = max(1, -(-n_bytes // bytes_per_shard))
    names = [f"data-{number:05d}-of-{n_shards:05d}.arrow" for number in range(n_shards)]
    bounds = [len(rows) * number // n_shards for number in range(n_shards + 1)]
    with new_folder(path) as folder:
        for name, (start, stop) in zip(names, pairwise(bounds), strict=True):
            with pa.OSFile(str(folder / name), "wb") as stream, pa.ipc.new_stream(stream, rows.schema) as writer:
                write_tables(writer, rows.tables(start, stop))
        state = build_datasets_state(names, rows.version)
        (folder / "dataset_info.json").write_text("{}", encoding="utf-8")
        (folder / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")


def build_datasets_state(names: Sequence[str], version: str) -> dict[str, Any]:
    """Return the content of the ``state.json`` of ``datasets`` for shards of these names, whose digest is `version`."""
    return {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": version[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }


WRITERS = {"parquet": write_parquet, "arrow": write_arrow, "datasets": write_datasets}

"""Write a store's rows for other tools: Parquet, Arrow IPC, or a folder that ``datasets`` of Hugging Face reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....atomic import new_file, new_folder
from ....errors import InputError
from ....identity import digest

if TYPE_CHECKING:
    import pyarrow

    from ..content import StoreContent

METADATA_KEY = "topwork"
"""Of the schema: where the rows come from."""
BATCH_BYTES = 32 * 2**20
"""About as much is held at a time."""
SHARD_BYTES = 500 * 10**6
"""About as large is a file of ``datasets``."""


def export_store(
    store: StoreContent,
    path: str | Path,
    format: str = "parquet",  # noqa: A002 - what users and other libraries call it
    columns: Sequence[str] | None = None,
) -> None:
    """Write the items that have features with their features, a batch at a time, whole or not at all.

    A row has id, digest, label, split, group, the other labels, status, duplicate_of (an id), and for each column a
    list of its width. Fingerprint and columns of the store are in the schema's metadata, under ``topwork``.

    Parameters
    ----------
    store : StoreContent
    path : path
        Must not exist.
    format : {"parquet", "arrow", "datasets"}
        A Parquet file, an Arrow IPC file, or a folder for ``datasets.load_from_disk``.
    columns : sequence of str, optional
        Which columns of features; by default all.

    Raises
    ------
    InputError
        If there is something at `path`, a column or the format does not exist, or two columns have one name.
    """
    path = Path(path)
    if format not in WRITERS:
        raise InputError(f"format {format!r}: expected one of {', '.join(WRITERS)}")
    _require_nothing(path)
    rows = _Rows(store, columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        WRITERS[format](path, rows)
    except FileExistsError:  # since the check
        _require_nothing(path)
        raise


def _require_nothing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise InputError(f"{path} exists already, and is not overwritten; choose another name, or remove it")


class _Rows:
    """The rows of an export, read when they are asked for.

    Parameters
    ----------
    store : StoreContent
    columns : sequence of str or None
    """

    def __init__(self, store: StoreContent, columns: Sequence[str] | None) -> None:
        names = [column.name for column in store.columns] if columns is None else list(dict.fromkeys(columns))
        self.matrices = {name: store.matrix(name) for name in names}
        self.items, self.labels = _items(store, names), store.label_names
        known = {column.name: column.to_json() for column in store.columns}
        source = {"fingerprint": digest(store.identity), "columns": [known[name] for name in names]}
        self.schema = self._table(0, 0).schema.with_metadata({METADATA_KEY: json.dumps(source)})
        self.version = digest([source, store.entries[-1].digest])

    def __len__(self) -> int:
        return int(self.items.num_rows)

    @property
    def row_bytes(self) -> int:
        """Size of a row."""
        features = sum(int(matrix.shape[1]) * matrix.dtype.itemsize for matrix in self.matrices.values())
        return features + int(self.items.nbytes) // max(len(self), 1) + 1

    def tables(self, start: int, stop: int) -> Iterator[pyarrow.Table]:
        """Yield rows as tables of about :data:`BATCH_BYTES`."""
        size = max(1, BATCH_BYTES // self.row_bytes)
        for first in range(start, stop, size):
            yield self._table(first, min(first + size, stop))

    def _table(self, start: int, stop: int) -> pyarrow.Table:
        table = self.items.slice(start, stop - start)
        for name, matrix in self.matrices.items():
            table = table.append_column(name, _lists(np.ascontiguousarray(matrix[start:stop])))
        return table


def _lists(matrix: np.ndarray[Any, Any]) -> pyarrow.FixedSizeListArray:
    """Return rows as lists, without copying them."""
    import pyarrow as pa

    values = pa.array(matrix.reshape(-1))  # (rows * width,)
    return pa.FixedSizeListArray.from_arrays(values, type=pa.list_(values.type, matrix.shape[1]))


def _items(store: StoreContent, features: Sequence[str]) -> pyarrow.Table:
    """Return what is known of the items beside their features."""
    import pyarrow as pa

    index, text = store.index, pa.string()
    status = index.column("status")
    labels = [(name, _labels(store, name)) for name in store.label_names]
    originals = [
        reason if end == "duplicate" else None for reason, end in zip(index.column("reason"), status, strict=True)
    ]
    columns = [
        ("id", pa.array(store.ids, text)),
        ("digest", pa.array(index.column("digest"), text)),
        *labels[:2],  # label and split
        ("group", pa.array(store.groups, text)),
        *labels[2:],
        ("status", pa.array(status, text)),
        ("duplicate_of", pa.array(originals, text)),
    ]
    counts = Counter([*(name for name, _ in columns), *features])
    if counts.most_common(1)[0][1] > 1:
        raise InputError(
            f"an export would have several columns {counts.most_common(1)[0][0]!r}; choose among the columns of "
            "features, or give the labels another name"
        )
    return pa.table(dict(columns))


def _labels(store: StoreContent, name: str) -> pyarrow.Array:
    """Return labels as values of one type; texts if there are none."""
    import pyarrow as pa

    try:
        array = pa.array(store.get_labels(name))
    except pa.ArrowException as error:
        raise InputError(
            f"labels {name!r} are of several types: {error}. Give all items labels of one type with set_labels."
        ) from error
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array


def _write_parquet(path: Path, rows: _Rows) -> None:
    from pyarrow import parquet

    options = {"use_dictionary": rows.labels, "write_statistics": rows.items.column_names}
    with new_file(path) as temporary, parquet.ParquetWriter(temporary, rows.schema, **options) as writer:
        for table in rows.tables(0, len(rows)):
            writer.write_table(table)


def _write_arrow(path: Path, rows: _Rows) -> None:
    import pyarrow as pa

    with (
        new_file(path) as temporary,
        pa.OSFile(str(temporary), "wb") as stream,
        pa.ipc.new_file(stream, rows.schema) as writer,
    ):
        for table in rows.tables(0, len(rows)):
            writer.write_table(table)


def _write_datasets(path: Path, rows: _Rows) -> None:
    """Write shards and the two files beside them; ``datasets`` finds the features' types in the shards."""
    import pyarrow as pa

    count = max(1, -(-len(rows) * rows.row_bytes // SHARD_BYTES))
    edges = [len(rows) * number // count for number in range(count + 1)]
    names = [f"data-{number:05d}-of-{count:05d}.arrow" for number in range(count)]
    with new_folder(path) as folder:
        for name, start, stop in zip(names, edges, edges[1:], strict=False):
            with pa.OSFile(str(folder / name), "wb") as stream, pa.ipc.new_stream(stream, rows.schema) as writer:
                for table in rows.tables(start, stop):
                    writer.write_table(table)
        for file, content in (("dataset_info.json", {}), ("state.json", _state(names, rows.version))):
            (folder / file).write_text(json.dumps(content, indent=2), encoding="utf-8")


def _state(names: Sequence[str], version: str) -> dict[str, Any]:
    return {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": version[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }


WRITERS = {"parquet": _write_parquet, "arrow": _write_arrow, "datasets": _write_datasets}

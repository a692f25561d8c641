"""Import features that other tools computed into a new store; the backbone that computed them is unknown."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import InputError
from ...graphs.cut import Column
from ...sources.table_file import read_rows
from ..block_matrix import BlockMatrix
from ..compaction import ROWS_PER_CHECKSUM, write_compacted
from ..content import StoreContent
from ..description import new_store, require_place
from ..labels import LABEL_ID_COLUMNS, are_by_id, label_table
from ..log import Action, Log
from ..part import ROW_FIELDS, format_part_name, rows_to_table
from ..segment import Segment
from ..state import assign_keys
from ..writer import open_writer
from .foreign_files import ForeignFeatures, read_foreign, read_ids

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

FOREIGN_ARCHITECTURE = "foreign"
UNKNOWN_PRECISION = "unknown"
FIRST_PART = 1


def import_features(
    path: Path,
    source: NDArray[Any] | str | Path,
    ids: Sequence[Any] | str | Path | None = None,
    labels: Any = None,
    name: str = "features",
) -> None:
    """Create a store of foreign features; see :meth:`FeatureStore.import_features`.

    Its identity is the SHA-256 of the features: as their backbone is unknown, they are compatible with no others.
    """
    # Read and check everything before anything is written.
    require_place(path)
    found = read_foreign(source, name)
    matrices = {column: stack_files(column, files) for column, files in found.columns.items()}
    n_rows = len(next(iter(matrices.values())))
    if isinstance(labels, (str, Path)):
        labels = read_rows(Path(labels))
        if ids is None and found.ids is None and len(labels) == n_rows:
            ids = find_id_cells(labels)
    item_ids = choose_ids(found, ids, n_rows)
    given_labels = None
    if labels is None:
        labels = found.labels
    if labels is not None:
        given_labels = tabulate_own_labels(labels, item_ids)
    digests = compute_row_digests(matrices, item_ids)
    items = build_items(item_ids, digests)

    # Write the store, whole or not at all.
    content = hashlib.sha256(bytes.fromhex("".join(digests))).hexdigest()
    identity = {"architecture": FOREIGN_ARCHITECTURE, "content": content}
    with new_store(path, identity) as folder:
        write_first_entry(folder=folder, matrices=matrices, items=items, layout=found.layout)
        store = StoreContent(folder, identity)
        with open_writer(store) as writer:
            if given_labels is not None:
                writer.set_labels(given_labels)
        store.release()


def stack_files(name: str, files: Sequence[NDArray[Any]]) -> BlockMatrix:
    """Return matrices one below the other, in float16 if all of them are, else in float32."""
    widths = sorted({file.shape[1] for file in files})
    if len(widths) > 1:
        raise InputError(f"files of {name!r} have {' and '.join(map(str, widths))} features; expected equally many")
    is_half = all(file.dtype == np.float16 for file in files)
    dtype = np.dtype(np.float16 if is_half else np.float32).newbyteorder("<")
    counts = [len(file) for file in files]
    return BlockMatrix(
        open_part=files.__getitem__,
        parts=np.repeat(np.arange(len(files), dtype=np.int32), counts),
        rows=np.concatenate([np.arange(count, dtype=np.int32) for count in counts]),
        width=widths[0],
        dtype=dtype,
    )


def choose_ids(found: ForeignFeatures, ids: Sequence[Any] | str | Path | None, n_rows: int) -> list[str]:
    """Return an id for each row: the given ones, else those of the layout, else the numbers of an array's rows."""
    if ids is None:
        ids = found.ids
    if ids is None and found.layout == "array":
        ids = range(n_rows)
    if ids is None:
        raise InputError(f"{found.layout} does not name the items of its {n_rows} rows; pass ids (--ids FILE)")
    item_ids = read_ids(ids)
    if len(item_ids) != n_rows:
        raise InputError(f"{n_rows} rows of features but {len(item_ids)} ids; expected one id for each row")
    return item_ids


def tabulate_own_labels(labels: Any, item_ids: Sequence[str]) -> pyarrow.Table:
    """Return labels as a table, after checking that they are of these items; without ids they are in their order."""
    import pyarrow as pa

    is_table = isinstance(labels, pa.Table)
    if is_table and find_id_cells(labels) is None and len(labels) == len(item_ids):
        labels = labels.add_column(0, "id", [item_ids])
    if not are_by_id(labels):
        if len(labels) != len(item_ids):
            raise InputError(f"{len(item_ids)} items but {len(labels)} labels; expected one label for each item")
        labels = dict(zip(item_ids, labels, strict=True))
    table = label_table(labels, "label")
    unknown = set(table["id"].to_pylist()).difference(item_ids)
    if unknown:
        raise InputError(f"labels name {len(unknown)} ids that have no features, such as {min(unknown)!r}")
    return table


def find_id_cells(labels: pyarrow.Table) -> list[Any] | None:
    """Return the ids in a table of labels, None if it has no column of them."""
    for name in LABEL_ID_COLUMNS:
        if name in labels.column_names:
            cells: list[Any] = labels[name].to_pylist()
            return cells
    return None


def compute_row_digests(matrices: Mapping[str, BlockMatrix], item_ids: Sequence[str]) -> list[str]:
    """Return the SHA-256 of each item's features in all columns.

    Raise an InputError if a feature is not finite, or too large for the matrix' type.
    """
    digests: list[str] = []
    with np.errstate(over="ignore"):  # numbers that float32 cannot hold become infinite, and are refused
        for blocks in zip(*(matrix.blocks(ROWS_PER_CHECKSUM) for matrix in matrices.values()), strict=True):
            stop = len(digests) + len(blocks[0])
            require_finite(blocks, item_ids[len(digests) : stop])
            rows = np.concatenate([block.view(np.uint8) for block in blocks], axis=1)  # (n_rows, bytes)
            digests.extend(hashlib.sha256(row).hexdigest() for row in rows)
    return digests


def require_finite(blocks: Sequence[NDArray[Any]], item_ids: Sequence[str]) -> None:
    """Raise an error that names the first item with a feature that is not finite in a block of any column."""
    is_finite = np.logical_and.reduce([np.isfinite(block).all(axis=1) for block in blocks])
    if not is_finite.all():
        bad = item_ids[int(np.argmin(is_finite))]
        raise InputError(f"features of {bad!r} are NaN, infinite, or too large for float32; remove the item")


def build_items(item_ids: Sequence[str], digests: Sequence[str]) -> pyarrow.Table:
    """Return the items of a part, one in each row of its matrices."""
    import pyarrow as pa

    n_items = len(item_ids)
    schema = rows_to_table([]).schema
    values: dict[str, Any] = dict.fromkeys(ROW_FIELDS, [None] * n_items)
    values["id"] = item_ids
    values["digest"] = digests
    values["status"] = ["ok"] * n_items
    values["row"] = np.arange(n_items)
    try:
        arrays = [pa.array(values[name], schema.field(name).type) for name in ROW_FIELDS]
    except UnicodeEncodeError as error:
        raise InputError(f"an id is not valid text: {error}. Expected text that UTF-8 can encode.") from error
    return pa.table(arrays, schema=schema)


def write_first_entry(*, folder: Path, matrices: Mapping[str, BlockMatrix], items: pyarrow.Table, layout: str) -> None:
    """Write the only part of a new store, and the first entry of its log, which is a checkpoint."""
    columns = assign_keys(describe_column(name, matrix) for name, matrix in matrices.items())
    keys = [stored.key for stored in columns]
    part = format_part_name(FIRST_PART)
    settled = Segment.from_items(items, FIRST_PART).settle()
    digests = write_compacted(
        folder=folder / part,
        items=settled,
        matrices=dict(zip(keys, matrices.values(), strict=True)),
        unchanged_files={},
    )
    Log(folder).append(
        last=None,
        action=Action.CHECKPOINT,
        files=[],
        details={
            "part": part,
            "items": len(settled),
            "columns": [stored.to_json() for stored in columns],
            "layout": layout,
        },
        known_files={f"{part}/{file}": sha for file, sha in digests.items()},
    )


def describe_column(name: str, matrix: BlockMatrix) -> Column:
    """Return the column of a foreign matrix, whose layer and precision are unknown."""
    return Column(
        name=name,
        layer=name,
        pool="none",
        width=matrix.shape[1],
        precision=UNKNOWN_PRECISION,
        dtype=matrix.dtype.name,
    )

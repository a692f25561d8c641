"""Stores of foreign features: matrices that other tools computed, whose backbone is not known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ....errors import InputError
from ...graphs.cut import Column
from ..block_matrix import BlockMatrix
from ..compaction import BLOCK_ROWS, write_compacted
from ..conversion import segment_of
from ..description import new_store, require_place
from ..feature_store import FeatureStore
from ..index import part_name
from ..labels import are_by_id, enter_labels, label_table
from ..log import CHECKPOINT, Log
from ..part import FIELDS, table_of
from ..state import StoredColumn
from ..writer import open_writer
from .foreign_files import ForeignFeatures, read_foreign, read_ids

if TYPE_CHECKING:
    import pyarrow
    from numpy.typing import NDArray

ARCHITECTURE = "foreign"
UNKNOWN = "unknown"
"""The precision in which foreign features were computed."""


def import_features(
    path: Path,
    source: NDArray[Any] | str | Path,
    ids: Sequence[Any] | str | Path | None = None,
    labels: Any = None,
    name: str = "features",
) -> FeatureStore:
    """Make a store of foreign features; see :meth:`FeatureStore.import_features`.

    Its identity is the SHA-256 of the features: which backbone computed them nobody knows, so they go with no others.
    """
    require_place(path)
    found = read_foreign(source, name)
    matrices = {name: _joined(name, pieces) for name, pieces in found.columns.items()}
    names = _names(found, ids, matrices)
    given = None if labels is None else _given(labels, names)
    digests = _digests(matrices, names)
    identity = {
        "architecture": ARCHITECTURE,
        "content": hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest(),
    }
    with new_store(path, identity) as folder:
        _enter(folder, matrices, _items(names, digests), {"layout": found.layout})
        store = FeatureStore(folder, identity)
        with open_writer(store) as writer:
            if given is not None:
                enter_labels(writer, given)
        store.release()
    return FeatureStore.open(path)


def _joined(name: str, pieces: Sequence[NDArray[Any]]) -> BlockMatrix:
    """Return matrices one below the other, in float16 if they are, else in float32."""
    widths = sorted({piece.shape[1] for piece in pieces})
    if len(widths) > 1:
        raise InputError(f"files of {name!r} have {' and '.join(map(str, widths))} features; expected equally many")
    dtype = np.float16 if all(piece.dtype == np.float16 for piece in pieces) else np.float32
    counts = [len(piece) for piece in pieces]
    parts = np.repeat(np.arange(len(pieces), dtype=np.int32), counts)
    rows = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
    return BlockMatrix(pieces.__getitem__, parts, rows, widths[0], np.dtype(dtype).newbyteorder("<"))


def _names(found: ForeignFeatures, ids: Sequence[Any] | str | Path | None, matrices: Mapping[str, Any]) -> list[str]:
    """Return the ids, one for each row: those given, or of the layout, or else the numbers of the rows."""
    count = len(next(iter(matrices.values())))
    chosen = found.ids if ids is None else ids
    if chosen is None and found.layout != "array":
        raise InputError(f"nothing says what the {count} rows of {found.layout} are of; pass ids (--ids FILE)")
    names = read_ids(range(count) if chosen is None else chosen)
    if len(names) != count:
        raise InputError(f"{count} rows of features but {len(names)} ids; expected one id for each row")
    return names


def _given(labels: Any, names: Sequence[str]) -> pyarrow.Table:
    """Return labels as a table, after checking that they are of these items."""
    if not are_by_id(labels):
        if len(labels) != len(names):
            raise InputError(f"{len(names)} items but {len(labels)} labels; expected one label for each item")
        labels = dict(zip(names, labels, strict=True))
    table = label_table(labels, "label")
    unknown = set(table["id"].to_pylist()).difference(names)
    if unknown:
        raise InputError(f"labels name {len(unknown)} ids that have no features, such as {min(unknown)!r}")
    return table


def _digests(matrices: Mapping[str, BlockMatrix], names: Sequence[str]) -> list[str]:
    """Return of each item the SHA-256 of its features in all columns, after checking that they are finite."""
    found: list[str] = []
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        for blocks in zip(*(matrix.blocks(BLOCK_ROWS) for matrix in matrices.values()), strict=True):
            is_fine = np.logical_and.reduce([np.isfinite(block).all(axis=1) for block in blocks])
            if not is_fine.all():
                bad = names[len(found) + int(np.argmin(is_fine))]
                raise InputError(f"features of {bad!r} are NaN, infinite, or too large for float32; leave the item out")
            rows = np.concatenate([block.view(np.uint8) for block in blocks], axis=1)  # (rows, bytes)
            found += [hashlib.sha256(row).hexdigest() for row in rows]
    return found


def _items(names: Sequence[str], digests: Sequence[str]) -> pyarrow.Table:
    """Return the items of a part, a row each."""
    import pyarrow as pa

    count, schema = len(names), table_of([]).schema
    known = {"id": names, "digest": digests, "status": ["ok"] * count, "row": np.arange(count)}
    try:
        columns = [pa.array(known.get(name, [None] * count), schema.field(name).type) for name in FIELDS]
    except UnicodeEncodeError as error:
        raise InputError(f"an id is no text: {error}. Expected what can be written in UTF-8.") from error
    return pa.table(columns, schema=schema)


def _enter(folder: Path, matrices: dict[str, BlockMatrix], items: pyarrow.Table, details: dict[str, Any]) -> None:
    """Write the one part of a new store, and the log's first entry, which is a checkpoint."""
    columns = [
        StoredColumn(f"c{number:04d}", "", _column(name, matrix))
        for number, (name, matrix) in enumerate(matrices.items(), 1)
    ]
    part = part_name(1)
    keyed = {stored.key: matrix for stored, matrix in zip(columns, matrices.values(), strict=True)}
    digests = write_compacted(folder / part, segment_of(items, 1).settled(), keyed, {})
    files = {f"{part}/{file}": sha for file, sha in digests.items()}
    stored = [column.to_json() for column in columns]
    Log(folder).append(None, CHECKPOINT, [], {"part": part, "items": len(items), "columns": stored, **details}, files)


def _column(name: str, matrix: BlockMatrix) -> Column:
    return Column(name, name, "none", matrix.shape[1], precision=UNKNOWN, dtype=matrix.dtype.name)

"""Find what is damaged in a store, and put damaged rows back to be computed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import StoreDamagedError
from ...models.weights import digest_of_file
from .compaction import BLOCKS_FILE, damaged_rows
from .index import damaged_index, number_of, require_end_of_log, saved_number
from .part import ITEMS_FILE, open_matrix, write_part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .feature_store import FeatureStore
    from .state import StoredColumn
    from .writer import StoreWriter

ACTION = "repair"


@dataclass(frozen=True)
class Repair:
    """What a repair did.

    Parameters
    ----------
    pending : tuple of str
        Ids of items whose features were damaged; the next job over their source computes them again.
    lost : tuple of str
        Damaged files whose content is nowhere else: graphs and labels have to be restored from a copy; the items of a
        part are new ones for the next job.
    """

    pending: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def damaged_files(store: FeatureStore) -> list[str]:
    """Return the files of a store that are missing or not as they were written, by their path within the store."""
    told = saved_number(store.path)
    require_end_of_log(store.path, len(store.log.history()), told)
    found = [name for name, sha in store.state.files.items() if not _is_whole(store.path / name, sha)]
    return found + damaged_index(store.path)


def _is_whole(path: Path, sha: str) -> bool:
    try:
        return digest_of_file(path) == sha
    except OSError:
        return False


def repair(store: FeatureStore, patience: float = 0.0) -> Repair:
    """Put the rows of damaged files back to be computed again; see :meth:`FeatureStore.repair`."""
    from .writer import open_writer

    damaged = damaged_files(store)
    if not damaged:
        return Repair()
    with open_writer(store, patience, without=damaged) as writer:
        lost = tuple(name for name in damaged if _is_lost(name, writer))
        writer.forget([name for name in damaged if name.endswith(".canaries.npz")])
        writer.forget_filled({name.rpartition("/")[0] for name in damaged})
        pending = _enter(writer, damaged)
        writer.compact(link=False)
    return Repair(pending, lost)


def _is_lost(name: str, writer: StoreWriter) -> bool:
    """Tell whether a damaged file's content is nowhere else."""
    if name.endswith(ITEMS_FILE):
        return name in writer.index.left_out
    return not name.startswith(("parts/", "index")) and not name.endswith(".canaries.npz")


def _enter(writer: StoreWriter, damaged: Sequence[str]) -> tuple[str, ...]:
    """Enter the items whose rows are damaged into the log, and return their ids."""
    items = writer.index.settle()
    parts, rows = items.numbers("part"), items.numbers("row")
    is_bad = np.zeros(len(items), bool)
    for name in damaged:
        folder, _, file = name.rpartition("/")
        column = next((c for c in writer.state.columns if f"{c.key}.npy" == file), None)
        if folder.startswith("parts/") and column is not None:
            here = parts == number_of(folder)
            is_bad[here] |= np.isin(rows[here], _damaged_rows(writer, folder, column, damaged, rows[here]))
    pending = [replace(row, status="pending", reason=None, row=None) for row in items.rows(np.flatnonzero(is_bad))]
    name = writer.next_part()
    files = write_part(writer.store.path / name, pending, {})
    writer.enter(ACTION, files, {"part": name, "items": len(pending), "damaged": list(damaged)})
    return tuple(row.id for row in pending)


def _damaged_rows(
    writer: StoreWriter, part: str, column: StoredColumn, damaged: Sequence[str], rows: NDArray[np.int32]
) -> NDArray[np.intp]:
    """Return which rows of a damaged file are of no use: all of them, if it has no sums of blocks that tell more."""
    folder, blocks = writer.store.path / part, f"{part}/{BLOCKS_FILE}"
    try:
        matrix = open_matrix(folder, column.key)
    except StoreDamagedError:
        return rows.astype(np.intp)
    shape = (rows.max(initial=-1) + 1, column.column.width)
    is_legible = matrix.shape == shape and matrix.dtype == np.dtype(column.column.dtype).newbyteorder("<")
    if not is_legible or blocks in damaged or blocks not in writer.state.files:
        return rows.astype(np.intp)
    return damaged_rows(folder, column.key, matrix)

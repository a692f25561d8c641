"""Find damaged files of a store, and mark the items in their damaged rows to be computed again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...errors import StoreDamagedError
from ...identity import digest_of_file
from .compaction import BLOCKS_FILE, find_damaged_rows
from .content import StoreContent
from .index_file import INDEX_FILE, check_log_is_complete, is_index_damaged, read_indexed_number
from .part import ITEMS_FILE, open_matrix, parse_part_number
from .remote_copy import find_copy
from .writer import StoreWriter, open_writer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .state import StoredColumn

EVIDENCE_SUFFIXES = (".canaries.npz", ".measured.json")
"""Endings of files that the next job writes anew."""


@dataclass(frozen=True)
class Repair:
    """The result of a repair.

    Parameters
    ----------
    pending : tuple of str
        Ids of items whose features were damaged; the next job over their source computes them again.
    lost : tuple of str
        Damaged files whose content is not available elsewhere: graphs and labels must be restored from a copy; the
        items of a part are new items to the next job.
    """

    pending: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def find_damaged_files(store: StoreContent) -> list[str]:
    """Return the files of a store that are missing or do not match their SHA-256, by path within the store."""
    indexed_number = read_indexed_number(store.path)  # before the log is read, which another process can extend
    check_log_is_complete(store.path, len(store.log.history()), indexed_number)
    damaged = [name for name, sha in store.state.files.items() if not has_digest(store, name, sha)]
    if is_index_damaged(store.path):
        damaged.append(INDEX_FILE)
    return damaged


def has_digest(store: StoreContent, name: str, sha: str) -> bool:
    """Return whether a file is there and has a SHA-256: that in object storage, if the store is there.

    A damaged file of the local copy is removed, and fetched again when it is read.
    """
    copy = find_copy(store.path)
    path = store.path / name
    try:
        if copy is None:
            return digest_of_file(path) == sha
        if path.is_file() and digest_of_file(path) != sha:
            path.unlink()
        return copy.compute_digest(name) == sha
    except OSError:
        return False


def repair(store: StoreContent, patience: float = 0.0) -> Repair:
    """Mark the items in damaged rows as pending and write the others anew; see :meth:`FeatureStore.repair`."""
    damaged = find_damaged_files(store)
    if not damaged:
        return Repair()
    with open_writer(store, patience, without=damaged) as writer:
        lost = tuple(name for name in damaged if is_lost(name, writer))
        damaged_evidence = [name for name in damaged if name.endswith(EVIDENCE_SUFFIXES)]
        writer.forget_files(damaged_evidence)
        writer.forget_filled_parts({name.rpartition("/")[0] for name in damaged})
        pending = writer.index.settle().rows(find_damaged_items(writer, damaged))
        writer.mark_pending(pending, damaged)
        writer.compact(link=False)
        copy = find_copy(store.path)
        for name in damaged_evidence:
            (store.path / name).unlink(missing_ok=True)
            if copy is not None:
                copy.remove(name)
    return Repair(tuple(row.id for row in pending), lost)


def is_lost(name: str, writer: StoreWriter) -> bool:
    """Return whether the content of a damaged file is not available elsewhere."""
    if name.endswith(ITEMS_FILE):
        return name in writer.index.left_out
    can_be_rebuilt = name.startswith(("parts/", "index")) or name.endswith(EVIDENCE_SUFFIXES)
    return not can_be_rebuilt


def find_damaged_items(writer: StoreWriter, damaged_files: Collection[str]) -> NDArray[np.intp]:
    """Return the places in the index of the items whose features are in a damaged row of any column."""
    items = writer.index.settle()
    parts = items.numbers("part")
    rows = items.numbers("row")
    columns = {f"{stored.key}.npy": stored for stored in writer.state.columns}
    is_damaged = np.zeros(len(items), bool)
    for name in damaged_files:
        part, _, file = name.rpartition("/")
        if not part.startswith("parts/") or file not in columns:
            continue
        is_in_part = parts == parse_part_number(part)
        rows_in_part = rows[is_in_part]
        bad_rows = find_bad_rows(
            writer=writer, part=part, stored=columns[file], damaged_files=damaged_files, rows=rows_in_part
        )
        is_damaged[is_in_part] |= np.isin(rows_in_part, bad_rows)
    return np.flatnonzero(is_damaged)


def find_bad_rows(
    *,
    writer: StoreWriter,
    part: str,
    stored: StoredColumn,
    damaged_files: Collection[str],
    rows: NDArray[np.int32],
) -> NDArray[np.intp]:
    """Return the rows of a damaged file that cannot be used: all of them, unless checksums of blocks tell which."""
    folder = writer.store.path / part
    all_rows = rows.astype(np.intp)
    try:
        matrix = open_matrix(folder, stored.key)
    except StoreDamagedError:
        return all_rows
    expected_shape = (rows.max(initial=-1) + 1, stored.column.width)
    expected_dtype = np.dtype(stored.column.dtype).newbyteorder("<")
    if matrix.shape != expected_shape or matrix.dtype != expected_dtype:
        return all_rows
    blocks_file = f"{part}/{BLOCKS_FILE}"
    if blocks_file in damaged_files or blocks_file not in writer.state.files:
        return all_rows
    return find_damaged_rows(folder, stored.key, matrix)

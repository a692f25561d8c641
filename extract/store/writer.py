"""The one writer of a store: it holds the lock, clears what interrupted writers left, and adds parts."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..atomic import sweep
from ..batching import AUTOMATIC, RunOptions
from .feature_store import FeatureStore
from .index import Index
from .lock import write_lock
from .part import Row, open_matrix, write_part

if TYPE_CHECKING:
    from numpy.typing import NDArray


class StoreWriter:
    """A store that may be added to; made by :func:`open_writer`.

    Attributes
    ----------
    store : FeatureStore
    index : Index
        On disk, up to date after every part.
    """

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        store.refresh()  # which lets go of its copy of the index
        self.entries = list(store.entries)
        self._sweep()
        self.index = Index(store.path, self.entries, writable=True)

    def add_part(self, rows: Sequence[Row], matrices: Sequence[NDArray[Any]], options: RunOptions = AUTOMATIC) -> None:
        """Write one part and enter it into the log.

        Parameters
        ----------
        rows : sequence of Row
        matrices : sequence of ndarray
            One for each column of the store, with a row for each item that has features.
        options : RunOptions
            The sizes of the batches in which they were computed.
        """
        name = f"parts/p{len(self._true_parts()) + 1:06d}"
        keyed = {stored.key: matrix for stored, matrix in zip(self.store.stored_columns, matrices, strict=True)}
        files = write_part(self.store.path / name, rows, keyed)
        sizes = {"batch_size": options.batch_size, "tokens": options.tokens}
        details = {"part": name, "items": len(rows), **sizes}
        self.entries.append(self.store.log.append(self.entries[-1], "add_part", files, details))
        self.index.apply(self.entries[-1], rows)

    def batching(self) -> RunOptions | None:
        """Return the sizes of batches of the last part, None if there is none, or it does not tell."""
        parts = [entry.details for entry in self.entries if entry.action == "add_part"]
        if not parts or "batch_size" not in parts[-1]:
            return None
        return RunOptions(parts[-1]["batch_size"], tokens=parts[-1]["tokens"])

    def vectors_of(self, item_id: str) -> tuple[NDArray[np.float32], ...] | None:
        """Return an item's row of every column, None if it has none."""
        place = self.index.place(item_id)
        if place is None:
            return None
        part, row = place
        return tuple(np.array(open_matrix(self.store.path / part, s.key)[row]) for s in self.store.stored_columns)

    def _true_parts(self) -> set[str]:
        return {entry.details["part"] for entry in self.entries if entry.action == "add_part"}

    def _sweep(self) -> None:
        """Remove temporary files, and parts that were finished but never entered into the log."""
        for folder in (self.store.path, self.store.path / "parts", self.store.path / "log"):
            sweep(folder)
        true = self._true_parts()
        for folder in (self.store.path / "parts").iterdir():
            if folder.is_dir() and f"parts/{folder.name}" not in true:
                shutil.rmtree(folder)


@contextlib.contextmanager
def open_writer(store: FeatureStore, patience: float = 0.0) -> Iterator[StoreWriter]:
    """Hold a store's lock and write to it.

    Parameters
    ----------
    store : FeatureStore
    patience : float
        Seconds to wait for another process that is writing.

    Raises
    ------
    StoreLockedError
        If another process is writing.
    """
    with write_lock(store.path, patience):
        writer = StoreWriter(store)
        try:
            yield writer
        finally:
            writer.index.close()
            store.refresh()

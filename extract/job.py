"""The main job: from a source to a store, running only what is not there yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .engine import BATCH_SIZE, Original, Result, RunOptions, Vectors, run
from .item import Item, content_digest
from .ledger import Ledger
from .policy import ErrorPolicy
from .session import open_session
from .sources.opening import open_source
from .store.feature_store import FeatureStore
from .store.index import Index
from .store.part import Row
from .store.writer import StoreWriter, open_writer

if TYPE_CHECKING:
    from numpy.typing import NDArray

PART_ITEMS = 32 * BATCH_SIZE
"""Items of one part, and what a killed job may have to compute again: a multiple of every batch size that is used."""

Progress = Callable[[int, int], None]


def extract(
    source: Any,
    store: FeatureStore | str | Path,
    *,
    labels: Sequence[Any] | None = None,
    on_error: str = "raise",
    provider: str = "auto",
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> Ledger:
    """Add the features of a source's items to a store.

    Items that the store knows are left alone unless their content changed; a job that was interrupted goes on where it
    stopped and ends with the same ids, ledger and matrices.

    Parameters
    ----------
    source : str, path or sequence
        A folder (its sub-folders name the labels), a ``.tar[.gz]``, or a sequence of paths, arrays and PIL images.
    store : FeatureStore or path
        As made by :meth:`FeatureStore.create`.
    labels : sequence, optional
        For a sequence of items.
    on_error : str
        ``"raise"`` stops at the first item that fails, ``"record"`` enters it into the ledger and goes on,
        ``"limit:N%"`` stops when more than this share of the source has failed.
    provider : {"auto", "cpu", "cuda"}
        Where the graph runs.
    options : RunOptions, optional
        Batch size, bound on pixels, threads.
    progress : callable, optional
        Called with the number of inputs done and their total.

    Returns
    -------
    Ledger
        What became of every input of the source, and the seconds of each stage.

    Raises
    ------
    StoppedError
        By the error policy. Whole parts that were done are kept.
    StoreLockedError
        If another process is writing.
    """
    opened = open_source(source, labels)
    store = store if isinstance(store, FeatureStore) else FeatureStore.open(store)
    started, ledger = time.perf_counter(), Ledger(ignored=opened.ignored, fingerprint=store.fingerprint)
    with open_writer(store) as writer:
        job = _Job(writer, ErrorPolicy.parse(on_error), ledger, len(opened), progress or (lambda done, total: None))
        job.changed = _changed(opened, writer.index)
        pending = job.pending(opened)
        session = open_session(store.graph.path, provider)
        results = run(
            pending, session, store.graph.metadata.input_spec, options or RunOptions(), ledger.stages, job.known
        )
        for window in _windows(results, PART_ITEMS, job):
            job.commit(window)
    ledger.seconds = time.perf_counter() - started
    return ledger


def _windows(results: Iterator[Result], size: int, job: _Job) -> Iterator[list[Row]]:
    """Turn results into rows, a part's worth at a time."""
    rows: list[Row] = []
    for result in results:
        rows.append(job.row(result))
        if len(rows) == size:
            yield rows
            rows = []
    if rows:
        yield rows


class _Job:
    """One job's state: the window that is being filled."""

    def __init__(
        self, writer: StoreWriter, policy: ErrorPolicy, ledger: Ledger, total: int, progress: Progress
    ) -> None:
        self.writer, self.policy, self.ledger, self.total, self.progress = writer, policy, ledger, total, progress
        self.vectors: list[Vectors] = []
        self.row_of_id: dict[str, int] = {}
        self.id_of_digest: dict[str, str] = {}
        self.changed: set[str] = set()

    def pending(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items to work on; count the others as the store has them."""
        seen: set[str] = set()
        for item in items:
            known = None if item.id in self.changed else self.writer.index.find(item.id)
            if item.id in seen:
                self._count(item.id, "duplicate", item.id)
            elif known is not None:
                self._count(item.id, known.status, known.reason)
            else:
                yield item
            seen.add(item.id)

    def known(self, digest: str) -> Original | None:
        """Return an item of this content, from the window or the store."""
        item_id = self.id_of_digest.get(digest)
        if item_id is not None:
            return Original(item_id, self.vectors[self.row_of_id[item_id]])
        for item_id in self.writer.index.ids_of_digest(digest):
            vectors = None if item_id in self.changed else self.writer.vectors_of(item_id)
            if vectors is not None:
                return Original(item_id, vectors)
        return None

    def row(self, result: Result) -> Row:
        """Enter a result into the window and the ledger."""
        status, reason, place = "failed", result.reason, None
        if result.vectors is not None:
            status, reason = ("duplicate", result.duplicate_of) if result.duplicate_of else ("ok", None)
            place = self._place(result, result.vectors)
        self._count(result.item.id, status, reason)
        self.changed.discard(result.item.id)
        self.ledger.computed += 1
        item = result.item
        return Row(item.id, result.digest, status, reason, place, item.label, item.split, item.size, item.mtime_ns)

    def _place(self, result: Result, vectors: Vectors) -> int:
        place = len(self.vectors)
        self.vectors.append(vectors)
        self.row_of_id[result.item.id] = place
        self.id_of_digest.setdefault(result.digest, result.item.id)
        return place

    def _count(self, item_id: str, status: str, reason: str | None) -> None:
        self.ledger.count(item_id, status, reason)
        self.progress(self.ledger.items, self.total)
        if status == "failed":
            self.policy.check(self.ledger.failed, self.total, item_id, reason or "")

    def commit(self, rows: list[Row]) -> None:
        """Write the window as a part."""
        started = time.perf_counter()
        widths = [column.width for column in self.writer.store.columns]
        matrices = [_stack([vectors[i] for vectors in self.vectors], width) for i, width in enumerate(widths)]
        self.writer.add_part(rows, matrices)
        self.vectors, self.row_of_id, self.id_of_digest = [], {}, {}
        self.ledger.stages.write += time.perf_counter() - started


def _stack(vectors: list[Any], width: int) -> NDArray[np.float32]:
    return np.stack(vectors) if vectors else np.empty((0, width), np.float32)


def _changed(items: Iterable[Item], index: Index) -> set[str]:
    """Return the ids of known items whose content is not what the store has: their features are of no use any more."""
    if not index.counts():
        return set()
    found = ((item, index.find(item.id)) for item in items)
    return {item.id for item, known in found if known is not None and not _is_unchanged(item, known)}


def _is_unchanged(item: Item, known: Row) -> bool:
    """Compare size and modification time; if they differ, the content decides."""
    if (item.size, item.mtime_ns) == (known.size, known.mtime_ns):
        return True
    try:
        return content_digest(item.read()) == known.digest
    except OSError:
        return False

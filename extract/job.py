"""The main job: from a source to a store, running only what is not there yet."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DecodeError
from .engine import Original, Result, RunOptions, Vectors, run
from .item import Item, content_digest
from .ledger import Ledger
from .machine import available_cores
from .policy import ErrorPolicy
from .preprocess.decode import MAX_PIXELS
from .preprocess.preprocessor import Preprocessor, preprocessor_for
from .progress import Progress, report
from .sources.opening import Source, open_source
from .store.feature_store import FeatureStore
from .store.index import Index
from .store.part import Row
from .store.writer import StoreWriter, open_writer

if TYPE_CHECKING:
    from numpy.typing import NDArray


def extract(
    source: Any,
    store: FeatureStore | str | Path,
    *,
    labels: Sequence[Any] | None = None,
    on_error: str = "raise",
    provider: str = "auto",
    options: RunOptions | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
    patience: float = 0.0,
) -> Ledger:
    """Add the features of a source's items to a store.

    Items that the store knows are left alone unless their content changed; a job that was interrupted goes on where it
    stopped and ends with the same ids, ledger and matrices.

    Parameters
    ----------
    source : str, path or sequence
        A folder (its sub-folders name the labels), a ``.tar[.gz]``, a table, an ``.npy``, or a sequence of items; see
        :func:`topwork.extract.sources.opening.open_source`.
    store : FeatureStore or path
        As made by :meth:`FeatureStore.create`.
    labels : sequence, optional
        For a sequence of items.
    on_error : str
        ``"raise"`` stops at the first item that fails, ``"record"`` enters it into the ledger and goes on,
        ``"limit:N%"`` stops when more than this share of the source has failed.
    provider : str
        Where the graph runs; see :class:`topwork.Extractor`.
    options : RunOptions, optional
        Batch size, threads.
    max_pixels : int
        A larger image fails instead of being decoded.
    progress : callable, optional
        Called with the number of inputs done and their total.
    patience : float
        Seconds to wait for another process that is writing.

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
    store = store if isinstance(store, FeatureStore) else FeatureStore.open(store)
    policy, opened = ErrorPolicy.parse(on_error), open_source(source, labels, kind=store.graph.input_spec.kind)
    started, ledger = time.perf_counter(), Ledger(ignored=opened.ignored, fingerprint=store.fingerprint)
    store.refresh()
    counter = _Counter(store.index, policy, ledger, len(opened), progress or report)
    if counter.is_all_done(opened):
        deque(counter.pending(opened), maxlen=0)  # counts what is there; readers and finished jobs need no lock
    else:
        with open_writer(store, patience) as writer:
            counter.look_again(opened, writer.index)
            preprocessor = preprocessor_for(store.graph.input_spec, max_pixels)
            _compute(_Job(writer, counter), opened, preprocessor, provider, options or RunOptions())
    ledger.absent = sum(store.index.counts().values()) - ledger.items
    ledger.seconds = time.perf_counter() - started
    return ledger


def _compute(job: _Job, source: Source, preprocessor: Preprocessor, provider: str, options: RunOptions) -> None:
    """Run the items that are not in the store, a part at a time."""
    store, ledger = job.writer.store, job.counter.ledger
    session = store.graph.open(provider, available_cores())
    pending = job.counter.pending(source)
    results = run(pending, session, preprocessor, options, ledger.stages, job.known)
    for window in _windows(results, options.window, job):
        job.commit(window)


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


class _Counter:
    """What a job knows of its inputs: which are done, which have changed, how each ended."""

    def __init__(self, index: Index, policy: ErrorPolicy, ledger: Ledger, total: int, progress: Progress) -> None:
        self.index, self.policy, self.ledger, self.total, self.progress = index, policy, ledger, total, progress
        self.changed: set[str] = set()
        """Known items with new content that is not computed yet."""
        self.outdated: set[str] = set()
        """Known items whose features in the store were those of other content when the job began."""

    def is_all_done(self, items: Source) -> bool:
        """Tell whether the store has every item, unchanged; contents are looked at only if no item is new."""
        if any(self.index.find(item.id) is None for item in items):
            return False
        self.look_again(items, self.index)
        return not self.changed

    def look_again(self, items: Source, index: Index) -> None:
        """Find the known items whose content is not what the store has: their features are of no use any more."""
        self.index = index
        if index.counts():
            found = ((item, index.find(item.id)) for item in items)
            self.changed = {item.id for item, known in found if known is not None and not _is_unchanged(item, known)}
            self.outdated = set(self.changed)

    def pending(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items to work on; count the others as the store has them."""
        for item in items:
            known = None if item.id in self.changed else self.index.find(item.id)
            if known is None:
                yield item
            else:
                self.count(item.id, known.status, known.reason)

    def count(self, item_id: str, status: str, reason: str | None) -> None:
        """Enter the end of one item."""
        self.ledger.count(item_id, status, reason)
        self.progress(self.ledger.items, self.total)
        if status == "failed":
            self.policy.check(self.ledger.failed, self.total, item_id, reason or "")

    def count_computed(self, item_id: str, status: str, reason: str | None) -> None:
        """Enter the end of an item that was worked on."""
        self.ledger.computed += 1
        self.ledger.replaced += item_id in self.changed
        self.changed.discard(item_id)
        self.count(item_id, status, reason)


class _Job:
    """One job's state: the window that is being filled."""

    def __init__(self, writer: StoreWriter, counter: _Counter) -> None:
        self.writer, self.counter = writer, counter
        self.vectors: list[Vectors] = []
        self.row_of_id: dict[str, int] = {}
        self.id_of_digest: dict[str, str] = {}

    def known(self, digest: str) -> Original | None:
        """Return an item of this content, from the window or the store."""
        item_id = self.id_of_digest.get(digest)
        if item_id is not None:
            return Original(item_id, self.vectors[self.row_of_id[item_id]])
        for item_id in self.writer.index.ids_of_digest(digest):
            vectors = None if item_id in self.counter.outdated else self.writer.vectors_of(item_id)
            if vectors is not None:
                return Original(item_id, vectors)
        return None

    def row(self, result: Result) -> Row:
        """Enter a result into the window and the ledger."""
        status, reason, place = "failed", result.reason, None
        if result.vectors is not None:
            status, reason = ("duplicate", result.duplicate_of) if result.duplicate_of else ("ok", None)
            place = self._place(result, result.vectors)
        self.counter.ledger.truncated += result.truncated
        self.counter.count_computed(result.item.id, status, reason)
        item = result.item
        return Row(item.id, result.digest, status, reason, place, item.label, item.split, item.size, item.mtime_ns)

    def _place(self, result: Result, vectors: Vectors) -> int:
        place = len(self.vectors)
        self.vectors.append(vectors)
        self.row_of_id[result.item.id] = place
        self.id_of_digest.setdefault(result.digest, result.item.id)
        return place

    def commit(self, rows: list[Row]) -> None:
        """Write the window as a part."""
        started = time.perf_counter()
        widths = [column.width for column in self.writer.store.columns]
        matrices = [_stack([vectors[i] for vectors in self.vectors], width) for i, width in enumerate(widths)]
        self.writer.add_part(rows, matrices)
        self.vectors, self.row_of_id, self.id_of_digest = [], {}, {}
        self.counter.ledger.stages.write += time.perf_counter() - started


def _stack(vectors: list[Any], width: int) -> NDArray[np.float32]:
    return np.stack(vectors) if vectors else np.empty((0, width), np.float32)


def _is_unchanged(item: Item, known: Row) -> bool:
    """Compare size and modification time; if they differ, or there is no time, the content decides."""
    if item.mtime_ns is not None and (item.size, item.mtime_ns) == (known.size, known.mtime_ns):
        return True
    try:
        return content_digest(item.read()) == known.digest
    except DecodeError:  # as an empty cell of a table: it failed before, and would again
        return known.status == "failed"
    except OSError:
        return False

"""What becomes of a job's inputs, one after the other: counted, put into rows, and written a part at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.batching import BatchSizes
from ..engine.engine import Original, Result, Vectors
from ..engine.ledger import Ledger
from ..engine.progress import Progress
from ..engine.run_config import RunConfig
from ..sources.item import Item
from ..store.part import Row
from ..store.pending import Pending
from ..store.writer import StoreWriter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..graphs.cut import Column

FLOAT16_MAX = float(np.finfo(np.float16).max)
TOO_LARGE = f"a feature is larger than {FLOAT16_MAX:g}, the largest number of float16: keep it in a store of float32"


class Counter:
    """What becomes of a job's inputs: how each ended, and how far the job is."""

    def __init__(self, pending: Pending, config: RunConfig, ledger: Ledger, total: int) -> None:
        self.pending = pending
        self.config = config
        self.policy = config.policy
        self.ledger = ledger
        self.total = total

    def to_compute(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items to work on; count the others as the store has them."""
        for item, known in self.pending.match(items):
            if known is None:
                yield item
            else:
                self.count(item.id, known.status, known.reason)

    def take(self, ends: Ledger) -> None:
        """Enter the ends of all items, as the store has them."""
        for number, failure in enumerate(ends.failures, 1):
            self.policy.check(number, self.total, *failure)
        self.ledger.add(ends)
        self.tell()

    def count(self, item_id: str, status: str, reason: str | None) -> None:
        """Enter the end of one item."""
        self.ledger.count(item_id, status, reason)
        self.tell()
        if status == "failed":
            self.policy.check(self.ledger.failed, self.total, item_id, reason or "")

    def count_computed(self, item_id: str, status: str, reason: str | None) -> None:
        """Enter the end of an item that was worked on."""
        self.ledger.computed += 1
        self.ledger.replaced += item_id in self.pending.changed
        self.pending.changed.discard(item_id)
        self.count(item_id, status, reason)

    def tell(self) -> None:
        """Tell how far the job is."""
        ledger = self.ledger
        self.config.report(Progress(ledger.items, self.total, ledger.computed, ledger.limiting_stage))


class Recorder:
    """What a job has computed and not written yet, and the store that it goes to."""

    def __init__(self, writer: StoreWriter, counter: Counter) -> None:
        self.writer, self.counter = writer, counter
        self.vectors: list[Vectors] = []
        self.originals: dict[str, Original] = {}
        """For each content the item that had it first, which may be in an earlier window."""

    def known(self, digests: Sequence[str]) -> dict[str, Original]:
        """Return items of these contents, from the window or the store."""
        found = {digest: self.originals[digest] for digest in digests if digest in self.originals}
        others = self.writer.index.find_ids_by_digest([digest for digest in digests if digest not in found])
        stored = {digest: self._stored(ids) for digest, ids in others.items()}
        return found | {digest: original for digest, original in stored.items() if original is not None}

    def _stored(self, ids: Iterable[str]) -> Original | None:
        """Return the first of these items whose features are still those of its content."""
        for item_id in ids:
            vectors = None if item_id in self.counter.pending.outdated else self.writer.vectors_of(item_id)
            if vectors is not None:
                return Original(item_id, vectors)
        return None

    def row(self, result: Result) -> Row:
        """Enter a result into the window and the ledger."""
        status, reason, place = "failed", result.reason, None
        if result.vectors is not None and not self._fits(result.vectors):
            reason = TOO_LARGE
        elif result.vectors is not None:
            status, reason = ("duplicate", result.duplicate_of) if result.duplicate_of else ("ok", None)
            place = self._place(result, result.vectors)
        self.counter.ledger.truncated += result.truncated
        self.counter.count_computed(result.item.id, status, reason)
        item = result.item
        facts = item.label, item.split, item.size, item.mtime_ns, item.group
        return Row(item.id, result.digest, status, reason, place, *facts)

    def _fits(self, vectors: Vectors) -> bool:
        """Tell whether the store's type can hold these features."""
        pairs = zip(vectors, self.writer.store.columns, strict=True)
        return all(column.dtype == "float32" or np.abs(v).max(initial=0) <= FLOAT16_MAX for v, column in pairs)

    def _place(self, result: Result, vectors: Vectors) -> int:
        self.vectors.append(vectors)
        self.originals.setdefault(result.digest, Original(result.duplicate_of or result.item.id, vectors))
        return len(self.vectors) - 1

    def commit(self, rows: list[Row], sizes: BatchSizes) -> None:
        """Write the window as a part."""
        started = time.perf_counter()
        columns = self.writer.store.columns
        matrices = [_stack([vectors[i] for vectors in self.vectors], column) for i, column in enumerate(columns)]
        self.writer.add_part(rows, matrices, sizes)
        self.counter.pending.outdated.difference_update(row.id for row in rows)
        self.counter.ledger.note_memory()  # while the window is still there
        self.vectors, self.originals = [], {}
        self.counter.ledger.stages.write += time.perf_counter() - started


def _stack(vectors: list[Any], column: Column) -> NDArray[np.floating[Any]]:
    matrix = np.stack(vectors) if vectors else np.empty((0, column.width))
    return matrix.astype(column.dtype, copy=False)

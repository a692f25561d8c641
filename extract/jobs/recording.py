"""What becomes of a job's inputs, one after the other: counted, turned into rows, and written a part at a time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...progress import Progress
from ..engine.batching import BatchSizes
from ..engine.engine import KnownFeatures
from ..engine.ledger import Ledger
from ..engine.result import Result, Vectors
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
    """Counts how the inputs of a job ended, stops it by its error policy, and reports its progress."""

    def __init__(self, pending: Pending, config: RunConfig, ledger: Ledger, total: int) -> None:
        self.pending = pending
        self.config = config
        self.policy = config.policy
        self.ledger = ledger
        self.total = total

    def iterate_pending(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the items to compute; count the others as the store has them."""
        for item, known in self.pending.match(items):
            if known is None:
                yield item
            else:
                self.count(item.id, known.status, known.reason)

    def count_all(self, earlier: Ledger) -> None:
        """Count all items as they ended in earlier runs."""
        for n_failed, (item_id, reason) in enumerate(earlier.failures, 1):
            self.policy.check(n_failed, self.total, item_id=item_id, reason=reason)
        self.ledger.add(earlier)
        self.report()

    def count(self, item_id: str, status: str, reason: str | None) -> None:
        """Count one item, and stop the job if too many have failed."""
        self.ledger.count(item_id, status, reason)
        self.report()
        if status == "failed":
            self.policy.check(self.ledger.failed, self.total, item_id=item_id, reason=reason or "")

    def count_computed(self, item_id: str, status: str, reason: str | None) -> None:
        """Count an item that was computed in this run."""
        self.ledger.computed += 1
        if item_id in self.pending.changed:
            self.ledger.replaced += 1
            self.pending.changed.remove(item_id)
        self.count(item_id, status, reason)

    def count_window(self, statuses: Mapping[str, int], failures: Sequence[tuple[str, str]]) -> None:
        """Count the items of a window that another process computed, by status, and stop if too many have failed."""
        ends = Ledger(
            items=sum(statuses.values()),
            ok=statuses["ok"],
            failed=statuses["failed"],
            duplicate=statuses["duplicate"],
            failures=list(failures),
        )
        n_failed = self.ledger.failed
        self.ledger.add(ends)
        self.ledger.computed += ends.items
        self.report()
        for number, (item_id, reason) in enumerate(failures, n_failed + 1):
            self.policy.check(number, self.total, item_id=item_id, reason=reason)

    def report(self) -> None:
        """Report how far the job is."""
        ledger = self.ledger
        self.config.report(
            Progress(done=ledger.items, total=self.total, computed=ledger.computed, stage=ledger.limiting_stage)
        )


class PartBuilder:
    """The rows and features of a part that is being computed."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = columns
        self.rows: list[Row] = []
        self.vectors: list[Vectors] = []

    def add(self, result: Result) -> Row:
        """Add a result, and return its row."""
        item = result.item
        row = Row(
            item.id,
            digest=result.digest,
            status="failed",
            reason=result.reason,
            label=item.label,
            split=item.split,
            size=item.size,
            mtime_ns=item.mtime_ns,
            group=item.group,
        )
        if result.vectors is not None and not fit_dtypes(result.vectors, self.columns):
            row = replace(row, reason=TOO_LARGE)
        elif result.vectors is not None:
            status = "duplicate" if result.duplicate_of else "ok"
            row = replace(row, status=status, reason=result.duplicate_of, row=len(self.vectors))
            self.vectors.append(result.vectors)
        self.rows.append(row)
        return row

    def matrices(self) -> list[NDArray[np.floating]]:
        """Return a matrix for each column."""
        return [
            stack_vectors([vectors[number] for vectors in self.vectors], column)
            for number, column in enumerate(self.columns)
        ]


class Recorder:
    """What a job has computed and not written yet, and the store that it is written to."""

    def __init__(self, writer: StoreWriter, counter: Counter) -> None:
        self.writer = writer
        self.counter = counter
        self.part = PartBuilder(writer.store.columns)
        self.originals: dict[str, KnownFeatures] = {}
        """Features of each content in this part, with the item that had it first, which may be in an earlier part."""

    def find_known(self, digests: Sequence[str]) -> dict[str, KnownFeatures]:
        """Return the features of those contents that this part or the store has, by digest."""
        known = {digest: self.originals[digest] for digest in digests if digest in self.originals}
        others = [digest for digest in digests if digest not in known]
        for digest, ids in self.writer.index.find_ids_by_digest(others).items():
            stored = self._find_stored(ids)
            if stored is not None:
                known[digest] = stored
        return known

    def _find_stored(self, ids: Iterable[str]) -> KnownFeatures | None:
        """Return the features of the first of these items for which they are still those of its content."""
        for item_id in ids:
            if item_id in self.counter.pending.outdated:
                continue
            vectors = self.writer.vectors_of(item_id)
            if vectors is not None:
                return KnownFeatures(item_id, vectors)
        return None

    def add(self, result: Result) -> None:
        """Add a result to the part and to the ledger."""
        row = self.part.add(result)
        if row.row is not None and result.vectors is not None:
            original_id = result.duplicate_of or result.item.id
            self.originals.setdefault(result.digest, KnownFeatures(original_id, result.vectors))
        self.counter.ledger.truncated += result.truncated
        self.counter.count_computed(row.id, row.status, row.reason)

    def write_part(self, sizes: BatchSizes) -> None:
        """Write the rows and their features as a part; it keeps the batch sizes for a run that resumes."""
        started = time.perf_counter()
        self.writer.add_part(self.part.rows, self.part.matrices(), sizes)
        self.counter.pending.outdated.difference_update(row.id for row in self.part.rows)
        self.counter.ledger.note_memory()  # while the part is still in memory
        self.part = PartBuilder(self.part.columns)
        self.originals = {}
        self.counter.ledger.stages.write += time.perf_counter() - started


def fit_dtypes(vectors: Vectors, columns: Sequence[Column]) -> bool:
    """Return whether the dtypes of the columns can represent these features."""
    for vector, column in zip(vectors, columns, strict=True):
        if column.dtype == "float16" and np.abs(vector).max(initial=0) > FLOAT16_MAX:
            return False
    return True


def stack_vectors(vectors: list[NDArray[np.float32]], column: Column) -> NDArray[np.floating]:
    """Return the matrix (n_vectors, width) of a column, in its dtype."""
    if not vectors:
        return np.empty((0, column.width), column.dtype)
    return np.stack(vectors).astype(column.dtype, copy=False)

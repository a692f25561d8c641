"""A disposable index of the log: id -> place, label, status. If it is missing, stale or damaged, it is rebuilt."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from .delta import SourceDelta, find_delta_files
from .index_file import read_index, write_index
from .log import LogEntry
from .part import Row, rows_to_table
from .segment import NO_PLACE, Segment


class Index:
    """The state of a store's items: each once, at the position of its first addition, as its latest part left it.

    What an earlier writer indexed is mapped from the index file; later changes are kept in memory, in segments.
    `entries` are the log from its last checkpoint on. What only the damaged files `without` contain is left out;
    ``left_out`` names those that would have been needed.
    """

    def __init__(self, root: Path, entries: Sequence[LogEntry], without: Collection[str] = ()) -> None:
        self.root = root
        self.without = without
        self.left_out: set[str] = set()
        self.base = Segment.from_items(rows_to_table([]), NO_PLACE)
        self.recent: list[Segment] = []
        self.postponed: list[LogEntry] = []
        self.number = 0
        self.is_saved = False
        saved = read_index(root)
        if saved is not None and saved.belongs_to(entries):
            self.base = saved.items
            self.number = saved.number
            self.is_saved = True
        self.last = entries[-1] if entries else None
        for entry in entries:
            if entry.number > self.number:
                self.apply(entry, self.read_delta(entry))

    def read_delta(self, entry: LogEntry) -> SourceDelta | None:
        """Read the change of an entry, None if it has none or its files are damaged."""
        self.left_out.update(path for path in find_delta_files(entry) if path in self.without)
        return SourceDelta.read(self.root, entry, self.without)

    def apply(self, entry: LogEntry, delta: SourceDelta | None) -> None:
        """Apply the next entry of the log with its change of the items, None if there is none."""
        self._catch_up()
        self._note(entry)
        if delta is None:
            return
        if delta.is_addition:
            self.add(delta.segment)
        else:
            self.base = delta.apply_to(self.settle())

    def postpone(self, entry: LogEntry) -> None:
        """Apply the next entry of the log once its change of the items is needed, which is read from its files then."""
        self._note(entry)
        self.postponed.append(entry)

    def apply_checkpoint(self, entry: LogEntry, part: int) -> None:
        """Apply the next entry of the log, after which a part that was just written holds all items as they are."""
        self.base = self.settle().renumber(part)
        self._note(entry)

    def _note(self, entry: LogEntry) -> None:
        self.last = entry
        self.number = entry.number
        self.is_saved = False

    def _catch_up(self) -> None:
        """Apply the entries that were postponed."""
        postponed, self.postponed = self.postponed, []
        for entry in postponed:
            self.apply(entry, self.read_delta(entry))

    def add(self, newer: Segment) -> None:
        """Keep a segment in memory; segments are merged so that each is over twice as long as the one after it."""
        while self.recent and len(self.recent[-1]) <= 2 * len(newer):
            newer = self.recent.pop().merge(newer)
        self.recent.append(newer)

    def settle(self) -> Segment:
        """Merge all changes and return the state of all items."""
        self._catch_up()
        if self.recent:
            newer = self.recent[-1]
            for older in self.recent[-2::-1]:  # the smallest first, so that few items are copied often
                newer = older.merge(newer)
            self.base = self.base.merge(newer).settle()
            self.recent = []
        return self.base

    def save(self) -> None:
        """Write the index to disk, from where later readers and writers map it."""
        items = self.settle()
        if not self.is_saved and self.last is not None:
            write_index(self.root, items, self.last)
            self.is_saved = True

    @property
    def _newest_first(self) -> Iterator[Segment]:
        self._catch_up()
        yield from reversed(self.recent)
        yield self.base

    def find(self, ids: Sequence[str]) -> dict[str, Row]:
        """Return the state of those items that the store knows, by id."""
        found: dict[str, Row] = {}
        for segment in self._newest_first:
            places = segment.find_places([item_id for item_id in ids if item_id not in found])
            found.update((row.id, row) for row in segment.rows(places[places != NO_PLACE]))
        return found

    def find_ids_by_digest(self, digests: Sequence[str]) -> dict[str, list[str]]:
        """Return for each content the items with features that have it, in the order of their first addition."""
        found: dict[str, list[str]] = {digest: [] for digest in digests}
        segments = [*self._newest_first][::-1]
        for number, segment in enumerate(segments):
            later_segments = segments[number + 1 :]
            for digest, place in segment.find_digests(digests):
                item_id = segment.table["id"][place].as_py()
                is_replaced = any(later.find_places([item_id])[0] != NO_PLACE for later in later_segments)
                if not is_replaced:
                    found[digest].append(item_id)
        return found

    def find_row(self, item_id: str) -> tuple[int, int] | None:
        """Return part and row of an item's features, None if it has none."""
        for segment in self._newest_first:
            (place,) = segment.find_places([item_id])
            if place == NO_PLACE:
                continue
            if not segment.has_features[place]:
                return None
            return int(segment.numbers("part")[place]), int(segment.numbers("row")[place])
        return None

    def column(self, name: str) -> list[Any]:
        """Return one field of all items that have features, in the order of the matrices' rows."""
        items = self.settle()
        if name == "digest":
            return [bytes(digest).hex() for digest in items.digests[items.has_features]]
        if name == "status":
            return _select(items.statuses(), items)
        if name == "reason":
            return _select(items.reasons(), items)
        return _select(items.table[name].to_pylist(), items)

    def labels(self, name: str) -> list[Any]:
        """Return one column of labels of all items that have features, in the order of the matrices' rows."""
        items = self.settle()
        return _select(items.labels(name), items)

    def failures(self) -> list[tuple[str, str]]:
        """Return id and reason of each failed item, in the order of first addition."""
        from pyarrow import compute

        table = self.settle().table
        failed = table.filter(compute.equal(table["status"], "failed")).select(["id", "reason"]).to_pydict()
        return [(item_id, reason or "") for item_id, reason in zip(failed["id"], failed["reason"], strict=True)]

    def counts(self) -> dict[str, int]:
        """Return the number of items by status."""
        from pyarrow import compute

        items = self.settle()
        counted = compute.value_counts(items.table["status"]).to_pylist()
        counts = {pair["values"]: pair["counts"] for pair in counted}
        duplicates = int((items.numbers("original") != NO_PLACE).sum())
        counts["ok"] = counts.get("ok", 0) - duplicates
        counts["duplicate"] = duplicates
        return {status: count for status, count in counts.items() if count}


def _select(values: Sequence[Any], items: Segment) -> list[Any]:
    """Return the values of those items that have features."""
    return [value for value, has_row in zip(values, items.has_features.tolist(), strict=True) if has_row]

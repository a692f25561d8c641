"""``SourceDelta``: what one entry of the log changes of a store's items, the same while writing and on opening.

The writer builds a delta, writes its file and names it in the log; a reader gets the delta of an entry back from the
files. Both apply it to the index, so that a store shows the same to the process that wrote it and to every later one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .labels import BY_SOURCE, label_columns
from .log import Action, LogEntry
from .part import ITEMS_FILE, Row, parse_part_number, read_items, read_table, rows_to_table
from .segment import REMOVED_STATUS, USER_LABEL_PREFIX, Segment

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class SourceDelta:
    """A change of the items of a store.

    `items`, in the folder `part`, are added, or replace the known ones of the same id: new, changed, removed or pending
    ones; of a checkpoint, all items of the store. `labels` are new labels with a column ``id``, named by the user or
    the source (`labels_by`).
    """

    action: Action
    part: str | None = None
    items: pyarrow.Table | None = None
    labels: pyarrow.Table | None = None
    labels_by: str = BY_SOURCE

    @classmethod
    def add(cls, part: str, rows: Sequence[Row]) -> SourceDelta:
        """Return the addition of new and changed items."""
        return cls(Action.ADD_PART, part, rows_to_table(rows))

    @classmethod
    def prune(cls, part: str, rows: Sequence[Row]) -> SourceDelta:
        """Return the removal of items."""
        removed = [replace(row, status=REMOVED_STATUS, reason=None, row=None) for row in rows]
        return cls(Action.PRUNE, part, rows_to_table(removed))

    @classmethod
    def repair(cls, part: str, rows: Sequence[Row]) -> SourceDelta:
        """Return the change of items to pending ones, which have to be computed again."""
        pending = [replace(row, status="pending", reason=None, row=None) for row in rows]
        return cls(Action.REPAIR, part, rows_to_table(pending))

    @classmethod
    def checkpoint(cls, part: str, items: pyarrow.Table) -> SourceDelta:
        """Return the replacement of all items by those of a merged part."""
        return cls(Action.CHECKPOINT, part, items)

    @classmethod
    def set_labels(cls, labels: pyarrow.Table, by: str) -> SourceDelta:
        """Return the change of labels, in a table as :func:`label_table` returns it."""
        return cls(Action.SET_LABELS, labels=labels, labels_by=by)

    @classmethod
    def read(cls, root: Path, entry: LogEntry) -> SourceDelta | None:
        """Read the delta of an entry of the log from the files that it names, None if it changes no items."""
        path = find_delta_file(entry)
        if path is None:
            return None
        if entry.action == Action.SET_LABELS:
            return cls.set_labels(read_table(root / path), entry.details["by"])
        part = entry.details["part"]
        return cls(Action(entry.action), part, read_items(root / part))

    @property
    def details(self) -> dict[str, Any]:
        """The fields of the log entry that describe the part."""
        assert self.items is not None
        return {"part": self.part, "items": len(self.items)}

    @property
    def is_addition(self) -> bool:
        """Whether items are only added or replaced, so that the change can be merged with others later."""
        return self.action == Action.ADD_PART

    @property
    def segment(self) -> Segment:
        """The items of the part."""
        assert self.part is not None
        return Segment.from_items(self.items, parse_part_number(self.part))

    def apply_to(self, items: Segment) -> Segment:
        """Return the state of all items after this change of them; `items` are settled."""
        if self.action == Action.CHECKPOINT:
            return self.segment.settle()
        if self.labels is None:
            return items.merge(self.segment).settle()
        for name in label_columns(self.labels):
            column = name if self.labels_by == BY_SOURCE else USER_LABEL_PREFIX + name
            items = items.replace_values(column, self.labels["id"], self.labels[name])
        return items


def find_delta_file(entry: LogEntry) -> str | None:
    """Return the path within the store of the file that describes an entry's change of items, None if it has none."""
    details: Mapping[str, Any] = entry.details
    if entry.action == Action.SET_LABELS:
        return str(details["file"])
    if entry.action in (Action.ADD_PART, Action.PRUNE, Action.REPAIR, Action.CHECKPOINT):
        return f"{details['part']}/{ITEMS_FILE}"
    return None

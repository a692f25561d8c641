"""``SourceDelta``: what one entry of the log changes of a store's items, the same while writing and on opening.

The writer builds a delta, writes its file and names it in the log; a reader gets the delta of an entry back from the
files. Both apply it to the index, so that a store shows the same to the process that wrote it and to every later one.
Only a checkpoint is not read back by its writer, which has all items in its index, see :meth:`Index.apply_checkpoint`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
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

    `parts` are the items of each part, by its folder, in order: they are added, or replace the known ones of the same
    id: new, changed, removed or pending ones; of a checkpoint, all items of the store. `labels` are new labels with a
    column ``id``, named by the user or the source (`labels_by`).
    """

    action: Action
    parts: Mapping[str, pyarrow.Table] = field(default_factory=dict)
    labels: pyarrow.Table | None = None
    labels_by: str = BY_SOURCE

    @classmethod
    def add(cls, part: str, rows: Sequence[Row]) -> SourceDelta:
        """Return the addition of new and changed items."""
        return cls(Action.ADD_PART, {part: rows_to_table(rows)})

    @classmethod
    def prune(cls, part: str, rows: Sequence[Row]) -> SourceDelta:
        """Return the removal of items."""
        removed = [replace(row, status=REMOVED_STATUS, reason=None, row=None) for row in rows]
        return cls(Action.PRUNE, {part: rows_to_table(removed)})

    @classmethod
    def repair(cls, part: str, rows: Sequence[Row]) -> SourceDelta:
        """Return the change of items to pending ones, which have to be computed again."""
        pending = [replace(row, status="pending", reason=None, row=None) for row in rows]
        return cls(Action.REPAIR, {part: rows_to_table(pending)})

    @classmethod
    def set_labels(cls, labels: pyarrow.Table, by: str) -> SourceDelta:
        """Return the change of labels, in a table as :func:`label_table` returns it."""
        return cls(Action.SET_LABELS, labels=labels, labels_by=by)

    @classmethod
    def read(cls, root: Path, entry: LogEntry, without: Collection[str] = ()) -> SourceDelta | None:
        """Read the delta of an entry of the log from the files that it names, None if it changes no items.

        The files `without`, by path within the store, are left out.
        """
        paths = find_delta_files(entry)
        kept = [path for path in paths if path not in without]
        if not kept:
            return None
        if entry.action == Action.SET_LABELS:
            return cls.set_labels(read_table(root / kept[0]), entry.details["by"])
        folders = [path.rpartition("/")[0] for path in kept]
        if len(folders) == 1:
            tables = [read_items(root / folders[0])]
        else:
            with ThreadPoolExecutor() as pool:
                tables = list(pool.map(lambda folder: read_items(root / folder), folders))
        return cls(Action(entry.action), dict(zip(folders, tables, strict=True)))

    @property
    def part(self) -> str:
        """The folder of the only part."""
        (part,) = self.parts
        return part

    @property
    def items(self) -> pyarrow.Table:
        """The items of the only part."""
        return self.parts[self.part]

    @property
    def details(self) -> dict[str, Any]:
        """The fields of the log entry that describe the only part."""
        return {"part": self.part, "items": len(self.items)}

    @property
    def is_addition(self) -> bool:
        """Whether items are only added or replaced, so that the change can be merged with others later."""
        return self.action in (Action.ADD_PART, Action.ADD_PARTS)

    @property
    def segment(self) -> Segment:
        """The items of the parts."""
        return Segment.join([Segment.from_items(items, parse_part_number(part)) for part, items in self.parts.items()])

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


def find_delta_files(entry: LogEntry) -> list[str]:
    """Return the paths within the store of the files that describe an entry's change of items, none if it has none."""
    if entry.action == Action.SET_LABELS:
        return [str(entry.details["file"])]
    if entry.action in (Action.ADD_PART, Action.ADD_PARTS, Action.PRUNE, Action.REPAIR, Action.CHECKPOINT):
        return [f"{part}/{ITEMS_FILE}" for part in entry.parts]
    return []

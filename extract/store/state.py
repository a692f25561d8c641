"""What the log of a store tells without looking into parts: columns, live parts, live files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..cut import Column
from .index import number_of
from .log import CHECKPOINT, Entry


@dataclass(frozen=True)
class StoredColumn:
    """A column, its key in file names, and the graph that computes it."""

    key: str
    graph: str
    column: Column

    def to_json(self) -> dict[str, Any]:
        """Return the fields for an entry of the log."""
        return {"key": self.key, "graph": self.graph, "column": self.column.to_json()}


@dataclass(frozen=True)
class State:
    """A state of a store.

    Parameters
    ----------
    columns : tuple of StoredColumn
    parts : tuple of str
        The parts that make up the state, the oldest first.
    compacted : str or None
        The part that holds all items in order, if nothing came after it.
    files : dict
        SHA-256 of every file that is needed, by its path within the store.
    newest_part : int
        The highest number that a part has had.
    """

    columns: tuple[StoredColumn, ...] = ()
    parts: tuple[str, ...] = ()
    compacted: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    newest_part: int = 0

    def after(self, entry: Entry) -> State:
        """Return the state that an entry makes of this one."""
        state = replace(self, files={**self.files, **entry.files})
        if entry.action == "add_columns":
            graph = entry.details["graph"]
            columns = [StoredColumn(c["key"], graph, Column(**c["column"])) for c in entry.details["columns"]]
            return replace(state, columns=(*self.columns, *columns))
        if entry.action == CHECKPOINT:
            columns = [StoredColumn(c["key"], c["graph"], Column(**c["column"])) for c in entry.details["columns"]]
            state = replace(state, columns=tuple(columns), parts=(), files=entry.files)
        if "part" not in entry.details:
            return state
        part = entry.details["part"]
        compacted = part if entry.action == CHECKPOINT else None
        newest = max(self.newest_part, number_of(part))
        return replace(state, parts=(*state.parts, part), compacted=compacted, newest_part=newest)


def state_of(entries: Sequence[Entry]) -> State:
    """Return the state that a log tells."""
    state = State()
    for entry in entries:
        state = state.after(entry)
    return state

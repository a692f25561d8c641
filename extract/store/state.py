"""What the log of a store tells without looking into parts: columns, live parts, live files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..graphs.cut import Column
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
class Unfinished:
    """Columns that not every row has yet, and the parts that hold what there is of them."""

    columns: tuple[StoredColumn, ...] = ()
    parts: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields for an entry of the log."""
        return {"columns": [column.to_json() for column in self.columns], "parts": list(self.parts)}


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
    filling : Unfinished
        Columns that are being added.
    """

    columns: tuple[StoredColumn, ...] = ()
    parts: tuple[str, ...] = ()
    compacted: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    newest_part: int = 0
    filling: Unfinished = Unfinished()

    def after(self, entry: Entry) -> State:
        """Return the state that an entry makes of this one."""
        state = replace(self, files={**self.files, **entry.files})
        if entry.action == "add_columns":
            return state._with_columns(_columns(entry.details["columns"], entry.details["graph"]))
        if entry.action == CHECKPOINT:
            state = replace(state, columns=_columns(entry.details["columns"]), parts=(), files=entry.files)
            state = replace(state, filling=_unfinished(entry.details.get("filling", {})))
        if "part" not in entry.details:
            return state
        part = entry.details["part"]
        state = replace(state, newest_part=max(self.newest_part, number_of(part)))
        if entry.action == "fill":
            return replace(state, filling=replace(self.filling, parts=(*self.filling.parts, part)))
        return replace(state, parts=(*state.parts, part), compacted=part if entry.action == CHECKPOINT else None)

    def _with_columns(self, columns: tuple[StoredColumn, ...]) -> State:
        """Return the state with new columns; those without a graph are to be filled."""
        if columns[0].graph:
            return replace(self, columns=(*self.columns, *columns))
        given_up = tuple(f"{part}/" for part in self.filling.parts)
        files = {path: sha for path, sha in self.files.items() if not given_up or not path.startswith(given_up)}
        return replace(self, filling=Unfinished(columns), files=files)


def _columns(found: Sequence[Mapping[str, Any]], graph: str = "") -> tuple[StoredColumn, ...]:
    """Read columns; where they do not say which graph computes them, it is the one that is given."""
    return tuple(StoredColumn(c["key"], c.get("graph", graph), Column(**c["column"])) for c in found)


def _unfinished(found: Mapping[str, Any]) -> Unfinished:
    return Unfinished(_columns(found.get("columns", ())), tuple(found.get("parts", ())))


def state_of(entries: Sequence[Entry]) -> State:
    """Return the state that a log tells."""
    state = State()
    for entry in entries:
        state = state.after(entry)
    return state

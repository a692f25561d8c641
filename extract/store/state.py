"""The state of a store as its log describes it, without reading parts: columns, parts and files in use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from ..graphs.cut import Column
from .log import Action, LogEntry
from .part import parse_part_number


@dataclass(frozen=True)
class StoredColumn:
    """A column, its key in file names, and the graph that computes it ("" if none does)."""

    key: str
    graph: str
    column: Column

    def to_json(self) -> dict[str, Any]:
        """Return the fields for an entry of the log."""
        return {"key": self.key, "graph": self.graph, "column": self.column.to_json()}


@dataclass(frozen=True)
class UnfinishedColumns:
    """Columns that not every row has yet, and the parts with the features computed so far."""

    columns: tuple[StoredColumn, ...]
    parts: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> UnfinishedColumns:
        """Read the fields of an entry of the log."""
        return cls(_read_columns(fields["columns"]), tuple(fields["parts"]))

    def to_json(self) -> dict[str, Any]:
        """Return the fields for an entry of the log."""
        return {"columns": [column.to_json() for column in self.columns], "parts": list(self.parts)}

    @property
    def key(self) -> str:
        """Key of the first column, by which the log names them."""
        return self.columns[0].key

    def find_key(self, column: str | Column) -> str | None:
        """Return the key of a column, given with all its fields but the dtype, or by its name; None without it."""
        for stored in self.columns:
            own = stored.column
            if own.name == column or (isinstance(column, Column) and replace(column, dtype=own.dtype) == own):
                return stored.key
        return None


@dataclass(frozen=True)
class StoreState:
    """A state of a store.

    Attributes
    ----------
    parts : tuple of str
        The parts whose items make up the store, the oldest first.
    compacted : str or None
        The part with all items in order, if no part was added after it.
    files : dict
        SHA-256 of every file that is needed, by its path within the store.
    newest_part : int
        The highest number that a part has had.
    fillings : tuple of UnfinishedColumns
        Columns that are being added.
    """

    columns: tuple[StoredColumn, ...] = ()
    parts: tuple[str, ...] = ()
    compacted: str | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    newest_part: int = 0
    fillings: tuple[UnfinishedColumns, ...] = ()

    def apply(self, entry: LogEntry) -> StoreState:
        """Return the state after an entry of the log."""
        state = replace(self, files={**self.files, **entry.files})
        if entry.action == Action.ADD_COLUMNS:
            columns = _read_columns(entry.details["columns"], entry.details["graph"])
            return state.add_columns(columns, keeps_unfinished=entry.details.get("keeps_unfinished", False))
        if not entry.parts:
            return state
        state = replace(state, newest_part=max(self.newest_part, *map(parse_part_number, entry.parts)))
        if entry.action == Action.CHECKPOINT:
            return state.reset_to(entry)
        if entry.action == Action.FILL_COLUMNS:
            return state.add_filled_part(entry.parts[0], entry.details.get("filling"))
        return replace(state, parts=(*state.parts, *entry.parts), compacted=None)

    def add_parts(self, entries: Sequence[LogEntry]) -> StoreState:
        """Return the state after entries that only add parts; all at once, as there may be many."""
        files = dict(self.files)
        for entry in entries:
            files.update(entry.files)
        new = [part for entry in entries for part in entry.parts]
        newest = max(self.newest_part, *map(parse_part_number, new))
        return replace(self, parts=(*self.parts, *new), compacted=None, files=files, newest_part=newest)

    def add_columns(self, columns: tuple[StoredColumn, ...], keeps_unfinished: bool = False) -> StoreState:
        """Return the state with new columns; those without a graph are unfinished, and replace earlier such ones."""
        if columns[0].graph:
            return replace(self, columns=(*self.columns, *columns))
        state = self if keeps_unfinished else self.without_fillings()
        return replace(state, fillings=(*state.fillings, UnfinishedColumns(columns)))

    def without_fillings(self) -> StoreState:
        """Return the state without unfinished columns and their files."""
        abandoned = self.find_filled_files()
        files = {path: sha for path, sha in self.files.items() if path not in abandoned}
        return replace(self, files=files, fillings=())

    def add_filled_part(self, part: str, key: str | None) -> StoreState:
        """Return the state with a part of the unfinished columns of a key; logs without keys have one set of them."""
        fillings = tuple(
            replace(filling, parts=(*filling.parts, part)) if key in (filling.key, None) else filling
            for filling in self.fillings
        )
        return replace(self, fillings=fillings)

    @property
    def filled_parts(self) -> tuple[str, ...]:
        """The parts with features of unfinished columns."""
        return tuple(part for filling in self.fillings for part in filling.parts)

    def find_filled_files(self) -> dict[str, str]:
        """Return SHA-256 of the files with features of unfinished columns, by path."""
        folders = tuple(f"{part}/" for part in self.filled_parts)
        return {path: sha for path, sha in self.files.items() if path.startswith(folders)}

    def reset_to(self, checkpoint: LogEntry) -> StoreState:
        """Return the state that a checkpoint describes, in which nothing before it is needed."""
        part = checkpoint.details["part"]
        unfinished = checkpoint.details.get("fillings", [])
        if "filling" in checkpoint.details:  # of a version that knew one set of unfinished columns
            unfinished = [checkpoint.details["filling"]]
        return replace(
            self,
            columns=_read_columns(checkpoint.details["columns"]),
            parts=(part,),
            compacted=part,
            files=checkpoint.files,
            fillings=tuple(UnfinishedColumns.from_json(fields) for fields in unfinished),
        )

    def describe_columns(self) -> dict[str, Any]:
        """Return the fields of a checkpoint from which :meth:`reset_to` reads the columns."""
        details: dict[str, Any] = {"columns": [stored.to_json() for stored in self.columns]}
        if self.fillings:
            details["fillings"] = [filling.to_json() for filling in self.fillings]
        return details


def assign_keys(columns: Iterable[Column], first: int = 1, graph: str = "") -> tuple[StoredColumn, ...]:
    """Return columns with the keys of consecutive numbers, such as ``c0001``."""
    return tuple(StoredColumn(f"c{number:04d}", graph, column) for number, column in enumerate(columns, first))


def _read_columns(found: Sequence[Mapping[str, Any]], graph: str = "") -> tuple[StoredColumn, ...]:
    """Read columns; `graph` computes those that name no graph."""
    return tuple(
        StoredColumn(fields["key"], fields.get("graph", graph), Column(**fields["column"])) for fields in found
    )


def replay(entries: Sequence[LogEntry]) -> StoreState:
    """Return the state after all entries of a log."""
    state = StoreState()
    for is_addition, some in groupby(entries, lambda entry: entry.action in (Action.ADD_PART, Action.ADD_PARTS)):
        if is_addition:
            state = state.add_parts([*some])
        else:
            for entry in some:
                state = state.apply(entry)
    return state

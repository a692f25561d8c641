"""A disposable index of the log in SQLite: id -> place, label, status. Deleted, stale or damaged, it is rebuilt."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from .log import Entry
from .part import Row, read_rows

INDEX_FILE = "index.sqlite"
INDEX_FORMAT = 1
FIELDS = tuple(field.name for field in fields(Row))

SCHEMA = f"""
CREATE TABLE head (format INTEGER, number INTEGER, digest TEXT);
CREATE TABLE items (position INTEGER PRIMARY KEY, part TEXT, id TEXT UNIQUE, {", ".join(FIELDS[1:])});
CREATE INDEX items_digest ON items (digest);
INSERT INTO head VALUES ({INDEX_FORMAT}, 0, '');
"""

UPSERT = f"""
INSERT INTO items (part, {", ".join(FIELDS)}) VALUES ({", ".join("?" * (len(FIELDS) + 1))})
ON CONFLICT (id) DO UPDATE SET part = excluded.part, {", ".join(f"{name} = excluded.{name}" for name in FIELDS[1:])}
"""


class Index:
    """The state of a store: every item once, at the position of its first addition, as its latest part left it.

    Parameters
    ----------
    root : Path
        The store's folder.
    entries : sequence of Entry
        The log, which the index is brought up to.
    writable : bool
        Keep the index on disk; a reader whose index is stale rebuilds it in memory.
    """

    def __init__(self, root: Path, entries: Sequence[Entry], writable: bool) -> None:
        self.root = root
        self.connection = self._opened(entries, writable)

    def _opened(self, entries: Sequence[Entry], writable: bool) -> sqlite3.Connection:
        path = self.root / INDEX_FILE
        with contextlib.suppress(sqlite3.Error):
            connection = sqlite3.connect(path if writable else f"{path.absolute().as_uri()}?mode=ro", uri=not writable)
            number = _head(connection, entries)
            if number == len(entries) or (number is not None and writable):
                return self._caught_up(connection, entries[number:])
            connection.close()
        if not writable:
            return self._caught_up(_created(":memory:"), entries)
        path.unlink(missing_ok=True)
        return self._caught_up(_created(path), entries)

    def _caught_up(self, connection: sqlite3.Connection, entries: Iterable[Entry]) -> sqlite3.Connection:
        for entry in entries:
            rows = read_rows(self.root / entry.details["part"]) if entry.action == "add_part" else []
            _apply(connection, entry, rows)
        return connection

    def apply(self, entry: Entry, rows: Sequence[Row]) -> None:
        """Take in a new entry of the log, whose rows the caller has at hand."""
        _apply(self.connection, entry, rows)

    def find(self, item_id: str) -> Row | None:
        """Return the state of an item, None if the store does not know it."""
        found = self.connection.execute(f"SELECT {', '.join(FIELDS)} FROM items WHERE id = ?", (item_id,)).fetchone()
        return Row(*found) if found else None

    def id_of_digest(self, digest: str) -> str | None:
        """Return the first item with features that has this content."""
        query = "SELECT id FROM items WHERE digest = ? AND row IS NOT NULL ORDER BY position LIMIT 1"
        found = self.connection.execute(query, (digest,)).fetchone()
        return found[0] if found else None

    def place(self, item_id: str) -> tuple[str, int] | None:
        """Return part and row of an item's features, None if it has none."""
        query = "SELECT part, row FROM items WHERE id = ? AND row IS NOT NULL"
        found: tuple[str, int] | None = self.connection.execute(query, (item_id,)).fetchone()
        return found

    def column(self, name: str) -> list[Any]:
        """Return one field of all items that have features, in the order of the matrices' rows."""
        query = f"SELECT {name} FROM items WHERE row IS NOT NULL ORDER BY position"
        return [value for (value,) in self.connection.execute(query)]

    def failures(self) -> list[tuple[str, str]]:
        """Return id and reason of each failed item, in order of first addition."""
        return self.connection.execute(
            "SELECT id, reason FROM items WHERE status = 'failed' ORDER BY position"
        ).fetchall()

    def counts(self) -> dict[str, int]:
        """Return the number of items by status."""
        return dict(self.connection.execute("SELECT status, COUNT(*) FROM items GROUP BY status").fetchall())


def _created(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA)
    return connection


def _head(connection: sqlite3.Connection, entries: Sequence[Entry]) -> int | None:
    """Return up to which entry an index has read the log, None if it is no index of this log."""
    format_, number, digest = connection.execute("SELECT format, number, digest FROM head").fetchone()
    if format_ != INDEX_FORMAT or number > len(entries):
        return None
    return int(number) if number == 0 or entries[number - 1].digest == digest else None


def _apply(connection: sqlite3.Connection, entry: Entry, rows: Sequence[Row]) -> None:
    with connection:
        part = entry.details.get("part")
        connection.executemany(UPSERT, [(part, *(getattr(row, name) for name in FIELDS)) for row in rows])
        connection.execute("UPDATE head SET number = ?, digest = ?", (entry.number, entry.digest))

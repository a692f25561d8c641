"""A disposable index of the log in SQLite: id -> place, label, status. Deleted, stale or damaged, it is rebuilt."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...models.weights import digest_of_file
from ..atomic import TEMPORARY, write_file
from .log import Entry
from .part import Row, read_rows

INDEX_FILE = "index.sqlite"
DIGEST_FILE = "index.sha256"
WORKING_FILE = f"{TEMPORARY}index.sqlite"
INDEX_FORMAT = 1
FIELDS = tuple(field.name for field in fields(Row))
MOST_VALUES = 500
"""Values of one query: older versions of SQLite take 999."""

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

    SQLite does not notice a changed value, so a digest lies beside the file, and a file that does not have it is
    rebuilt. A reader works on a copy in memory, which is its snapshot; the writer on a copy on disk, which takes the
    file's place when it is closed.

    Parameters
    ----------
    root : Path
        The store's folder.
    entries : sequence of Entry
        The log, which the index is brought up to.
    writable : bool
        Put the index on disk when it is closed.
    """

    def __init__(self, root: Path, entries: Sequence[Entry], writable: bool) -> None:
        self.root = root
        self.working = root / WORKING_FILE if writable else None
        self.connection = self._connected(_trusted(root))
        number = _head(self.connection, entries)
        if number is None:
            self.connection.close()
            self.connection, number = self._connected(None), 0
        for entry in entries[number:]:
            self.apply(entry, read_rows(root / entry.details["part"]) if entry.action == "add_part" else [])

    def _connected(self, content: bytes | None) -> sqlite3.Connection:
        """Return a copy of an index, or a new one."""
        if self.working is None:
            connection = sqlite3.connect(":memory:")
            if content is not None:
                connection.deserialize(content)
        else:
            self.working.write_bytes(content or b"")
            connection = sqlite3.connect(self.working)
            connection.execute("PRAGMA journal_mode = MEMORY")  # what is disposable need not survive a crash
            connection.execute("PRAGMA synchronous = OFF")
        if content is None:
            connection.executescript(SCHEMA)
        return connection

    def close(self) -> None:
        """Close the index; a writer's becomes the store's."""
        self.connection.close()
        if self.working is not None:
            write_file(self.root / DIGEST_FILE, digest_of_file(self.working).encode())
            os.replace(self.working, self.root / INDEX_FILE)

    def apply(self, entry: Entry, rows: Sequence[Row]) -> None:
        """Take in a new entry of the log, with the rows of its part."""
        part = entry.details.get("part")
        with self.connection:
            values = [(part, *(getattr(row, name) for name in FIELDS)) for row in rows]
            self.connection.executemany(UPSERT, values)
            self.connection.execute("UPDATE head SET number = ?, digest = ?", (entry.number, entry.digest))

    def find(self, ids: Sequence[str]) -> dict[str, Row]:
        """Return the state of those items that the store knows, by id."""
        rows = self._where("id", ids, f"SELECT {', '.join(FIELDS)} FROM items WHERE")
        return {row[0]: Row(*row) for row in rows}

    def ids_of_digests(self, digests: Sequence[str]) -> dict[str, list[str]]:
        """Return for each content the items with features that have it, in order of first addition."""
        found: dict[str, list[str]] = {digest: [] for digest in digests}
        query = "SELECT digest, id FROM items WHERE row IS NOT NULL AND"
        for digest, item_id in self._where("digest", digests, query, "ORDER BY position"):
            found[digest].append(item_id)
        return found

    def _where(self, field: str, values: Sequence[str], query: str, order: str = "") -> Iterator[tuple[Any, ...]]:
        """Yield the answers to a query about some values of a field; one for each would wait for other threads."""
        for start in range(0, len(values), MOST_VALUES):
            some = values[start : start + MOST_VALUES]
            yield from self.connection.execute(f"{query} {field} IN ({', '.join('?' * len(some))}) {order}", some)

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


def _trusted(root: Path) -> bytes | None:
    """Return the content of the index file, None if it is missing or not what its digest says."""
    try:
        content, digest = (root / INDEX_FILE).read_bytes(), (root / DIGEST_FILE).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    return content if hashlib.sha256(content).hexdigest() == digest else None


def _head(connection: sqlite3.Connection, entries: Sequence[Entry]) -> int | None:
    """Return up to which entry an index has read the log, None if it is no index of this log."""
    format_, number, digest = connection.execute("SELECT format, number, digest FROM head").fetchone()
    if format_ != INDEX_FORMAT or number > len(entries):
        return None
    return int(number) if number == 0 or entries[number - 1].digest == digest else None

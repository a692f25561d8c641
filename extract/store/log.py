"""The log of a store: numbered entries, each with the digests of the one before it, of its files, and of itself.

An entry that compacts is a checkpoint: it names every file that is in use, so the entries before it need not be read.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...atomic import write_file
from ...errors import LogDamagedError, StoreError, StoreLockedError
from ...identity import digest, digest_of_file
from .remote_copy import LOG_FOLDER, find_copy

NUMBER_DIGITS = 10


class Action(StrEnum):
    """What an entry of the log does; the values are on disk."""

    ADD_COLUMNS = "add_columns"
    ADD_CANARIES = "add_canaries"
    ADD_PART = "add_part"
    ADD_PARTS = "add_parts"
    FILL_COLUMNS = "fill"
    SET_LABELS = "set_labels"
    PRUNE = "prune"
    REPAIR = "repair"
    CHECKPOINT = "compact"


@dataclass(frozen=True)
class LogEntry:
    """One entry of the log, numbered from 1 without gaps.

    `files` are those that the entry adds to the store: their SHA-256 by path within the store. `digest` is the SHA-256
    of the entry's own file, `previous` that of the entry before it; `time` is in UTC.
    """

    number: int
    action: str
    files: Mapping[str, str]
    details: Mapping[str, Any]
    digest: str
    time: str = ""
    previous: str | None = None

    @classmethod
    def from_json(cls, fields: Mapping[str, Any], digest: str) -> LogEntry:
        """Return the entry in the fields of a file, whose SHA-256 is `digest`."""
        known = {name: fields[name] for name in ("number", "action", "files", "details", "time", "previous")}
        return cls(digest=digest, **known)

    @property
    def parts(self) -> list[str]:
        """The folders of the parts that the entry adds, in order."""
        part = self.details.get("part")
        return list(self.details.get("parts", ())) if part is None else [part]


class Log:
    """The log of the store in the folder `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / LOG_FOLDER

    def entries(self) -> list[LogEntry]:
        """Read the entries from the last checkpoint on, and check their chain."""
        paths = self._list_paths()
        newest_first: list[LogEntry] = []
        for number in range(len(paths), 0, -1):
            entry = self._read(paths[number - 1], number)
            newest_first.append(entry)
            if entry.action == Action.CHECKPOINT:
                break
        entries = newest_first[::-1]
        self._check_chain(entries)
        return entries

    def history(self) -> list[LogEntry]:
        """Read all entries and check their chain."""
        entries = [self._read(path, number) for number, path in enumerate(self._list_paths(), 1)]
        self._check_chain(entries)
        return entries

    def append(
        self,
        last: LogEntry | None,
        action: Action,
        files: Sequence[Path],
        details: Mapping[str, Any],
        known_files: Mapping[str, str] | None = None,
    ) -> LogEntry:
        """Write the entry after `last`, which makes its files part of the store; they must be on disk already.

        `known_files` are other files with their SHA-256, by path within the store. Raise a StoreLockedError if another
        process has written the entry.
        """
        number = last.number + 1 if last else 1
        digests = {path.relative_to(self.root).as_posix(): digest_of_file(path) for path in files}
        fields: dict[str, Any] = {
            "number": number,
            "previous": last.digest if last else None,
            "action": str(action),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "files": {**(known_files or {}), **digests},
            "details": details,
        }
        content = json.dumps({**fields, "seal": digest(fields)}, indent=1).encode()
        path = self._path(number)
        try:
            copy = find_copy(self.root)
            if copy is not None:
                copy.push(fields["files"], f"{LOG_FOLDER}/{path.name}", content)
            if copy is None or not has_content(path, content):  # a reader of this machine may have fetched it
                write_file(path, content, exclusive=True)
        except FileExistsError as error:
            raise StoreLockedError(
                f"another process has written log entry {number} of {self.root} at the same time. "
                "Run the command again: it resumes from there."
            ) from error
        return LogEntry.from_json(fields, hashlib.sha256(content).hexdigest())

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:0{NUMBER_DIGITS}d}.json"

    def _list_paths(self) -> list[Path]:
        try:
            return sorted(self.folder.glob("[0-9]*.json"))
        except OSError as error:
            raise LogDamagedError(f"{self.folder} cannot be listed: {error.strerror}") from error

    def _read(self, path: Path, number: int) -> LogEntry:
        """Return the entry of a number after checking that it is the one in this file."""
        entry = read_entry(path)
        if path != self._path(number) or entry.number != number:
            raise _broken_chain_error(path)
        if entry.action not in list(Action):
            raise StoreError(f"log entry {path} has the action {entry.action!r}: another version of topwork wrote it")
        return entry

    def _check_chain(self, entries: Sequence[LogEntry]) -> None:
        """Raise an error unless each entry names the digest of the one before it."""
        if entries and entries[0].number == 1 and entries[0].previous is not None:
            raise _broken_chain_error(self._path(1))
        for earlier, entry in pairwise(entries):
            if entry.previous != earlier.digest:
                raise _broken_chain_error(self._path(entry.number))


def has_content(path: Path, content: bytes) -> bool:
    """Return whether there is a file with a content."""
    try:
        return path.read_bytes() == content
    except OSError:
        return False


def read_entry(path: Path) -> LogEntry:
    """Read the file of an entry, and check it against its own digest."""
    try:
        content = path.read_bytes()
    except OSError as error:
        cause = error.strerror
        raise LogDamagedError(f"log entry {path} cannot be read: {cause}. Check disk and permissions.") from error
    try:
        fields = json.loads(content)
        seal = fields.pop("seal")
        entry = LogEntry.from_json(fields, hashlib.sha256(content).hexdigest())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LogDamagedError(f"log entry {path} cannot be read: {error!r}. Restore it from a copy.") from error
    if seal != digest(fields):
        raise LogDamagedError(
            f"log entry {path} was changed: it does not match its own digest. Restore it from a copy."
        )
    return entry


def _broken_chain_error(path: Path) -> LogDamagedError:
    return LogDamagedError(
        f"log entry {path} does not follow from the one before it: an entry is missing or "
        "was changed. Restore the folder log/ from a copy."
    )

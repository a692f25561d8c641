"""The log of a store: numbered entries, each with the digests of the one before it, of its files, and of itself.

An entry that compacts is a checkpoint: it names every file that is true, so what came before it need not be read.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...atomic import write_file
from ...errors import LogDamagedError, StoreError, StoreLockedError
from ...identity import digest
from ...models.weights import digest_of_file

DIGITS = 10
CHECKPOINT = "compact"
ACTIONS = ("add_columns", "add_canaries", "add_part", "fill", "set_labels", "prune", "repair", CHECKPOINT)


@dataclass(frozen=True)
class Entry:
    """One entry of the log.

    Parameters
    ----------
    number : int
        From 1, without gaps.
    action : str
        One of :data:`ACTIONS`.
    files : dict
        SHA-256 of every file that the entry makes true, by its path within the store.
    details : dict
        What else the action needs.
    digest : str
        SHA-256 of the entry's own file.
    time : str
        When it was written, in UTC.
    """

    number: int
    action: str
    files: Mapping[str, str]
    details: Mapping[str, Any]
    digest: str
    time: str = ""


class Log:
    """The log of one store.

    Parameters
    ----------
    root : Path
        The store's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "log"

    def entries(self) -> list[Entry]:
        """Read the entries from the last checkpoint on, and check their chain.

        Raises
        ------
        LogDamagedError
            If an entry is missing, unreadable, or does not follow from the one before it.
        """
        found: list[tuple[Entry, str | None]] = []
        for path in reversed(paths := self._paths()):
            found.append(self._read(path, len(paths) - len(found)))
            if found[-1][0].action == CHECKPOINT:
                break
        return _chained(found[::-1], self.folder)

    def history(self) -> list[Entry]:
        """Read all entries and check their chain.

        Raises
        ------
        LogDamagedError
            As :meth:`entries`.
        """
        return _chained([self._read(path, number) for number, path in enumerate(self._paths(), 1)], self.folder)

    def _paths(self) -> list[Path]:
        try:
            return sorted(self.folder.glob("[0-9]*.json"))
        except OSError as error:
            raise LogDamagedError(f"{self.folder} cannot be listed: {error.strerror}") from error

    def _read(self, path: Path, number: int) -> tuple[Entry, str | None]:
        """Return an entry, and the digest of the one before it."""
        content = _content(path)
        try:
            fields = json.loads(content)
            known = {name: fields[name] for name in ("number", "action", "files", "details", "time")}
            entry = Entry(digest=_sha256(content), **known)
            seal, previous = fields.pop("seal"), fields["previous"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LogDamagedError(f"log entry {path} cannot be read: {error!r}. Restore it from a copy.") from error
        if seal != digest(fields):
            raise LogDamagedError(
                f"log entry {path} was changed: it does not have its own digest. Restore it from a copy."
            )
        if path.stem != f"{number:0{DIGITS}d}" or entry.number != number:
            raise _unlinked(path)
        if entry.action not in ACTIONS:
            raise StoreError(
                f"log entry {path} has an action {entry.action!r}, which only another version of topwork knows"
            )
        return entry, previous

    def append(
        self,
        last: Entry | None,
        action: str,
        files: Sequence[Path],
        details: Mapping[str, Any],
        known: Mapping[str, str] | None = None,
    ) -> Entry:
        """Make files true by naming them in the next entry.

        Parameters
        ----------
        last : Entry or None
            The entry that the caller takes for the newest.
        action : str
        files : sequence of Path
            They must be on disk already.
        details : dict
        known : dict, optional
            Other files with their SHA-256, by path within the store.

        Raises
        ------
        StoreLockedError
            If another process has written the next entry.
        """
        number = last.number + 1 if last else 1
        digests = {path.relative_to(self.root).as_posix(): digest_of_file(path) for path in files}
        fields: dict[str, Any] = {
            "number": number,
            "previous": last.digest if last else None,
            "action": action,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "files": {**(known or {}), **digests},
            "details": details,
        }
        content = json.dumps({**fields, "seal": digest(fields)}, indent=1).encode()
        try:
            write_file(self.folder / f"{number:0{DIGITS}d}.json", content, exclusive=True)
        except FileExistsError as error:
            raise StoreLockedError(
                f"another process has written log entry {number} of {self.root} at the same time. "
                "Run the command again: it goes on from there."
            ) from error
        return Entry(number, action, fields["files"], details, _sha256(content), fields["time"])


def _chained(found: Sequence[tuple[Entry, str | None]], folder: Path) -> list[Entry]:
    """Return the entries, if each names the one before it."""
    entries = [entry for entry, _ in found]
    if not entries:
        return []
    expected = [None if entries[0].number == 1 else found[0][1], *(entry.digest for entry in entries)]
    for (entry, previous), digest_before in zip(found, expected, strict=False):
        if previous != digest_before:
            raise _unlinked(folder / f"{entry.number:0{DIGITS}d}.json")
    return entries


def _unlinked(path: Path) -> LogDamagedError:
    return LogDamagedError(
        f"log entry {path} does not follow from the one before it: an entry is missing or "
        "was changed. Restore the folder log/ from a copy."
    )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LogDamagedError(
            f"log entry {path} cannot be read: {error.strerror}. Check disk and permissions."
        ) from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

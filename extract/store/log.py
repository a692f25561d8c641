"""The log of a store: numbered entries, each with the digests of the one before it, of its files, and of itself."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import StoreDamagedError, StoreError, StoreLockedError
from ...models.weights import digest_of_file
from ..atomic import write_file
from ..identity import digest

DIGITS = 10
ACTIONS = ("add_columns", "add_part")


@dataclass(frozen=True)
class Entry:
    """One entry of the log.

    Parameters
    ----------
    number : int
        From 1, without gaps.
    action : str
        "add_columns" or "add_part".
    files : dict
        SHA-256 of every file that the entry makes true, by its path within the store.
    details : dict
        What else the action needs.
    digest : str
        SHA-256 of the entry's own file.
    """

    number: int
    action: str
    files: Mapping[str, str]
    details: Mapping[str, Any]
    digest: str


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
        """Read all entries and check their chain.

        Raises
        ------
        StoreDamagedError
            If an entry is missing, unreadable, or does not follow from the one before it.
        """
        entries: list[Entry] = []
        for path in sorted(self.folder.glob("[0-9]*.json")):
            entries.append(self._read(path, entries[-1].digest if entries else None, len(entries) + 1))
        return entries

    def _read(self, path: Path, previous: str | None, number: int) -> Entry:
        content = path.read_bytes()
        try:
            fields = json.loads(content)
            entry = Entry(fields["number"], fields["action"], fields["files"], fields["details"], _sha256(content))
            seal, linked = fields.pop("seal"), fields["previous"] == previous
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreDamagedError(f"log entry {path} cannot be read: {error!r}. Restore it from a copy.") from error
        if seal != digest(fields):
            raise StoreDamagedError(
                f"log entry {path} was changed: it does not have its own digest. Restore it from a copy."
            )
        if path.stem != f"{number:0{DIGITS}d}" or entry.number != number or not linked:
            raise StoreDamagedError(
                f"log entry {path} does not follow from the one before it: an entry is missing or "
                "was changed. Restore the folder log/ from a copy."
            )
        if entry.action not in ACTIONS:
            raise StoreError(
                f"log entry {path} has an action {entry.action!r}, which only another version of topwork knows"
            )
        return entry

    def append(self, last: Entry | None, action: str, files: list[Path], details: Mapping[str, Any]) -> Entry:
        """Make files true by naming them in the next entry.

        Parameters
        ----------
        last : Entry or None
            The entry that the caller takes for the newest.
        action : str
        files : list of Path
            They must be on disk already.
        details : dict

        Raises
        ------
        StoreLockedError
            If another process has written the next entry.
        """
        number = last.number + 1 if last else 1
        digests = {path.relative_to(self.root).as_posix(): digest_of_file(path) for path in files}
        fields = {
            "number": number,
            "previous": last.digest if last else None,
            "action": action,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "files": digests,
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
        return Entry(number, action, digests, details, _sha256(content))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

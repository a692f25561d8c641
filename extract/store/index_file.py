"""The index on disk: an Arrow file with a digest in a second file, without which a changed value would go unnoticed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...atomic import TEMPORARY, write_file
from ...errors import LogDamagedError
from ...identity import digest_of_file
from .log import LogEntry
from .segment import Segment

INDEX_FILE = "index.arrow"
DIGEST_FILE = "index.sha256"
INDEX_FORMAT = 2
METADATA_KEY = b"topwork"


@dataclass(frozen=True)
class SavedIndex:
    """The content of an index file: items, mapped into memory, up to the log's entry of this number and digest."""

    number: int
    digest: str
    items: Segment

    def belongs_to(self, entries: Sequence[LogEntry]) -> bool:
        """Return whether the last entry that the index contains is one of these."""
        return any(entry.number == self.number and entry.digest == self.digest for entry in entries)


def write_index(root: Path, items: Segment, last: LogEntry) -> None:
    """Write the index file of a store and its digest; `last` is the last entry of the log that `items` contain."""
    import pyarrow as pa

    temporary = root / f"{TEMPORARY}{INDEX_FILE}"
    metadata = {"format": INDEX_FORMAT, "number": last.number, "digest": last.digest}
    table = items.to_table_with_lookups().replace_schema_metadata({METADATA_KEY: json.dumps(metadata)})
    try:
        with pa.OSFile(str(temporary), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)
        # Until the file is replaced, the digest of the old one is valid, too.
        valid_digests = [digest_of_file(temporary), *_read_digests(root)[:1]]
        write_file(root / DIGEST_FILE, "\n".join(valid_digests).encode())
        temporary.replace(root / INDEX_FILE)
    finally:
        temporary.unlink(missing_ok=True)


def read_index(root: Path) -> SavedIndex | None:
    """Return the content of a store's index file, None if it is missing, damaged, or of another version."""
    import pyarrow as pa

    try:
        if digest_of_file(root / INDEX_FILE) not in _read_digests(root):
            return None
        table = pa.ipc.open_file(pa.memory_map(str(root / INDEX_FILE))).read_all()
        metadata = json.loads(table.schema.metadata[METADATA_KEY])
        if metadata["format"] != INDEX_FORMAT:
            return None
        return SavedIndex(int(metadata["number"]), metadata["digest"], Segment(table))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return None


def read_indexed_number(root: Path) -> int:
    """Return the number of the last entry of the log in the index file, 0 if it cannot be used."""
    saved = read_index(root)
    return saved.number if saved else 0


def is_index_damaged(root: Path) -> bool:
    """Return whether the index file differs from its digest; one without a digest or file is not damaged."""
    path = root / INDEX_FILE
    try:
        return path.exists() and (root / DIGEST_FILE).exists() and digest_of_file(path) not in _read_digests(root)
    except OSError:
        return True


def check_log_is_complete(root: Path, last_number: int, indexed_number: int) -> None:
    """Raise an error if the index contains later entries than the log.

    Only a writer may call :func:`read_indexed_number` after it has read the log: while a reader does so, another
    process can add entries and update the index.
    """
    if indexed_number > last_number:
        raise LogDamagedError(
            f"{root / 'log'} ends with entry {last_number}, but the index contains entries up to {indexed_number}: "
            f"entries are missing. Restore the folder log/ from a copy, or remove {INDEX_FILE} to continue without "
            "them."
        )


def _read_digests(root: Path) -> list[str]:
    """Return the digests that the index file may have."""
    try:
        return (root / DIGEST_FILE).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []

"""One file on disk."""

from __future__ import annotations

import os


def facts(path: str | os.DirEntry[str]) -> tuple[int | None, int | None]:
    """Return size and modification time; a dangling link fails when it is read, as an item of the ledger."""
    try:
        status = path.stat() if isinstance(path, os.DirEntry) else os.stat(path)
    except OSError:
        return None, None
    return status.st_size, status.st_mtime_ns


def read_file(path: str) -> bytes:
    """Return a file's content."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError("not a regular file")  # a pipe would be waited for without end
    with open(path, "rb") as stream:
        return stream.read()

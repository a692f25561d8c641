"""One file on disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from ...errors import DecodeError

LARGEST = 2**31
"""Bytes of the largest file that is read as one item: a sparse file of terabytes takes no space on the disk."""
TIMES = range(-(2**63), 2**63)
"""Times of modification that a store can hold, in nanoseconds."""


def facts(path: str | os.DirEntry[str]) -> tuple[int | None, int | None]:
    """Return size and modification time, None where they prove nothing; what cannot be read fails when it is."""
    try:
        status = path.stat() if isinstance(path, os.DirEntry) else os.stat(path)
    except (OSError, ValueError):  # of a path that no file can have
        return None, None
    return (status.st_size, status.st_mtime_ns) if status.st_mtime_ns in TIMES else (None, None)


def read_file(path: str) -> bytes:
    """Return a file's content.

    Parameters
    ----------
    path : str

    Raises
    ------
    OSError
        If there is no such file, or it is not a regular one, or it cannot be read.
    DecodeError
        If it is larger than any item.
    """
    try:
        size = check_regular(path)
    except ValueError as error:  # a zero byte, or half of a surrogate pair
        raise OSError(f"no path of a file: {error}") from error
    check_size(size)
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except MemoryError as error:
        raise OSError(f"{size:,} bytes do not fit into memory") from error


def check_regular(path: str | Path) -> int:
    """Return a file's size; a folder is no file, and a pipe would be waited for without end.

    Raises
    ------
    OSError
        If it is not a regular file.
    """
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        found = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device"
        raise OSError(f"not a regular file but {found}")
    return status.st_size


def check_size(size: int) -> None:
    """Refuse what is too large for an item, before it fills the memory.

    Raises
    ------
    DecodeError
        If it is.
    """
    if size > LARGEST:
        raise DecodeError(f"{size:,} bytes; expected at most {LARGEST:,}")

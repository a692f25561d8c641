"""Files on disk as items: their content, size and time of modification, within limits."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...errors import DecodeError
from .item import Item
from .path_labels import FolderLayout
from .sidecars import Sidecars

MAX_ITEM_BYTES = 2**31
"""Largest file that is read as one item: a sparse file of terabytes takes no space on the disk."""
STORABLE_TIMES_NS = range(-(2**63), 2**63)
"""Times of modification that a store can hold, in nanoseconds."""


@dataclass(frozen=True)
class ListedFile:
    """A file below a root: its path, and its name relative to the root.

    Size in bytes and modification time in nanoseconds are None where they are not known.
    """

    path: str
    name: str
    size: int | None
    mtime_ns: int | None

    def item(self, identifier: str, read: Callable[[], bytes], layout: FolderLayout, sidecars: Sidecars) -> Item:
        """Return the file as an item; its sidecar or its folders name the label, its folders the split."""
        label, split = layout.label_and_split(self.name)
        label = sidecars.find_label(self.name) or label
        return Item(identifier, read, label=label, split=split, size=self.size, mtime_ns=self.mtime_ns)


@dataclass(frozen=True)
class FileContent:
    """Reads a file on disk; what needs a part of it alone takes the path."""

    path: str

    def __call__(self) -> bytes:
        """Return the content."""
        return read_file(self.path)


def file_item(identifier: str, path: str) -> Item:
    """Return a file as an item, which is read when it is needed."""
    size, mtime_ns = size_and_time(path)
    return Item(identifier, FileContent(path), size=size, mtime_ns=mtime_ns)


def size_and_time(path: str | os.DirEntry[str]) -> tuple[int | None, int | None]:
    """Return size in bytes and modification time in nanoseconds.

    Both are None for a file that has none or whose time cannot be stored; the error is raised when it is read.
    """
    try:
        status = path.stat() if isinstance(path, os.DirEntry) else os.stat(path)
    except (OSError, ValueError):  # of a path that no file can have
        return None, None
    if status.st_mtime_ns not in STORABLE_TIMES_NS:
        return None, None
    return status.st_size, status.st_mtime_ns


def read_file(path: str) -> bytes:
    """Return a file's content.

    Raise an OSError if there is no such file, or it is not a regular one, or it cannot be read; a DecodeError if it is
    larger than any item.
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
    """Return a file's size; raise an OSError for a folder or a pipe, as a pipe would block forever."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        found = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device"
        raise OSError(f"not a regular file but {found}")
    return status.st_size


def check_size(size: int) -> None:
    """Raise a DecodeError for more than :data:`MAX_ITEM_BYTES`, before it fills the memory."""
    if size > MAX_ITEM_BYTES:
        raise DecodeError(f"{size:,} bytes; expected at most {MAX_ITEM_BYTES:,}")

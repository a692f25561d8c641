"""A folder of images, texts or tensors; the names of its sub-folders are the labels."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...errors import SourceError
from .file import facts, read_file
from .identifiers import UniqueIds, label_and_split, storable_text
from .item import Item
from .item_kinds import ITEM_KINDS

UNKNOWN = -1
"""Size and time of a link that leads nowhere."""


class FolderSource:
    """All items below a folder, sorted by path.

    Links are followed, except into a folder that they lie in.

    Parameters
    ----------
    root : Path
        Listed at once; files are read when their turn comes.
    kind : {"image", "text", "tensor"}
        Which files are items: those with an image's ending, ``.txt``, or ``.npy``.
    """

    def __init__(self, root: Path, kind: str = "image") -> None:
        self.root, self.kind = root, kind
        self.ignored = 0
        self._files = _Files()
        self._list(str(root))

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._files.names)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, sorted by path."""
        unique = UniqueIds()
        for folder, prefix, name, size, mtime_ns in self._files:
            identifier = storable_text(prefix + name)
            label, split = label_and_split(identifier)
            if identifier in self._files.escaped:
                identifier = unique(identifier)
            yield Item(identifier, partial(read_file, os.path.join(folder, name)), label, split, size, mtime_ns)

    def _list(self, root: str) -> None:
        """Take in the items below a folder; one that is its own ancestor by way of a link is not entered."""
        path = [_opened(root, "")]  # from the root down to the folder that is being listed
        above = {path[0].key}
        while path:
            below = self._take_in(path[-1])
            if below is None:
                above.remove(path.pop().key)
            elif below.key not in above:
                path.append(below)
                above.add(below.key)

    def _take_in(self, folder: _Folder) -> _Folder | None:
        """Take in the items of a folder up to the next folder in it, and return that, or None at the end."""
        for entry in folder.entries:
            if _is_folder(entry, self.kind):
                return _opened(entry.path, f"{folder.prefix}{entry.name}/")
            if ITEM_KINDS[self.kind].matches(entry.name):
                self._files.add(folder, entry)
            else:
                self.ignored += 1
        return None


@dataclass(frozen=True)
class _Folder:
    """A folder that is being listed: what comes before a name in an id, which folder it is, what is still to come."""

    path: str
    prefix: str
    key: tuple[int, int]
    entries: Iterator[os.DirEntry[str]]


def _opened(path: str, prefix: str) -> _Folder:
    try:
        status, entries = os.stat(path), list(os.scandir(path))
    except OSError as error:
        raise _unlisted(path, error) from error
    entries.sort(key=lambda entry: (storable_text(entry.name), entry.name))
    return _Folder(path, prefix, (status.st_dev, status.st_ino), iter(entries))


def _is_folder(entry: os.DirEntry[str], kind: str) -> bool:
    """Tell whether an entry is a folder or leads to one; a link that leads to itself does not."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP or ITEM_KINDS[kind].matches(entry.name):
            return False
        raise _unlisted(entry.path, error) from error


def _unlisted(path: str, error: OSError) -> SourceError:
    return SourceError(
        f"folder {path} cannot be listed: {error.strerror}. Its items would be missed; "
        "change its permissions or shorten its path, or move it away."
    )


class _Files:
    """Files in their order: little more memory than their names, as there may be millions."""

    def __init__(self) -> None:
        self.folders: list[tuple[int, str, str]] = []
        """From which file on, in which folder, and what comes before the name in an id."""
        self.names: list[str] = []
        self.escaped: set[str] = set()
        """Ids of names in another encoding: a file may be called just so."""
        self.sizes, self.times = array("q"), array("q")

    def add(self, folder: _Folder, entry: os.DirEntry[str]) -> None:
        if not self.folders or self.folders[-1][1] != folder.path:
            self.folders.append((len(self.names), folder.path, folder.prefix))
        raw = folder.prefix + entry.name
        if not raw.isascii() and storable_text(raw) != raw:
            self.escaped.add(storable_text(raw))
        size, mtime_ns = facts(entry)
        self.names.append(entry.name)
        self.sizes.append(UNKNOWN if size is None else size)
        self.times.append(UNKNOWN if mtime_ns is None else mtime_ns)

    def __iter__(self) -> Iterator[tuple[str, str, str, int | None, int | None]]:
        ends = [start for start, _, _ in self.folders[1:]] + [len(self.names)]
        for (start, folder, prefix), end in zip(self.folders, ends, strict=True):
            for place in range(start, end):
                size, mtime_ns = self.sizes[place], self.times[place]
                known = (None, None) if size == UNKNOWN else (size, mtime_ns)
                yield folder, prefix, self.names[place], *known

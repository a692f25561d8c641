"""A folder of image, text or tensor files; its sidecars or its sub-folders name the labels."""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ...errors import SourceError
from .file import FileContent, ListedFile, size_and_time
from .identifiers import UniqueIds, storable_text
from .item import Item
from .item_kinds import ITEM_KINDS
from .path_labels import find_layout, is_system_folder, list_folders
from .sidecars import Sidecars

NOT_KNOWN = -1
"""Size and time of a link that leads nowhere."""


class FolderSource:
    """All items below a folder, which is listed at once, sorted by path; files are read when they are needed.

    Links are followed, except into a folder that they lie in. Folders that are hidden, or that systems make for
    thumbnails and the like, are not entered. Labels in sidecars (``.cls``, ``.json``) precede those of folders, as in
    archives. The `kind` decides which files are items: those with an image's ending, ``.txt``, or ``.npy``.
    """

    def __init__(self, root: Path, kind: str = "image") -> None:
        self.root = root
        self.kind = kind
        self.ignored = 0
        self._files = FileList()
        self._sidecars = Sidecars(f"folder {root}")
        sidecars = {}
        for folder, entry in walk_tree(str(root), kind):
            if ITEM_KINDS[kind].matches(entry.name):
                self._files.add(folder, entry)
            elif self._sidecars.is_sidecar(entry.name, size_and_time(entry)[0] or 0):
                name = storable_text(folder.prefix + entry.name)
                sidecars[name] = FileContent(entry.path)
            else:
                self.ignored += 1
        self._sidecars.add_those_of((file.name for file in self._files), sidecars)
        self._layout = find_layout(list_folders(prefix) for prefix in self._files.prefixes)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._files.names)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, sorted by path."""
        unique = UniqueIds()
        for file in self._files:
            identifier = file.name
            if identifier in self._files.escaped_ids:
                identifier = unique(identifier)
            yield file.item(identifier, FileContent(file.path), self._layout, self._sidecars)


@dataclass(frozen=True)
class OpenFolder:
    """A folder that is being listed."""

    path: str
    prefix: str
    """Precedes the names of its files in their ids."""
    key: tuple[int, int]
    """Device and inode, by which it is recognised under another path."""
    entries: Iterator[os.DirEntry[str]]
    """Entries that were not looked at so far."""


def walk_tree(root: str, kind: str) -> Iterator[tuple[OpenFolder, os.DirEntry[str]]]:
    """Yield each file below a folder, in the order of their paths, with the folder that it lies in.

    A folder that is its own ancestor by way of a link is not entered.
    """
    path = [open_folder(root, "")]  # from the root down to the folder that is being listed
    while path:
        folder = path[-1]
        entry = next(folder.entries, None)
        if entry is None:
            path.pop()
        elif leads_to_folder(entry, kind):
            if is_system_folder(entry.name):
                continue
            below = open_folder(entry.path, f"{folder.prefix}{entry.name}/")
            if all(below.key != ancestor.key for ancestor in path):
                path.append(below)
        else:
            yield folder, entry


def open_folder(path: str, prefix: str) -> OpenFolder:
    """List a folder, sorted by name; raise a SourceError if that fails."""
    try:
        status = os.stat(path)
        entries = list(os.scandir(path))
    except OSError as error:
        raise _listing_error(path, error) from error
    entries.sort(key=lambda entry: (storable_text(entry.name), entry.name))
    return OpenFolder(path, prefix, key=(status.st_dev, status.st_ino), entries=iter(entries))


def leads_to_folder(entry: os.DirEntry[str], kind: str) -> bool:
    """Return whether an entry is a folder or leads to one; a link that leads to itself does not."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP or ITEM_KINDS[kind].matches(entry.name):
            return False
        raise _listing_error(entry.path, error) from error


def _listing_error(path: str, error: OSError) -> SourceError:
    return SourceError(
        f"folder {path} cannot be listed: {error.strerror}. Its items would be missed; "
        "change its permissions or shorten its path, or move it away."
    )


class FileList:
    """Files in their order, in little more memory than their names, as there may be millions.

    `escaped_ids` are those of names in another encoding, which may equal the name of another file.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.escaped_ids: set[str] = set()
        self._folders: list[tuple[int, str, str]] = []  # number of the first file, path, and prefix of the ids
        self._sizes = array("q")
        self._times = array("q")

    @property
    def prefixes(self) -> list[str]:
        """Names of the folders that files lie in, each followed by a name that stands for the files."""
        return [storable_text(f"{prefix}*") for _, _, prefix in self._folders]

    def add(self, folder: OpenFolder, entry: os.DirEntry[str]) -> None:
        """Add a file of a folder."""
        if not self._folders or self._folders[-1][1] != folder.path:
            self._folders.append((len(self.names), folder.path, folder.prefix))
        name = folder.prefix + entry.name
        identifier = storable_text(name)
        if identifier != name:
            self.escaped_ids.add(identifier)
        size, mtime_ns = size_and_time(entry)
        if size is None or mtime_ns is None:
            size = NOT_KNOWN
            mtime_ns = NOT_KNOWN
        self.names.append(entry.name)
        self._sizes.append(size)
        self._times.append(mtime_ns)

    def __iter__(self) -> Iterator[ListedFile]:
        """Yield the files in the order in which they were added."""
        bounds = [*(start for start, _, _ in self._folders), len(self.names)]
        for (start, end), (_, folder, prefix) in zip(pairwise(bounds), self._folders, strict=True):
            for number in range(start, end):
                name = self.names[number]
                path = os.path.join(folder, name)
                identifier = storable_text(prefix + name)
                size = self._sizes[number]
                if size == NOT_KNOWN:
                    yield ListedFile(path, identifier, size=None, mtime_ns=None)
                else:
                    yield ListedFile(path, identifier, size=size, mtime_ns=self._times[number])

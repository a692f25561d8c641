"""A folder of images, texts or tensors; the names of its sub-folders are the labels."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ...errors import SourceError
from ..item import Item
from .file import facts, read_file
from .labelling import is_item, label_and_split, text_of

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
        self._list(str(root), "", frozenset())

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._files.names)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, sorted by path."""
        for folder, prefix, name, size, mtime_ns in self._files:
            identifier = text_of(prefix + name)
            label, split = label_and_split(identifier)
            yield Item(identifier, partial(read_file, os.path.join(folder, name)), label, split, size, mtime_ns)

    def _list(self, folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        """Take in the items below a folder; one that is its own ancestor by way of a link is not entered."""
        try:
            status, entries = os.stat(folder), list(os.scandir(folder))
        except OSError as error:
            raise SourceError(
                f"folder {folder} cannot be listed: {error.strerror}. Its items would be missed; "
                "change its permissions or move it away."
            ) from error
        key = (status.st_dev, status.st_ino)
        if key in above:
            return
        for entry in sorted(entries, key=lambda entry: text_of(entry.name)):
            if entry.is_dir():
                self._list(entry.path, f"{prefix}{entry.name}/", above | {key})
            elif is_item(entry.name, self.kind):
                self._files.add(folder, prefix, entry)
            else:
                self.ignored += 1


class _Files:
    """Files in their order: little more memory than their names, as there may be millions."""

    def __init__(self) -> None:
        self.folders: list[tuple[int, str, str]] = []
        """From which file on, in which folder, and what comes before the name in an id."""
        self.names: list[str] = []
        self.sizes, self.times = array("q"), array("q")

    def add(self, folder: str, prefix: str, entry: os.DirEntry[str]) -> None:
        if not self.folders or self.folders[-1][1] != folder:
            self.folders.append((len(self.names), folder, prefix))
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

"""A folder of images, texts or tensors; the names of its sub-folders are the labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

from ...errors import SourceError
from ..item import Item
from .file import facts, read_file
from .labelling import is_item, label_and_split, text_of

_File: TypeAlias = tuple[str, str, int | None, int | None]
"""Id, path, size and modification time."""


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
        self._files = sorted(self._walk(str(root), "", frozenset()), key=lambda file: file[0].split("/"))

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._files)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, sorted by path."""
        for identifier, path, size, mtime_ns in self._files:
            label, split = label_and_split(identifier)
            yield Item(identifier, partial(read_file, path), label, split, size, mtime_ns)

    def _walk(self, folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[_File]:
        """Yield the items below a folder; one that is its own ancestor by way of a link is not entered."""
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
        for entry in entries:
            if entry.is_dir():
                yield from self._walk(entry.path, f"{prefix}{entry.name}/", above | {key})
            elif is_item(entry.name, self.kind):
                yield text_of(prefix + entry.name), entry.path, *facts(entry)
            else:
                self.ignored += 1

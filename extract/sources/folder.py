"""A folder of images; the names of its sub-folders are the labels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ...errors import SourceError
from ..item import Item
from .file import facts, read_file
from .labelling import is_image, label_and_split, text_of


class FolderSource:
    """All images below a folder, sorted by path.

    Links are followed; a folder that was reached before is not entered again.

    Parameters
    ----------
    root : Path
        Listed at once; files are read when their turn comes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ignored = 0
        self._files = sorted(self._walk(root), key=lambda entry: entry[0].split("/"))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._files)

    def __iter__(self) -> Iterator[Item]:
        """Yield the images, sorted by path."""
        for identifier, path, size, mtime_ns in self._files:
            label, split = label_and_split(identifier)
            yield Item(identifier, partial(read_file, path), label, split, size, mtime_ns)

    def _walk(self, root: Path) -> Iterator[tuple[str, str, int | None, int | None]]:
        seen: set[tuple[int, int]] = set()
        for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_refuse):
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:
                subfolders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            subfolders.sort()
            for name in files:
                path = os.path.join(folder, name)
                if is_image(name):
                    identifier = text_of(os.path.relpath(path, root)).replace(os.sep, "/")
                    yield identifier, path, *facts(path)
                else:
                    self.ignored += 1


def _refuse(error: OSError) -> None:
    raise SourceError(
        f"folder {error.filename} cannot be listed: {error.strerror}. Its items would be missed; "
        "change its permissions or move it away."
    ) from error

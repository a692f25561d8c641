"""From what the user gave to a source of items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ...errors import SourceError
from ..item import Item


@runtime_checkable
class Source(Protocol):
    """A sized collection of items, in a fixed order, that can be gone through again."""

    @property
    def ignored(self) -> int:
        """Number of files that are no images and were left out."""

    def __len__(self) -> int:
        """Return the number of items."""

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, always in the same order."""


def open_source(source: Any, labels: Sequence[Any] | None = None) -> Source:
    """Return the items of a folder, an archive, or a Python sequence.

    Parameters
    ----------
    source : str, path, sequence or Source
        A folder, whose sub-folders name the labels; a ``.tar``, ``.tar.gz`` or ``.tgz``; or a sequence of paths, uint8
        arrays and PIL images.
    labels : sequence, optional
        One for each item of a sequence.

    Raises
    ------
    SourceError
        If there is nothing to read, or no item in it.
    """
    from .archive import ArchiveSource
    from .folder import FolderSource
    from .sequence import SequenceSource

    if isinstance(source, Source):
        return source
    if not isinstance(source, (str, Path)):
        return SequenceSource(source, labels)
    path = Path(source)
    if not path.exists():
        raise SourceError(f"source {path} does not exist; expected a folder of images or a .tar, .tar.gz or .tgz")
    opened: Source
    if path.is_dir():
        opened = FolderSource(path)
    elif path.name.endswith((".tar", ".tar.gz", ".tgz")):
        opened = ArchiveSource(path)
    else:
        raise SourceError(
            f"source {path} is of an unknown kind; expected a folder of images or a .tar, .tar.gz or .tgz"
        )
    if not len(opened):
        raise SourceError(f"source {path} holds no images ({opened.ignored} other files)")
    return opened

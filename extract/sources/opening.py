"""From what the user gave to a source of items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ...errors import SourceError
from ..item import Item
from .table import TABLE_SUFFIXES, Table, TableSource


@runtime_checkable
class Source(Protocol):
    """A sized collection of items, in a fixed order, that can be gone through again."""

    @property
    def ignored(self) -> int:
        """Number of files that are of another kind and were left out."""

    def __len__(self) -> int:
        """Return the number of items."""

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, always in the same order."""


EXPECTED = "a folder, a .tar, .tar.gz or .tgz, a .csv, .tsv, .jsonl or .parquet table, or an .npy or .npz"


def open_source(source: Any, labels: Sequence[Any] | None = None, *, kind: str = "image") -> Source:
    """Return the items of a folder, an archive, a table, an array, or a Python sequence.

    Parameters
    ----------
    source : str, path, Table, sequence or Source
        A folder, whose sub-folders name the labels; a ``.tar``, ``.tar.gz`` or ``.tgz``; a table; an ``.npy`` whose
        rows are items, or an ``.npz`` of such an array ``X`` and labels ``y``; or a sequence of paths, uint8 arrays and
        PIL images, of texts, or of arrays of numbers.
    labels : sequence, optional
        One for each item of a sequence.
    kind : {"image", "text", "tensor"}
        What the backbone eats.

    Raises
    ------
    SourceError
        If there is nothing to read, or no item in it.
    """
    from .sequence import SequenceSource

    if isinstance(source, Source):
        return source
    if not isinstance(source, (str, Path, Table)):
        return SequenceSource(source, labels, kind)
    path = Path(source.file if isinstance(source, Table) else source)
    if not path.exists():
        raise SourceError(f"source {path} does not exist; expected {EXPECTED}")
    opened = TableSource(source, kind) if isinstance(source, Table) else _opened(path, kind)
    if not len(opened):
        raise SourceError(f"source {path} holds no {kind}s ({opened.ignored} other files)")
    return opened


def _opened(path: Path, kind: str) -> Source:
    from .archive import ArchiveSource
    from .array import array_source
    from .folder import FolderSource

    if path.suffix in TABLE_SUFFIXES and path.is_file():
        return TableSource(Table(path), kind)
    if path.is_dir():
        return FolderSource(path, kind)
    if path.name.endswith((".tar", ".tar.gz", ".tgz")):
        return ArchiveSource(path, kind)
    if path.suffix in (".npy", ".npz"):
        return array_source(path, kind)
    raise SourceError(f"source {path} is of an unknown kind; expected {EXPECTED}")

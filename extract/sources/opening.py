"""From what the user gave to a source of items."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import SourceError
from .item import Source
from .table import TABLE_SUFFIXES, Table, TableSource
from .url import is_url, local_path

EXPECTED = "a folder, a .tar, .tar.gz or .tgz, a .csv, .tsv, .jsonl or .parquet table, an .npy or .npz, or a URL of one"


def open_source(
    source: Any, labels: Iterable[Any] | None = None, *, ids: Iterable[Any] | None = None, kind: str = "image"
) -> Source:
    """Return the items of a folder, an archive, a table, an array, the URL of one of these, or a Python sequence.

    Parameters
    ----------
    source : str, path, Table, iterable or Source
        A folder, whose sub-folders name the labels; a ``.tar``, ``.tar.gz`` or ``.tgz``; a table; an ``.npy`` whose
        rows are items, or an ``.npz`` of such an array ``X`` and labels ``y``; the URL of any of these, as fsspec
        understands it; or paths, uint8 arrays and PIL images, texts, or arrays of numbers. A generator of these is gone
        through once, and what it yields is kept.
    labels : iterable, optional
        One for each item of a sequence.
    ids : iterable, optional
        One for each item of a sequence, all different as texts.
    kind : {"image", "text", "tensor"}
        Kind of input that the backbone expects.

    Raises
    ------
    SourceError
        If there is nothing to read, or no item in it.
    """
    from .sequence import SequenceSource

    if not isinstance(source, (str, Path, Table, Source)):
        return SequenceSource(source, labels, kind, ids)
    if ids is not None:
        raise SourceError(f"ids for a {type(source).__name__}, whose items have their own; they are for sequences")
    if isinstance(source, Source):
        return source
    place = source.file if isinstance(source, Table) else source
    opened = _at_url(source, str(place), kind) if is_url(place) else _on_disk(source, Path(place), kind)
    if not len(opened):
        raise SourceError(f"source {place} holds no {kind} items ({opened.ignored} other files)")
    return opened


def _at_url(source: str | Path | Table, url: str, kind: str) -> Source:
    from .remote import FetchedSource, RemoteFolder, RemoteTable, file_ending

    path = local_path(url)
    if path is not None:
        return _on_disk(replace(source, file=path) if isinstance(source, Table) else path, path, kind)
    if isinstance(source, Table) or file_ending(url) in TABLE_SUFFIXES:
        return RemoteTable(source if isinstance(source, Table) else Table(url), kind)
    return FetchedSource(url, partial(_opened, kind=kind)) if file_ending(url) else RemoteFolder(url, kind)


def _on_disk(source: str | Path | Table, path: Path, kind: str) -> Source:
    if not path.exists():
        raise SourceError(f"source {path} does not exist; expected {EXPECTED}")
    return TableSource(source, kind) if isinstance(source, Table) else _opened(path, kind)


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

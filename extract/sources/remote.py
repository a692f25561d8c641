"""Sources at URLs: a folder is listed, and a table, an archive or an array fetched into a temporary file."""

from __future__ import annotations

import posixpath
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ...errors import SourceError
from .identifiers import UniqueIds, label_and_split, storable_text
from .item import Item, Source
from .item_kinds import ITEM_KINDS
from .table import TABLE_SUFFIXES, Table, TableSource
from .url import beside, fetched, is_http, is_url, listed, located, modified_ns, source_errors, url_item, without_query

FILES = (*TABLE_SUFFIXES, ".tar", ".tar.gz", ".tgz", ".npy", ".npz")
"""Endings of the files that are sources; any other URL is that of a folder."""


def file_ending(url: str) -> str:
    """Return by which ending a URL is that of a table, an archive or an array; none if it is that of a folder.

    Examples
    --------
    >>> file_ending("https://a.org/b.csv?key=1"), file_ending("s3://bucket/b.tar.gz"), file_ending("s3://bucket/b.tar/")
    ('.csv', '.tar.gz', '')
    """
    first = next(part for part in url.split("::") if "://" in part)
    return next((ending for ending in FILES if without_query(first).endswith(ending)), "")


class RemoteFolder:
    """All items below a URL, sorted by path; their ids, labels and splits are those of a local folder.

    Parameters
    ----------
    url : str
        Listed at once; files are fetched when their turn comes.
    kind : {"image", "text", "tensor"}
        Which files are items: those with an image's ending, ``.txt``, or ``.npy``.
    """

    def __init__(self, url: str, kind: str = "image") -> None:
        self.url, self.kind = url, kind
        self._root, listing = listed(url)
        if set(listing) <= {self._root} and not url.endswith("/"):
            raise SourceError(
                f"source {url} is one file, or lists none; expected a folder, or a file that ends in {', '.join(FILES)}"
            )
        names = {path: self._name(path) for path in listing}
        names = {path: name for path, name in names.items() if not posixpath.basename(name).startswith("?")}
        wanted = [path for path, name in names.items() if ITEM_KINDS[kind].matches(name)]
        wanted.sort(key=lambda path: names[path].split("/"))
        self.ignored = sum(map(bool, names.values())) - len(wanted)
        self._files = [(path, names[path], listing[path].get("size"), modified_ns(listing[path])) for path in wanted]

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._files)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, sorted by path."""
        unique = UniqueIds()
        for path, name, size, mtime_ns in self._files:
            label, split = label_and_split(name)
            yield Item(unique(name), partial(fetched, self.url, path, size), label, split, size, mtime_ns)

    def _name(self, path: str) -> str:
        """Return a file's path below the root as text, empty for the root; web servers quote it."""
        name = path.removeprefix(self._root.rstrip("/")).lstrip("/")
        return storable_text(unquote(name, errors="surrogateescape") if is_http(path) else name)


class RemoteTable(TableSource):
    """The rows of a table at a URL; its paths are relative to the URL's folder, or absolute, or URLs themselves.

    Parameters
    ----------
    table : Table
        Its file is a URL. Read at once.
    kind : {"image", "text", "tensor"}
    """

    def __init__(self, table: Table, kind: str = "image") -> None:
        self.url, self.kind = str(table.file), kind
        copy = _Copy(self.url)
        with copy.called_by_its_url():
            super().__init__(replace(table, file=copy.path), kind)
        self._remote_path = copy.remote_path

    def _file(self, name: str | None) -> Item:
        if not name or Path(name).is_absolute():
            return super()._file(name)
        if is_url(name):
            return replace(url_item(name), id=storable_text(name))
        path = beside(self._remote_path, name)
        return Item(storable_text(Path(name).as_posix()), partial(fetched, self.url, path))


class FetchedSource:
    """An archive or an array at a URL: fetched once into a temporary file.

    The file goes when neither the source nor an item of it is needed any more.

    Parameters
    ----------
    url : str
    opened : callable
        Returns the source that a local file is.
    """

    def __init__(self, url: str, opened: Callable[[Path], Source]) -> None:
        self._copy = _Copy(url)
        with self._copy.called_by_its_url():
            self._source = opened(self._copy.path)
        self.kind = getattr(self._source, "kind", "image")

    @property
    def ignored(self) -> int:
        """Number of files that are of another kind and were left out."""
        return self._source.ignored

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._source)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items in the order of the file."""
        with self._copy.called_by_its_url():
            for item in self._source:
                yield replace(item, read=partial(_read_while, self._copy, item.read))


class _Copy:
    """A local copy of a file at a URL; it goes with this object."""

    def __init__(self, url: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix="topwork-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        with source_errors(url):
            system, self.remote_path = located(url)
            self.url, self.path = url, folder / Path(unquote(without_query(self.remote_path))).name
            system.get_file(self.remote_path, str(self.path))
        if not self.path.is_file():
            raise SourceError(f"source {url} is a folder, named like a file; expected a slash at the end of its URL")

    @contextmanager
    def called_by_its_url(self) -> Iterator[None]:
        """Name the URL in errors that name the copy."""
        try:
            yield
        except SourceError as error:
            raise SourceError(str(error).replace(str(self.path), self.url)) from error


def _read_while(copy: _Copy, read: Callable[[], Any]) -> Any:
    """Read an item while its file is kept."""
    return read()

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

from ...atomic import FULL_DISK_ERRORS
from ...errors import DecodeError, SourceError
from ...url_secrets import without_secrets
from .access import Access
from .archive import TAR_SUFFIXES
from .download import download_file, is_web
from .file import ListedFile
from .identifiers import UniqueIds, storable_text
from .item import Item, Source
from .item_kinds import ITEM_KINDS
from .path_labels import find_layout, lies_in_system_folder, list_folders
from .retries import repeat
from .sidecars import Sidecars
from .table import Table, TableSource
from .table_file import TABLE_SUFFIXES
from .url import (
    fetch,
    find_file_system,
    is_http,
    is_url,
    list_files,
    modified_ns,
    resolve_path,
    source_errors,
    url_item,
    without_query,
)

SOURCE_FILE_SUFFIXES = (*TABLE_SUFFIXES, *TAR_SUFFIXES, ".zip", ".npy", ".npz")
"""Endings of the files that are sources; any other URL is that of a folder."""


def file_ending(url: str) -> str:
    """Return the ending by which a URL is that of a table, an archive or an array; "" if it is that of a folder.

    Examples
    --------
    >>> file_ending("https://a.org/b.csv?key=1"), file_ending("s3://bucket/b.tar.gz"), file_ending("s3://bucket/b.tar/")
    ('.csv', '.tar.gz', '')
    """
    parts = [part for part in url.split("::") if "://" in part]
    path = without_query(parts[0]).lower()
    for ending in SOURCE_FILE_SUFFIXES:
        if path.endswith(ending):
            return ending
    return ""


def is_remote_table(location: str) -> bool:
    """Return whether a text is the URL of a table."""
    return is_url(location) and file_ending(location) in TABLE_SUFFIXES


class RemoteFolder:
    """All items below a URL, sorted by path; their ids, labels and splits are those of a local folder.

    The URL is listed at once; files are fetched when they are needed. The `kind` decides which files are items: those
    with an image's ending, ``.txt``, or ``.npy``.
    """

    def __init__(self, url: str, kind: str = "image") -> None:
        self.url = url
        self.kind = kind
        self.ignored = 0
        self._files: list[ListedFile] = []
        self._sidecars = Sidecars(f"folder {url}")
        sidecars = {}
        for file in list_folder(url):
            if lies_in_system_folder(file.name):
                continue
            if ITEM_KINDS[kind].matches(file.name):
                self._files.append(file)
            elif self._sidecars.is_sidecar(file.name, file.size or 0):
                sidecars[file.name] = self._fetch_later(file)
            else:
                self.ignored += 1
        self._files.sort(key=lambda file: file.name.split("/"))
        self._layout = find_layout({list_folders(file.name) for file in self._files})
        self._sidecars.add_those_of((file.name for file in self._files), sidecars)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._files)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items, sorted by path."""
        unique = UniqueIds()
        for file in self._files:
            yield file.item(unique(file.name), self._fetch_later(file), self._layout, self._sidecars)

    def _fetch_later(self, file: ListedFile) -> Callable[[], bytes]:
        """Return a function that fetches a file."""
        return partial(fetch, self.url, file.path, file.size)


def list_folder(url: str) -> list[ListedFile]:
    """Return the files below a URL; raise a SourceError if it is that of a file."""
    root, listing = list_files(url)
    if set(listing) <= {root} and not url.endswith("/"):
        suffixes = ", ".join(SOURCE_FILE_SUFFIXES)
        raise SourceError(
            f"source {url} is one file, or lists none; expected a folder, or a file that ends in {suffixes}"
        )
    files = []
    for path, info in listing.items():
        name = relative_name(path, root)
        sorts_a_table = posixpath.basename(name).startswith("?")  # a link of a web page
        if name and not sorts_a_table:
            files.append(ListedFile(path, name, size=info.get("size"), mtime_ns=modified_ns(info)))
    return files


def relative_name(path: str, root: str) -> str:
    """Return a file's path below the root as text, empty for the root; web servers quote it."""
    name = path.removeprefix(root.rstrip("/")).lstrip("/")
    if is_http(path):
        name = unquote(name, errors="surrogateescape")
    return storable_text(name)


class RemoteTable(TableSource):
    """The rows of a table at a URL, which is read at once.

    Its paths are relative to the URL's folder. What lies elsewhere is refused, row by row, unless the table allows it.
    """

    def __init__(self, table: Table, kind: str = "image") -> None:
        self.url = str(table.file)
        self.kind = kind
        copy = LocalCopy(self.url)
        with copy.named_by_url():
            super().__init__(replace(table, file=copy.path), kind)
        self._remote_path = copy.remote_path
        self._access = Access(self.url, copy.remote_path, hosts=tuple(table.allow_hosts), local=table.allow_local)

    def file_item(self, name: str | None) -> Item:
        """Return the file of a row as an item, which is fetched when it is needed."""
        if not name:
            return super().file_item(name)
        identifier = storable_text(without_secrets(name) if is_url(name) else Path(name).as_posix())
        try:
            self._access.check(name)
        except DecodeError:  # the failure of one item, when it is read
            return Item(identifier, partial(self._access.check, name))
        if is_url(name):
            return url_item(name, self._access.check_redirect)
        if Path(name).is_absolute():
            return super().file_item(name)
        path = resolve_path(name, table=self._remote_path)
        return Item(identifier, partial(fetch, self.url, path, check_redirect=self._access.check_redirect))


class FetchedSource:
    """An archive or an array at a URL: fetched once into a temporary file, of which `open_file` returns the source.

    The file is removed when neither the source nor an item of it is needed any more.
    """

    def __init__(self, url: str, open_file: Callable[[Path], Source]) -> None:
        self._copy = LocalCopy(url)
        with self._copy.named_by_url():
            self._source = open_file(self._copy.path)
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
        with self._copy.named_by_url():
            for item in self._source:
                yield replace(item, read=partial(self._copy.read_while_kept, item.read))


class LocalCopy:
    """A local copy of a file at a URL, which is removed with this object."""

    def __init__(self, url: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix="topwork-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.url = url
        with source_errors(url):
            system, self.remote_path = find_file_system(url)
            self.path = folder / Path(unquote(without_query(self.remote_path))).name
            try:
                self._fetch(system)
            except OSError as error:
                if error.errno not in FULL_DISK_ERRORS:
                    raise
                raise SourceError(
                    f"source {url} does not fit into the folder of temporary files, {folder.parent}: {error.strerror}. "
                    "Free some space, or name another folder: TMPDIR"
                ) from error
        if not self.path.is_file():
            raise SourceError(f"source {url} is a folder, named like a file; expected a slash at the end of its URL")

    def _fetch(self, system: Any) -> None:
        """Copy the file; a failure that may pass is tried again."""
        if is_web(system):
            download_file(system, self.remote_path, self.path)
        else:
            repeat(partial(system.get_file, self.remote_path, str(self.path)))

    @contextmanager
    def named_by_url(self) -> Iterator[None]:
        """Name the URL in errors that name the copy."""
        try:
            yield
        except SourceError as error:
            raise SourceError(str(error).replace(str(self.path), self.url)) from error

    def read_while_kept(self, read: Callable[[], Any]) -> Any:
        """Read an item; the reference to this object keeps its file."""
        return read()

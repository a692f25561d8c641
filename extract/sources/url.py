"""Files behind URLs, through the file systems of fsspec; credentials are taken from where those look for them.

A file system may serve a single thread only: each thread asks fsspec for its own, and fsspec caches them.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from ...errors import DecodeError, SourceError, reason
from ...url_secrets import hide_secrets, without_secrets
from .clouds import read_item
from .download import CheckUrl, download_item, find_web_options, is_web
from .file import STORABLE_TIMES_NS, check_size, file_item
from .identifiers import storable_text
from .item import Item
from .retries import repeat
from .web_page import list_web_folder

URL = re.compile(r"([a-z][\w+.-]+::)*[a-z][\w+.-]+://", re.IGNORECASE)
"""A drive of Windows has one letter, a protocol more."""
MODIFICATION_FIELDS = ("mtime", "LastModified", "last_modified")
"""Names that file systems use for the time of the last modification; the time of creation proves nothing."""
MAX_LISTED_FILES = 10_000_000
MAX_FOLDER_DEPTH = 64
"""Most files, and most folders inside one another, of a listing: a server could invent them without an end."""
UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_url(location: Any) -> bool:
    """Return whether a text names something by its protocol; a path object cannot, as it merges slashes."""
    return isinstance(location, str) and URL.match(location) is not None


def local_path(url: str) -> Path | None:
    """Return the path of a ``file://`` URL, None for any other."""
    if not url.startswith(("file://", "local://")):
        return None
    from fsspec.implementations.local import LocalFileSystem

    path = Path(LocalFileSystem._strip_protocol(url))
    if path.exists():
        return path
    return Path(unquote(str(path)))  # as written by Path.as_uri


def url_item(url: str, check_redirect: CheckUrl | None = None) -> Item:
    """Return a single file as an item, which is fetched when it is needed; the check raises for a redirect."""
    identifier = storable_text(without_secrets(url))
    path = local_path(url)
    if path is not None:
        return file_item(identifier, str(path))
    return Item(identifier, partial(fetch, url, check_redirect=check_redirect))


def fetch(
    url: str, path: str | None = None, size: int | None = None, *, check_redirect: CheckUrl | None = None
) -> bytes:
    """Return the content of the file at a URL, or at another path of the URL's file system.

    The size is in bytes, as far as the file system reports it. Raise an OSError for any failure, which is the failure
    of one item, and a DecodeError if the file is larger than any item, or redirects to where the check forbids.
    """
    check_size(size or 0)
    try:
        system, own_path = find_file_system(url)
        wanted = own_path if path is None else path
        if is_http(wanted) and is_web(system):
            return download_item(system, wanted, check_redirect)
        return read_item(system, wanted)
    except DecodeError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(hide_secrets(f"{path or url} does not exist")) from None
    except Exception as error:  # each file system has errors of its own
        raise OSError(hide_secrets(f"{path or url} cannot be fetched: {explain(url, error)}")) from None


def list_files(url: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the path of a folder in its file system, and what that reports of every file below it.

    Raise a SourceError if it cannot be listed to its last folder.
    """
    with source_errors(url):
        system, root = find_file_system(url)
        system.invalidate_cache()
        if has_own_find(system):
            found = repeat(partial(system.find, root, detail=True))
            check_number(len(found), root)
            for path in found:
                check_depth(posixpath.dirname(path), root)
        else:
            found = walk(system, root)
        if not found and not system.exists(root):
            raise FileNotFoundError(url)
        return root, {path: info for path, info in found.items() if info.get("type") != "directory"}


def has_own_find(system: Any) -> bool:
    """Return whether a file system lists a whole tree in its own way, as those of clouds do: much faster."""
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    if isinstance(system, AsyncFileSystem):
        return type(system)._find is not AsyncFileSystem._find
    return type(system).find is not AbstractFileSystem.find


def walk(system: Any, root: str) -> dict[str, dict[str, Any]]:
    """List a tree folder by folder; fsspec's own way silently leaves out what it may not list."""
    found: dict[str, dict[str, Any]] = {}
    folders = [root]
    n_folders = 1
    while folders:
        folder = folders.pop()
        check_depth(folder.rstrip("/"), root)
        for info in list_folder(system, folder):
            if info["type"] != "directory":
                found[info["name"]] = info
            elif is_below(info["name"], folder):
                folders.append(info["name"])
                n_folders += 1
        check_number(len(found) + n_folders, root)
    return found


def list_folder(system: Any, folder: str) -> list[dict[str, Any]]:
    """Return what a file system reports of the files and folders in a folder."""
    if is_web(system):
        return list_web_folder(system, folder)
    infos: list[dict[str, Any]] = repeat(partial(system.ls, folder, detail=True))
    return infos


def check_depth(folder: str, root: str) -> None:
    """Raise a SourceError for a folder that lies too deep below the root of a listing."""
    if folder.count("/") - root.rstrip("/").count("/") > MAX_FOLDER_DEPTH:
        raise SourceError(f"{folder} lies more than {MAX_FOLDER_DEPTH} folders deep; name a folder below {root}")


def check_number(number: int, root: str) -> None:
    """Raise a SourceError for too many files and folders of a listing."""
    if number > MAX_LISTED_FILES:
        raise SourceError(f"{root} lists more than {MAX_LISTED_FILES:,} files and folders; name a folder below it")


def is_below(path: str, folder: str) -> bool:
    """Return whether a folder in a listing is another one than the listed folder or its parent."""
    path = path.rstrip("/")
    return path != folder.rstrip("/") and posixpath.basename(path) not in (".", "..")


def find_file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the URL's path in it."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url, **find_web_options(url))
    return system, str(path)


@contextmanager
def source_errors(url: str) -> Iterator[None]:
    """Turn any error into a SourceError that names the URL."""
    try:
        yield
    except SourceError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise SourceError(hide_secrets(f"source {url} cannot be read: {explain(url, error)}")) from None


def modified_ns(info: dict[str, Any]) -> int | None:
    """Return when a file was last modified, in nanoseconds since 1970; None if its file system does not report it."""
    values = (info.get(field) for field in MODIFICATION_FIELDS)
    value = next((value for value in values if value is not None), None)
    if isinstance(value, str):
        value = parse_time(value)
    if isinstance(value, datetime):
        return nanoseconds_since_epoch(value)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    nanoseconds = round(value * 1e9)
    return nanoseconds if nanoseconds in STORABLE_TIMES_NS else None


def parse_time(text: str) -> datetime | None:
    """Parse a time in ISO format; return None for any other text."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def nanoseconds_since_epoch(time: datetime) -> int:
    """Return a time, which is in UTC unless it has a zone, in nanoseconds since 1970."""
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return (time - UNIX_EPOCH) // timedelta(microseconds=1) * 1000


def resolve_path(name: str, *, table: str) -> str:
    """Return the path of a file that is named relative to the folder of a table.

    Examples
    --------
    >>> resolve_path("../photos/1.jpg", table="bucket/tables/train.csv")
    'bucket/photos/1.jpg'
    >>> resolve_path("1 2.jpg", table="https://a.org/b/t.csv?key=1")
    'https://a.org/b/1%202.jpg'
    """
    if is_http(table):
        return urljoin(table, quote(name))
    return posixpath.normpath(posixpath.join(posixpath.dirname(table), name))


def without_query(path: str) -> str:
    """Return a path without what follows a question mark, which may be part of a name unless it is on the web."""
    return urlsplit(path).path if is_http(path) else path


def is_http(path: str) -> bool:
    """Return whether the path of a file system is a web address: quoted, perhaps with a query."""
    return path.startswith(("http://", "https://"))


def explain(url: str, error: Exception) -> str:
    """Return what went wrong, and what to do about it."""
    protocol = url.split("://")[0].split("::")[-1]
    missing_package = getattr(error.__cause__ or error, "name", None)
    if isinstance(error, ImportError) and missing_package:
        return (
            f"{protocol}:// needs the package {missing_package}, which is not installed: pip install {missing_package}"
        )
    if isinstance(error, ValueError) and "rotocol not known" in str(error):
        return f"{protocol}:// is no protocol that fsspec knows; expected one such as https:// or s3://"
    if isinstance(error, FileNotFoundError):
        return f"{error.filename or error} does not exist. Check the URL, and what your credentials may see"
    if isinstance(error, PermissionError):
        return f"{reason(error)}. Check the credentials of {protocol}://"
    return f"{reason(error)}. Check the connection and the credentials of {protocol}://, then run it again"

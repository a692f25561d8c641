"""Files behind URLs, through the file systems of fsspec; credentials are taken from where those look for them.

A file system may serve one thread alone: each thread asks fsspec for its own, and fsspec remembers them.
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from ...errors import SourceError, reason
from .file import TIMES, check_size, facts, read_file
from .item import Item

URL = re.compile(r"([a-z][\w+.-]+::)*[a-z][\w+.-]+://", re.IGNORECASE)
"""A drive of Windows has one letter, a protocol more."""
MODIFIED = ("mtime", "LastModified", "last_modified")
"""What file systems call the time of the last modification; when a file was created says nothing."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def is_url(location: Any) -> bool:
    """Tell whether a text names something by its protocol; a path object cannot, as it merges slashes.

    Examples
    --------
    >>> is_url("s3://bucket/photos"), is_url("photos"), is_url(Path("s3://bucket/photos"))
    (True, False, False)
    """
    return isinstance(location, str) and URL.match(location) is not None


def local_path(url: str) -> Path | None:
    """Return the path of a ``file://`` URL, None for any other."""
    if not url.startswith(("file://", "local://")):
        return None
    from fsspec.implementations.local import LocalFileSystem

    path = Path(LocalFileSystem._strip_protocol(url))
    return path if path.exists() else Path(unquote(str(path)))  # as written by Path.as_uri


def url_item(url: str) -> Item:
    """Return a single file as an item, which is fetched when its turn comes."""
    path = local_path(url)
    if path is not None:
        return Item(url, partial(read_file, str(path)), None, None, *facts(str(path)))
    return Item(url, partial(fetched, url))


def fetched(url: str, path: str | None = None, size: int | None = None) -> bytes:
    """Return the content of the file at a URL, or at another path of the URL's file system.

    Parameters
    ----------
    url : str
    path : str, optional
    size : int, optional
        In bytes, as far as the file system told.

    Raises
    ------
    OSError
        Whatever went wrong: it is the failure of one item.
    DecodeError
        If it is larger than any item.
    """
    check_size(size or 0)
    try:
        system, own_path = located(url)
        content: bytes = system.cat_file(own_path if path is None else path)
        return content
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path or url} does not exist") from error
    except Exception as error:  # each file system has errors of its own
        raise OSError(f"{path or url} cannot be fetched: {_explained(url, error)}") from error


def listed(url: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the path of a folder in its file system, and what that tells of every file below it.

    Raises
    ------
    SourceError
        If it cannot be listed to its last folder.
    """
    with source_errors(url):
        system, root = located(url)
        system.invalidate_cache()
        found = system.find(root, detail=True) if _lists_at_once(system) else _walked(system, root)
        if not found and not system.exists(root):
            raise FileNotFoundError(url)
        return root, {path: info for path, info in found.items() if info.get("type") != "directory"}


def _lists_at_once(system: Any) -> bool:
    """Tell whether a file system lists a whole tree in its own way, as those of clouds do: much faster."""
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    if isinstance(system, AsyncFileSystem):
        return type(system)._find is not AsyncFileSystem._find
    return type(system).find is not AbstractFileSystem.find


def _walked(system: Any, root: str) -> dict[str, dict[str, Any]]:
    """List a tree folder by folder; fsspec's own way leaves out, without a word, what it may not list."""
    found: dict[str, dict[str, Any]] = {}
    folders = [root]
    while folders:
        folder = folders.pop()
        for info in system.ls(folder, detail=True):
            name = info["name"].rstrip("/")
            if info["type"] != "directory":
                found[info["name"]] = info
            elif name != folder.rstrip("/") and posixpath.basename(name) not in (".", ".."):
                folders.append(info["name"])
    return found


def located(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the URL's path in it."""
    from fsspec.core import url_to_fs

    system, path = url_to_fs(url)
    return system, str(path)


@contextmanager
def source_errors(url: str) -> Iterator[None]:
    """Turn whatever goes wrong into a SourceError."""
    try:
        yield
    except SourceError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise SourceError(f"source {url} cannot be read: {_explained(url, error)}") from error


def modified_ns(info: dict[str, Any]) -> int | None:
    """Return when a file was last modified, in nanoseconds since 1970; None if its file system does not tell."""
    value = next((info[name] for name in MODIFIED if info.get(name) is not None), None)
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        value = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (value - EPOCH) // timedelta(microseconds=1) * 1000
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    nanoseconds = round(value * 1e9)
    return nanoseconds if nanoseconds in TIMES else None


def beside(path: str, name: str) -> str:
    """Return the path of a file that is named relative to the folder of another.

    Examples
    --------
    >>> beside("bucket/tables/train.csv", "../photos/1.jpg"), beside("https://a.org/b/t.csv?key=1", "1 2.jpg")
    ('bucket/photos/1.jpg', 'https://a.org/b/1%202.jpg')
    """
    if is_http(path):
        return urljoin(path, quote(name))
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), name))


def without_query(path: str) -> str:
    """Return a path without what follows a question mark, which may be part of a name unless it is on the web."""
    return urlsplit(path).path if is_http(path) else path


def is_http(path: str) -> bool:
    """Tell whether the path of a file system is a web address: quoted, perhaps with a query."""
    return path.startswith(("http://", "https://"))


def _explained(url: str, error: Exception) -> str:
    """Return what went wrong, and what to do about it."""
    protocol = url.split("://")[0].split("::")[-1]
    missing = getattr(error.__cause__ or error, "name", None)
    if isinstance(error, ImportError) and missing:
        return f"{protocol}:// needs the package {missing}, which is not installed: pip install {missing}"
    if isinstance(error, ValueError) and "rotocol not known" in str(error):
        return f"{protocol}:// is no protocol that fsspec knows; expected one such as https:// or s3://"
    if isinstance(error, FileNotFoundError):
        return f"{error.filename or error} does not exist. Check the URL, and what your credentials may see"
    if isinstance(error, PermissionError):
        return f"{reason(error)}. Check the credentials of {protocol}://"
    return f"{reason(error)}. Check the connection and the credentials of {protocol}://, then run it again"

"""Folders of web servers: the links of a page, which is read within a limit."""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urldefrag, urljoin

from ...errors import SourceError
from .download import Transfer

if TYPE_CHECKING:
    from aiohttp import ClientResponse

MAX_PAGE_BYTES = 2**26
"""Size of a page of about half a million links."""
LINK = re.compile(r"""<a(?=\s)[^<>]*?\shref\s*=\s*["']([^"'<>]+)""", re.IGNORECASE)
"""A link of HTML; no text takes longer than its length."""
ADDRESS = re.compile(r"https?://[-a-zA-Z0-9@:%_+.~#?&/=]+")
"""An address in the text of a page."""
NAME = re.compile(r"[\w%~+@,=!()-][\w%~+@,=!().-]*/?", re.ASCII)
"""A link that is the name of a file or folder as it stands, as most are."""
PAGE_TYPE = "text/html"


def list_web_folder(system: Any, url: str) -> list[dict[str, Any]]:
    """Return what a page links to below its own address, as fsspec describes files; a folder ends in a slash.

    Raise a SourceError for a page that is too large, an OSError for a failure.
    """
    links = find_links(read_page(system, url), url)
    if not links and url.endswith("/"):
        links = find_links(read_page(system, url.rstrip("/")), url)
    infos = []
    for link in links:
        kind = "directory" if link.endswith("/") else "file"
        infos.append({"name": link, "size": None, "type": kind})
    return infos


def read_page(system: Any, url: str) -> str:
    """Return the text of a page, empty for a file of another type."""
    from fsspec.asyn import sync

    stream = io.BytesIO()
    sync(system.loop, PageTransfer(system, url, stream).run)
    return stream.getvalue().decode("utf-8", errors="ignore")


def find_links(page: str, url: str) -> list[str]:
    """Return the addresses below that of a page, which it links to or names.

    Examples
    --------
    >>> find_links("<a href='/b/1.png'>1</a> <a href='sub/'>sub</a> <a href='../c/'>c</a>", "https://a.org/b")
    ['https://a.org/b/1.png', 'https://a.org/b/sub/']
    """
    folder = url.rstrip("/") + "/"
    root = remove_protocol(folder)
    found = {}
    for text in [*LINK.findall(page), *ADDRESS.findall(page)]:
        name = text if NAME.fullmatch(text) else find_name(text, folder, root)
        if name:
            found[folder + name] = True
    return list(found)


def find_name(link: str, folder: str, root: str) -> str:
    """Return the name below a folder that a link of its page leads to, empty if it leads elsewhere."""
    try:
        address = urldefrag(urljoin(folder, html.unescape(link).strip())).url
    except ValueError:  # of an address that none can have
        return ""
    place = remove_protocol(address)
    sorts_the_page = place.startswith(f"{root}?")
    if sorts_the_page or not place.startswith(root):
        return ""
    return place.removeprefix(root)


def remove_protocol(address: str) -> str:
    """Return a web address without its protocol: a page may name one of http and https for the other."""
    return re.sub(r"^https?://", "", address)


class PageTransfer(Transfer):
    """A page on its way from a web server."""

    def _accepts(self, response: ClientResponse) -> bool:
        stated = response.headers.get("Content-Type", PAGE_TYPE)
        return stated.partition(";")[0].strip().lower() == PAGE_TYPE

    def _check_size(self, size: int) -> None:
        if size > MAX_PAGE_BYTES:
            raise SourceError(
                f"the page {self.url} has {size:,} bytes; expected at most {MAX_PAGE_BYTES:,}. Name a folder below it, "
                "or the URLs of the files in a table"
            )

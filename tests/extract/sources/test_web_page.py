"""Listings of web servers and other file systems that are endless, deep, large or cut off."""

from __future__ import annotations

import importlib.util
import re

import fsspec
import pytest
from topwork.errors import SourceError
from topwork.extract.sources import url as url_module
from topwork.extract.sources import web_page
from topwork.extract.sources.url import list_files
from topwork.extract.sources.web_page import find_links

from ...hostile_server import (
    Answer,
    HostileServer,
    announce,
    busy,
    drip_forever,
    give,
    in_turn,
    send_forever,
    send_gzip_bomb,
)

needs_aiohttp = pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="aiohttp is not installed")
PAGE = b'<html><a class="x" href="1.png">1</a><A HREF=\'2&amp;3.png\'>2</A></html>'
HTML = "text/html; charset=utf-8"


def test_links_are_those_below_the_page() -> None:
    base = "https://a.org/b"
    page = """
        <a href="1.png">, <a class=x href = '/b/2%20.png?v=1#top'>, <a\nhref="./sub/">, http://a.org/b/3.png,
        <a href="../c.png">, <a href="/c.png">, <a href="https://e.org/b/1.png">, <a href="?C=N">, <a href="#top">,
        <a href="mailto:a@a.org">, <a href="https://[">, <a data-href="4.png">, <area href="5.png">
    """
    expected = ["1.png", "2%20.png?v=1", "sub/", "3.png"]
    assert find_links(page, base) == [f"{base}/{name}" for name in expected]
    assert find_links(page, f"{base}/") == [f"{base}/{name}" for name in expected]


@pytest.mark.parametrize("piece", ["<a ", "<a href", "<a href=", "<a href='", "<a href = ", "<", "http://", " "])
def test_no_page_takes_longer_than_its_length(piece: str) -> None:
    """Each would take days with an expression that tries all ends for all starts."""
    assert find_links(f"<a {piece * 100_000}", "https://a.org/") == []


@needs_aiohttp
def test_page_is_listed_however_it_states_its_type(hostile_server: HostileServer) -> None:
    for headers in ({"Content_Type": HTML}, {"Content_Type": "TEXT/HTML"}, {}):
        hostile_server.answers["/photos/"] = give(PAGE, **headers)
        root, listing = list_files(f"{hostile_server.url}/photos/")
        assert sorted(listing) == [f"{root}1.png", f"{root}2&3.png"]


@needs_aiohttp
def test_trouble_with_a_page_is_outlived(hostile_server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_RETRIES", "2")
    page = give(PAGE, Content_Type=HTML)
    cut_off = announce(len(PAGE), PAGE[:20])
    hostile_server.answers["/photos/"] = in_turn(busy(503, retry_after=0), cut_off, page)
    assert len(list_files(f"{hostile_server.url}/photos/")[1]) == 2
    hostile_server.answers["/photos/"] = busy(503, retry_after=0)
    hostile_server.requests.clear()
    with pytest.raises(SourceError, match="503"):
        list_files(f"{hostile_server.url}/photos/")
    assert len(hostile_server.requests) == 3


@needs_aiohttp
@pytest.mark.parametrize(
    "answer",
    [
        send_forever(b"<a href='1.png'>" * 1000, Content_Type=HTML),
        send_gzip_bomb(10**8, Content_Type=HTML),
        announce(10**12),
    ],
)
def test_page_has_a_limit(hostile_server: HostileServer, monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    monkeypatch.setattr(web_page, "MAX_PAGE_BYTES", 10**6)
    hostile_server.answers["/photos/"] = answer
    with pytest.raises(SourceError, match=r"/photos/ has [\d,]+ bytes; expected at most 1,000,000"):
        list_files(f"{hostile_server.url}/photos/")
    assert len(hostile_server.requests) == 1


@needs_aiohttp
def test_file_of_another_type_is_no_page(hostile_server: HostileServer) -> None:
    hostile_server.answers["/photos"] = send_forever(Content_Type="image/png")
    _, listing = list_files(f"{hostile_server.url}/photos")
    assert listing == {}


@needs_aiohttp
def test_page_that_drips_ends(hostile_server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_RATE_SECONDS", "0.3")
    monkeypatch.setenv("TOPWORK_RETRIES", "0")
    hostile_server.answers["/photos/"] = drip_forever(0.05, Content_Type=HTML)
    with pytest.raises(SourceError, match=re.escape("bytes in 0.3 s; expected at least 30")):
        list_files(f"{hostile_server.url}/photos/")


class Labyrinth(dict[str, Answer]):
    """Every folder has others."""

    def __init__(self, page: bytes) -> None:
        self.page = page

    def get(self, path: str, default: Answer | None = None) -> Answer:  # type: ignore[override]
        return give(self.page, Content_Type="text/html")


@needs_aiohttp
def test_listing_that_goes_ever_deeper_ends(hostile_server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_module, "MAX_FOLDER_DEPTH", 5)
    hostile_server.answers = Labyrinth(b'<a href="deeper/">deeper/</a>')
    for root in ("/photos/", "/photos"):
        hostile_server.requests.clear()
        with pytest.raises(SourceError, match="more than 5 folders deep"):
            list_files(f"{hostile_server.url}{root}")
        assert len(hostile_server.requests) == 6  # those of the root and of five folders


@needs_aiohttp
def test_listing_that_only_grows_wider_ends(hostile_server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of folders without a file: 2 to the power of 64, within the limit of depth."""
    monkeypatch.setattr(url_module, "MAX_FOLDER_DEPTH", 5)
    monkeypatch.setattr(url_module, "MAX_LISTED_FILES", 30)
    pages = Labyrinth(b'<a href="a/">a</a><a href="b/">b</a>')
    last = give(b"nothing", Content_Type="text/html")
    hostile_server.answers = pages
    monkeypatch.setattr(pages, "get", lambda path, default: last if path.count("/") > 5 else Labyrinth.get(pages, path))
    with pytest.raises(SourceError, match="lists more than 30 files and folders"):
        list_files(f"{hostile_server.url}/p/")


@needs_aiohttp
def test_listing_of_too_many_files_ends(hostile_server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_module, "MAX_LISTED_FILES", 10)
    links = "".join(f'<a href="{number}.png">{number}.png</a>' for number in range(20))
    hostile_server.answers["/photos/"] = give(links.encode(), Content_Type="text/html")
    with pytest.raises(SourceError, match="lists more than 10 files"):
        list_files(f"{hostile_server.url}/photos/")


class OneGo(fsspec.AbstractFileSystem):
    """Keys that are listed in one go, as in clouds."""

    protocol = "onego"
    cachable = False
    keys: list[str] = []  # noqa: RUF012

    def find(self, path: str, maxdepth: object = None, withdirs: object = False, **options: object) -> object:
        return {f"{path}/{key}": {"name": f"{path}/{key}", "size": 1, "type": "file"} for key in self.keys}


class OneByOne(OneGo):
    """Keys that are listed folder by folder."""

    protocol = "onebyone"
    find = fsspec.AbstractFileSystem.find

    def ls(self, path: str, detail: bool = True, **options: object) -> object:
        names = {}
        for key in self.keys:
            full = f"photos/{key}"
            if full.startswith(f"{path}/"):
                name, slash, _ = full.removeprefix(f"{path}/").partition("/")
                names[name] = {"name": f"{path}/{name}", "size": 1, "type": "directory" if slash else "file"}
        return list(names.values())


@pytest.mark.parametrize("kind", [OneGo, OneByOne])
def test_limits_hold_for_every_file_system(kind: type[OneGo], monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation(kind.protocol, kind, clobber=True)
    monkeypatch.setattr(url_module, "MAX_FOLDER_DEPTH", 3)
    monkeypatch.setattr(url_module, "MAX_LISTED_FILES", 11)
    url = f"{kind.protocol}://photos"
    monkeypatch.setattr(kind, "keys", ["a/b/c/1.png", *(f"{number}.png" for number in range(6))])
    assert len(list_files(url)[1]) == 7
    monkeypatch.setattr(kind, "keys", ["a/b/c/d/1.png"])
    with pytest.raises(SourceError, match="photos/a/b/c/d lies more than 3 folders deep"):
        list_files(url)
    monkeypatch.setattr(kind, "keys", [f"{number}.png" for number in range(12)])
    with pytest.raises(SourceError, match="photos lists more than 11 files and folders"):
        list_files(url)

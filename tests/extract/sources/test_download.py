"""Downloads from servers that are slow, endless, cut off, lying or busy."""

from __future__ import annotations

import gzip
import importlib.util
import re

import pytest
from topwork.errors import DecodeError, InputError, SourceError
from topwork.extract.sources import file as file_module
from topwork.extract.sources import url as url_module
from topwork.extract.sources.file import MAX_ITEM_BYTES
from topwork.extract.sources.remote import LocalCopy
from topwork.extract.sources.url import fetch, list_files

from ...hostile_server import (
    Answer,
    HostileServer,
    announce,
    busy,
    cut,
    drip,
    fall_silent,
    give,
    hang_up,
    in_turn,
    redirect,
    refuse,
    send_forever,
    send_gzip_bomb,
)

needs_aiohttp = pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="aiohttp is not installed")
pytestmark = needs_aiohttp
CONTENT = bytes(range(250)) * 32  # 8,000 bytes


@pytest.fixture
def one_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_RETRIES", "1")


@pytest.fixture
def small_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the limit of an item to a megabyte."""
    monkeypatch.setattr(file_module, "MAX_ITEM_BYTES", 10**6)


@pytest.mark.usefixtures("one_retry")
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (fall_silent(CONTENT, 412), "no data for 0.3 s"),
        (announce(8000, CONTENT[:412]), "the body ended after 412 of 8,000 bytes"),
        (busy(429), "429"),
        (busy(503, retry_after=3600), "503"),
        (refuse(500), "500"),
        (refuse(502), "502"),
        (refuse(504), "504"),
        (hang_up, "closed the connection"),
    ],
)
def test_failure_says_what_happened(hostile_server: HostileServer, answer: Answer, expected: str) -> None:
    hostile_server.answers["/1.png"] = answer
    with pytest.raises(OSError, match=re.escape(expected)):
        fetch(f"{hostile_server.url}/1.png")
    asks_for_an_hour = "503" in expected
    n_attempts = 1 if asks_for_an_hour else 2
    if answer is hang_up:  # which aiohttp itself tries twice
        n_attempts *= 2
    assert len(hostile_server.asked("/1.png")) == n_attempts


def test_redirects_without_an_end(hostile_server: HostileServer) -> None:
    hostile_server.answers["/1.png"] = redirect("/1.png")
    with pytest.raises(OSError, match="too many redirects"):
        fetch(f"{hostile_server.url}/1.png")


@pytest.mark.parametrize("status", [403, 404, 401, 418])
def test_refusals_are_not_repeated(hostile_server: HostileServer, status: int) -> None:
    hostile_server.answers["/1.png"] = refuse(status)
    with pytest.raises(OSError, match=r"\d|exist"):
        fetch(f"{hostile_server.url}/1.png")
    assert len(hostile_server.asked("/1.png")) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        *(busy(status, retry_after=0) for status in (429, 500, 502, 503, 504)),
        announce(8000, CONTENT[:412]),
        fall_silent(CONTENT, 412),
        busy(503),
    ],
)
def test_passing_trouble_is_outlived(hostile_server: HostileServer, trouble: Answer) -> None:
    hostile_server.answers["/1.png"] = in_turn(trouble, give(CONTENT))
    assert fetch(f"{hostile_server.url}/1.png") == CONTENT


def test_slow_server_is_waited_for_while_it_sends(hostile_server: HostileServer) -> None:
    hostile_server.answers["/1.png"] = drip(CONTENT[:20], 0.03)  # 0.6 s, twice the limit of silence
    assert fetch(f"{hostile_server.url}/1.png") == CONTENT[:20]


@pytest.mark.parametrize("size", [MAX_ITEM_BYTES + 1, 10**15])
def test_announced_size_over_the_limit_is_refused_at_once(hostile_server: HostileServer, size: int) -> None:
    hostile_server.answers["/1.png"] = announce(size)
    with pytest.raises(DecodeError, match=f"{size:,} bytes; expected at most {MAX_ITEM_BYTES:,}"):
        fetch(f"{hostile_server.url}/1.png")
    assert len(hostile_server.asked("/1.png")) == 1


@pytest.mark.usefixtures("small_items")
@pytest.mark.parametrize("answer", [send_forever(), send_gzip_bomb(10**8)])
def test_limit_of_an_item_holds_without_an_honest_length(hostile_server: HostileServer, answer: Answer) -> None:
    hostile_server.answers["/1.png"] = answer
    with pytest.raises(DecodeError, match=r"bytes; expected at most 1,000,000") as caught:
        fetch(f"{hostile_server.url}/1.png")
    received = int(str(caught.value).partition(" ")[0].replace(",", ""))
    assert received < 10**6 + 2**17


def test_encoded_body_is_decoded(hostile_server: HostileServer) -> None:
    hostile_server.answers["/1.png"] = give(gzip.compress(CONTENT), Content_Encoding="gzip")
    assert fetch(f"{hostile_server.url}/1.png") == CONTENT
    (headers,) = hostile_server.asked("/1.png")
    assert headers["Accept-Encoding"] == "identity"


def test_archive_is_resumed_by_range(hostile_server: HostileServer) -> None:
    hostile_server.answers["/a.tar"] = cut(CONTENT, pieces=4)
    copy = LocalCopy(f"{hostile_server.url}/a.tar")
    assert copy.path.read_bytes() == CONTENT
    ranges = [headers.get("Range") for headers in hostile_server.asked("/a.tar")]
    assert ranges == [None, "bytes=2000-", "bytes=4000-", "bytes=6000-"]


@pytest.mark.usefixtures("one_retry")
@pytest.mark.parametrize("second", [cut(CONTENT, pieces=2, tag='"2"'), cut(CONTENT, pieces=2, ranges=False)])
def test_another_version_is_not_appended(hostile_server: HostileServer, second: Answer) -> None:
    """A server that has another version by now, or none to resume, sends it whole."""
    hostile_server.answers["/a.tar"] = in_turn(cut(CONTENT, pieces=2), give(CONTENT[::-1]))
    assert LocalCopy(f"{hostile_server.url}/a.tar").path.read_bytes() == CONTENT[::-1]
    hostile_server.answers["/b.tar"] = in_turn(cut(CONTENT, pieces=2), second)
    with pytest.raises(InputError, match=r"4,000 of 8,000 bytes"):
        LocalCopy(f"{hostile_server.url}/b.tar")


def test_range_that_lies_is_not_appended(hostile_server: HostileServer) -> None:
    lie = {"Content_Range": "bytes 0-7999/8000"}

    def send_from_start(handler: object) -> None:
        handler.begin(206, Content_Length=len(CONTENT), **lie)  # type: ignore[attr-defined]
        handler.wfile.write(CONTENT)  # type: ignore[attr-defined]

    hostile_server.answers["/a.tar"] = in_turn(cut(CONTENT, pieces=2), send_from_start, give(CONTENT))
    assert LocalCopy(f"{hostile_server.url}/a.tar").path.read_bytes() == CONTENT


class Labyrinth(dict[str, Answer]):
    """Every folder has another one."""

    def get(self, path: str, default: Answer | None = None) -> Answer:  # type: ignore[override]
        return give(b'<a href="deeper/">deeper/</a>', Content_Type="text/html")


def test_listing_that_goes_ever_deeper_ends(hostile_server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_module, "MAX_FOLDER_DEPTH", 5)
    hostile_server.answers = Labyrinth()
    with pytest.raises(SourceError, match="more than 5 folders deep"):
        list_files(f"{hostile_server.url}/photos/")
    assert len(hostile_server.requests) < 20


def test_listing_of_too_many_files_ends(hostile_server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_module, "MAX_LISTED_FILES", 10)
    links = "".join(f'<a href="{number}.png">{number}.png</a>' for number in range(20))
    hostile_server.answers["/photos/"] = give(links.encode(), Content_Type="text/html")
    with pytest.raises(SourceError, match="lists more than 10 files"):
        list_files(f"{hostile_server.url}/photos/")

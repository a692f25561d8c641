"""Downloads from servers that are slow, endless, cut off, lying or busy."""

from __future__ import annotations

import gc
import gzip
import importlib.util
import re
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from topwork.errors import DecodeError, InputError, SourceError
from topwork.extract.sources import download, retries
from topwork.extract.sources import file as file_module
from topwork.extract.sources.file import MAX_ITEM_BYTES
from topwork.extract.sources.remote import LocalCopy
from topwork.extract.sources.url import fetch, list_files

from ...hostile_server import (
    Answer,
    Handler,
    HostileServer,
    announce,
    busy,
    cut,
    drip,
    drip_forever,
    drip_headers,
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


@pytest.mark.parametrize("answer", [announce(10**6), send_forever(), send_gzip_bomb(10**8)])
def test_archive_that_does_not_fit_is_refused(
    hostile_server: HostileServer, monkeypatch: pytest.MonkeyPatch, temporary: Path, answer: Answer
) -> None:
    """A disk of 500,000 bytes: an announced size is refused at once, others when the disk would be full."""

    def measure(path: object) -> SimpleNamespace:
        used = sum(path.stat().st_size for path in temporary.rglob("*.gz"))
        return SimpleNamespace(free=500_000 + download.MIN_FREE_BYTES - used)

    monkeypatch.setattr(shutil, "disk_usage", measure)
    hostile_server.answers["/a.tar.gz"] = answer
    with pytest.raises(SourceError, match=rf"a\.tar\.gz does not fit into .*{temporary}: .*TMPDIR"):
        LocalCopy(f"{hostile_server.url}/a.tar.gz")
    assert len(hostile_server.requests) == 1
    gc.collect()
    assert list(temporary.iterdir()) == []
    hostile_server.answers["/b.tar.gz"] = give(CONTENT)
    assert LocalCopy(f"{hostile_server.url}/b.tar.gz").path.read_bytes() == CONTENT


def send_raw(content: bytes) -> Answer:
    """Answer with bytes that need not be HTTP."""

    def answer(handler: Handler) -> None:
        handler.wfile.write(content)
        handler.close_connection = True

    return answer


@pytest.mark.parametrize(
    "content",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 10**6 + b"\r\n\r\n",
    ],
)
def test_answers_that_are_no_http_say_so(hostile_server: HostileServer, content: bytes) -> None:
    hostile_server.answers["/1.png"] = send_raw(content)
    with pytest.raises(OSError, match="is no valid HTTP: "):
        fetch(f"{hostile_server.url}/1.png")


@pytest.mark.usefixtures("one_retry")
def test_part_of_a_file_is_not_taken_for_the_whole(hostile_server: HostileServer) -> None:
    def send_part(handler: Handler) -> None:
        handler.begin(206, Content_Length=412, Content_Range="bytes 0-411/8000")
        handler.wfile.write(CONTENT[:412])

    hostile_server.answers["/1.png"] = send_part
    with pytest.raises(OSError, match="another range"):  # at the second attempt
        fetch(f"{hostile_server.url}/1.png")
    hostile_server.answers["/1.png"] = in_turn(send_part, give(CONTENT))
    assert fetch(f"{hostile_server.url}/1.png") == CONTENT


def test_server_that_always_starts_anew_is_left(hostile_server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends much and little in turn: much is further than little, but no further than before."""
    monkeypatch.setattr(download, "MIN_PROGRESS_BYTES", 1000)
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.001)
    little = announce(8000, CONTENT[:100])
    much = announce(8000, CONTENT[:5000])
    hostile_server.answers["/a.tar"] = in_turn(*[little, much] * 50)
    with pytest.raises(SourceError, match="ended after"):
        LocalCopy(f"{hostile_server.url}/a.tar")
    assert len(hostile_server.requests) == 6  # the second one is progress


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def fast_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expect 200 bytes within 0.4 s."""
    monkeypatch.setenv("TOPWORK_MIN_RATE", "500")
    monkeypatch.setenv("TOPWORK_RATE_SECONDS", "0.4")
    monkeypatch.setenv("TOPWORK_RETRIES", "0")


NOTHING_PACKED = gzip.compress(b"")


@pytest.mark.usefixtures("fast_servers")
@pytest.mark.parametrize(
    "answer",
    [
        drip(CONTENT, 0.03),
        drip_forever(0.03),
        drip_headers(0.03),
        send_forever(NOTHING_PACKED, Content_Encoding="gzip"),
    ],
)
def test_drip_ends(hostile_server: HostileServer, answer: Answer) -> None:
    hostile_server.answers["/1.png"] = answer
    expected = r"\b\d+ bytes in 0\.4 s; expected at least 200 \(TOPWORK_MIN_RATE=500 bytes a second\)|damaged|Header"
    with pytest.raises(OSError, match=expected):
        fetch(f"{hostile_server.url}/1.png")


@pytest.mark.usefixtures("fast_servers")
def test_slow_server_above_the_least_rate_is_waited_for(
    hostile_server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPWORK_MIN_RATE", "50")
    hostile_server.answers["/1.png"] = drip(CONTENT[:1200], 0.001)  # about 1 s, 2.5 times the time of the rate
    assert fetch(f"{hostile_server.url}/1.png") == CONTENT[:1200]


def test_least_rate_of_zero_is_no_limit(hostile_server: HostileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_MIN_RATE", "0")
    monkeypatch.setenv("TOPWORK_RATE_SECONDS", "0.1")
    hostile_server.answers["/1.png"] = drip(CONTENT[:10], 0.03)
    assert fetch(f"{hostile_server.url}/1.png") == CONTENT[:10]


@pytest.mark.usefixtures("one_retry")
@pytest.mark.parametrize("target", ["file:///etc/hostname", "local:///etc/hostname", "ftp://127.0.0.1/a", "data:,a"])
def test_redirects_leave_the_web_for_nothing(hostile_server: HostileServer, target: str) -> None:
    for path in ("/1.png", "/a.tar", "/photos/"):
        hostile_server.answers[path] = redirect(target)
    with pytest.raises(OSError, match="redirect"):
        fetch(f"{hostile_server.url}/1.png")
    with pytest.raises(SourceError, match="redirect"):
        LocalCopy(f"{hostile_server.url}/a.tar")
    with pytest.raises(SourceError, match="redirect"):
        list_files(f"{hostile_server.url}/photos/")


def test_urls_that_the_user_names_may_redirect_to_other_hosts(hostile_server: HostileServer) -> None:
    other = f"http://localhost:{hostile_server.server_port}"
    hostile_server.answers |= {
        "/1.png": redirect(f"{other}/2.png"),
        "/2.png": give(CONTENT),
        "/a.tar": redirect(f"{other}/2.png"),
        "/photos/": redirect(f"{other}/images/"),
        "/images/": give(b'<a href="1.png">1</a>', Content_Type="text/html"),
    }
    assert fetch(f"{hostile_server.url}/1.png") == CONTENT
    assert LocalCopy(f"{hostile_server.url}/a.tar").path.read_bytes() == CONTENT
    _, listing = list_files(f"{hostile_server.url}/photos/")
    assert list(listing) == [f"{hostile_server.url}/photos/1.png"]

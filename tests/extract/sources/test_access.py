"""What a table at a URL may name: no file of this machine, and nothing beyond its own folder."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet
from topwork.errors import DecodeError
from topwork.extract.sources.access import Access, Address
from topwork.extract.sources.opening import open_source
from topwork.extract.sources.table import Table
from topwork.extract.store.feature_store import FeatureStore

from ...hostile_server import HostileServer, give, redirect
from ...pipelines.cli.running import topwork_command, topwork_json

WriteImages = Callable[..., Path]
TABLE = "https://a.org/data/t.csv"
needs_aiohttp = pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="aiohttp is not installed")


def table_of(*names: str) -> bytes:
    return "\n".join(["path", *(f'"{name}"' for name in names)]).encode()


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "local:///etc/passwd",
        "simplecache::file:///etc/passwd",
        "filecache::https://a.org/data/1.png",
        "zip://a::file:///b.zip",
        "//b.org/1.png",
        "https://b.org/1.png",
        "https://a.org@b.org/1.png",
        "https://a.org:8080/data/1.png",
        "https://a.org.b.org/data/1.png",
        "http://127.0.0.1/1.png",
        "s3://a.org/data/1.png",
        "memory://a.org/data/1.png",
        "../1.png",
        "1/../../1.png",
        "https://a.org/1.png",
        "https://a.org/data/../1.png",
        "https://a.org/data/%2e%2e/1.png",
        "https://a.org/data%2f..%2f1.png",
    ],
)
def test_what_lies_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(DecodeError, match=r"allow|one protocol"):
        Access(TABLE, TABLE).check(name)


@pytest.mark.parametrize(
    "name",
    [
        *("1.png", "./1.png", "a/../1.png", "a b/ü.png", "50%20.png", "a&b?#.png", "..png"),
        *("https://a.org/data/1.png", "https://u:p@A.org:443/data/1.png?X=1", "http://a.org/data/1.png"),
    ],
)
def test_what_lies_below_the_folder_is_allowed(name: str) -> None:
    Access(TABLE, TABLE).check(name)


def test_allowed_hosts() -> None:
    allowed = ("B.org", "c.org:8080", "s3://bucket")
    access = Access(TABLE, TABLE, allowed)
    for url in ("https://b.org/1", "http://b.org:81/1", "http://c.org:8080/1", "s3://bucket/1"):
        access.check(url)
        access.check_redirect(url)
    for url in ("https://c.org/1", "https://bucket/1", "gs://bucket/1", "ftp://b.org/1", "https://x.b.org/1"):
        with pytest.raises(DecodeError):
            access.check(url)
        with pytest.raises(DecodeError):
            access.check_redirect(url)
    Access(TABLE, TABLE, ("a.org",)).check("../1.png")
    Access("s3://b/t.csv", "b/t.csv", ("c",)).check("s3://c/1.png")


@pytest.mark.parametrize("table", ["memory://bucket/t.csv", "file:///data/t.csv", "local:///data/t.csv"])
def test_table_of_this_machine_or_process_is_the_users_own(table: str) -> None:
    for name in ("/private/1.png", "file:///private/1.png", "../1.png", "https://b.org/1.png"):
        Access(table, table.partition("://")[2]).check(name)


def test_address_without_user_query_and_default_port() -> None:
    assert Address.parse("HTTPS://u:p@A.org:443/a%20b/../c?d#e") == Address("https", "a.org", "/c")
    assert Address.parse("s3://bucket/a?b#c") == Address("s3", "bucket", "/a?b#c")


@needs_aiohttp
def test_rows_of_a_remote_table_are_no_files_of_this_machine(
    hostile_server: HostileServer, write_images: WriteImages
) -> None:
    private = write_images(labels=("cat",), each=1) / "cat/0.png"
    absent = private.with_name("absent.png")
    names = [str(private), str(absent), f"file://{private}", f"local://{private}", f"simplecache::file://{private}"]
    hostile_server.answers["/t/t.csv"] = give(table_of(*names))
    url = f"{hostile_server.url}/t/t.csv"
    reasons = []
    for item in open_source(url):
        assert (item.size, item.mtime_ns) == (None, None)
        with pytest.raises(DecodeError) as caught:
            item.read()
        reasons.append(str(caught.value))
    assert reasons[0] == reasons[1]  # of a file that exists, and one that does not
    allowed = list(open_source(Table(url, allow_local=True)))
    assert [allowed[row].read() for row in (0, 2, 3)] == [private.read_bytes()] * 3
    with pytest.raises(FileNotFoundError):
        allowed[1].read()
    with pytest.raises(DecodeError, match="one protocol"):
        allowed[4].read()


@needs_aiohttp
def test_pairs_of_bytes_and_path_in_a_remote_table_are_no_files_of_this_machine(
    hostile_server: HostileServer, write_images: WriteImages, tmp_path: Path
) -> None:
    private = write_images(labels=("cat",), each=1) / "cat/0.png"
    cells = [{"bytes": b"x", "path": "a.png"}, {"bytes": None, "path": str(private)}]
    parquet.write_table(pyarrow.table({"image": cells}), tmp_path / "t.parquet")
    hostile_server.answers["/t.parquet"] = give((tmp_path / "t.parquet").read_bytes())
    own, outside = open_source(f"{hostile_server.url}/t.parquet")
    assert own.read() == b"x"
    with pytest.raises(DecodeError, match="--allow-local"):
        outside.read()


@needs_aiohttp
def test_other_hosts_are_asked_only_if_allowed(hostile_server: HostileServer) -> None:
    """The other host is the same machine by another name."""
    other = f"localhost:{hostile_server.server_port}"
    hostile_server.answers |= {
        "/t/t.csv": give(table_of(f"http://{other}/1.png", "moved.png", "near.png", "far.png")),
        "/1.png": give(b"1"),
        "/t/moved.png": redirect(f"http://{other}/1.png"),
        "/t/near.png": redirect("/2.png"),
        "/2.png": give(b"2"),
        "/t/far.png": redirect("/t/moved.png"),
    }
    url = f"{hostile_server.url}/t/t.csv"
    named, moved, near, far = open_source(url)
    assert near.read() == b"2"
    for item in (named, moved, far):
        with pytest.raises(DecodeError, match=f"--allow-hosts {other}"):
            item.read()
    assert hostile_server.asked("/1.png") == []
    items = list(open_source(Table(url, allow_hosts=[other])))
    assert [item.read() for item in items] == [b"1", b"1", b"2", b"1"]


@needs_aiohttp
def test_redirects_to_files_are_refused(hostile_server: HostileServer, write_images: WriteImages) -> None:
    private = write_images(labels=("cat",), each=1) / "cat/0.png"
    hostile_server.answers |= {"/t.csv": give(table_of("1.png")), "/1.png": redirect(f"file://{private}")}
    for table in (f"{hostile_server.url}/t.csv", Table(f"{hostile_server.url}/t.csv", allow_local=True)):
        (item,) = open_source(table)
        with pytest.raises((DecodeError, OSError)):
            item.read()


@needs_aiohttp
def test_urls_in_a_local_table_need_no_permission(hostile_server: HostileServer, tmp_path: Path) -> None:
    other = f"http://localhost:{hostile_server.server_port}/1.png"
    hostile_server.answers |= {"/1.png": give(b"1"), "/moved.png": redirect(other)}
    (tmp_path / "t.csv").write_bytes(table_of(f"{hostile_server.url}/moved.png", other))
    assert [item.read() for item in open_source(tmp_path / "t.csv")] == [b"1", b"1"]


@needs_aiohttp
@pytest.mark.parametrize(("options", "succeeded"), [((), 1), (("--allow-local",), 2)])
def test_command_allows_local_files_only_if_asked_to(
    hostile_server: HostileServer, write_images: WriteImages, tmp_path: Path, options: tuple[str, ...], succeeded: int
) -> None:
    private = write_images(labels=("cat",), each=2) / "cat"
    hostile_server.answers["/own.png"] = give((private / "1.png").read_bytes())
    hostile_server.answers["/t.csv"] = give(table_of("own.png", str(private / "0.png")))
    store = tmp_path / "store"
    ledger = topwork_json("extract", f"{hostile_server.url}/t.csv", "--store", store, *options)
    assert (ledger["ok"], ledger["failed"]) == (succeeded, 2 - succeeded)


@needs_aiohttp
def test_secrets_of_urls_stay_out_of_the_store(
    hostile_server: HostileServer, write_images: WriteImages, tmp_path: Path
) -> None:
    """Signed again, the items are the same; a failure names them without their secrets."""
    images = write_images(labels=("cat",), each=2) / "cat"
    hostile_server.answers |= {f"/{n}.png": give((images / f"{n}.png").read_bytes()) for n in (0, 1)}
    store = tmp_path / "store"
    ledgers = []
    for secret in ("hush1", "hush2"):
        names = [f"http://me:{secret}@{hostile_server.host}/{n}.png?X-Amz-Signature={secret}&v=1" for n in (0, 1, 2)]
        (tmp_path / "t.csv").write_bytes(table_of(*names))
        result = topwork_command("extract", tmp_path / "t.csv", "--store", store, "--json")
        assert "hush" not in result.stdout + result.stderr
        ledgers.append(json.loads(result.stdout))
    assert [(ledger["ok"], ledger["failed"], ledger["items"]) for ledger in ledgers] == [(2, 1, 3)] * 2
    assert FeatureStore.open(store).ids == [f"{hostile_server.url}/{n}.png?v=1" for n in (0, 1)]
    for path in store.rglob("*"):
        assert path.is_dir() or b"hush" not in path.read_bytes(), path
    assert "hush" not in topwork_command("store", "failures", store).stdout
    refused = topwork_command(
        "extract", f"http://me:hush@{hostile_server.host}/t.csv?token=hush", "--store", store, code=2
    )
    assert "hush" not in refused.stderr

"""Sources at URLs: the same items as on the disk, fetched when they are needed."""

from __future__ import annotations

import gc
import http.server
import importlib.util
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pyarrow
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import csv, parquet
from topwork.errors import DecodeError, SourceError
from topwork.extract.sources.file import MAX_ITEM_BYTES
from topwork.extract.sources.folder import FolderSource
from topwork.extract.sources.opening import open_source
from topwork.extract.sources.remote import FetchedSource, RemoteFolder, RemoteTable
from topwork.extract.sources.sequence import SequenceSource
from topwork.extract.sources.table import Table
from topwork.extract.sources.url import fetch, is_url, modified_ns

WriteImages = Callable[..., Path]
needs_aiohttp = pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="aiohttp is not installed")


class Listed(MemoryFileSystem):
    """Files in memory behind a protocol of their own, listed folder by folder and remembered, as clouds are."""

    protocol = "listed"
    find = fsspec.AbstractFileSystem.find
    remembered: dict[str, list[dict[str, object]]] = {}  # noqa: RUF012
    facts: dict[str, object] = {}  # noqa: RUF012
    locked = ""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(str(path).removeprefix("listed://"))

    def invalidate_cache(self, path: str | None = None) -> None:
        self.remembered.clear()

    def ls(self, path: str, detail: bool = True, **kwargs: object) -> list[dict[str, object]]:
        if self.locked and path.endswith(self.locked):
            raise PermissionError(13, "Permission denied", path)
        if path not in self.remembered:
            self.remembered[path] = [{**entry, **self.facts} for entry in super().ls(path, True)]
        return self.remembered[path]


class Flat(MemoryFileSystem):
    """Files in memory that are listed in one go, as in clouds, by a function that takes no other argument."""

    protocol = "flat"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(str(path).removeprefix("flat://"))

    def find(self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False) -> object:
        return super().find(path, maxdepth, withdirs, detail)

    def ls(self, path: str, detail: bool = True, **kwargs: object) -> object:
        raise AssertionError("a cloud would be asked once for each folder")


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    """Return an empty file system in memory, also called listed:// and flat://."""
    for kind in (Listed, Flat):
        fsspec.register_implementation(kind.protocol, kind, clobber=True)
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


def uploaded(folder: Path, to: str) -> str:
    """Copy a folder into the memory, and return its URL."""
    for path in folder.rglob("*"):
        if path.is_file():
            fsspec.filesystem("memory").pipe_file(f"{to}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return f"memory://{to}"


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass

    def send_head(self) -> object:
        if "forbidden" in self.path:
            return self.send_error(403)
        return super().send_head()


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Return a function that serves a folder on this machine, and returns its URL."""
    servers = []

    def start(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def described(source: object) -> list[tuple[object, ...]]:
    return [(item.id, item.label, item.split, item.read()) for item in source]  # type: ignore[attr-defined]


@pytest.mark.parametrize("protocol", ["memory", "listed", "flat"])
@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("labels", [("dog", "cat", "cat fish"), ("train/ants", "valid/ants", "test")])
def test_folder_at_a_url_has_the_items_of_the_folder(
    memory: MemoryFileSystem, write_images: WriteImages, protocol: str, slash: str, labels: tuple[str, ...]
) -> None:
    root = write_images(labels=labels, each=2)
    for other in ("notes.txt", ".hidden.png", ".thumbs/a.png"):
        (root / other).parent.mkdir(exist_ok=True)
        (root / other).write_bytes(b"x")
    uploaded(root, "/photos")
    uploaded(root, "/photos2")
    remote, local = open_source(f"{protocol}://photos{slash}"), FolderSource(root)
    assert isinstance(remote, RemoteFolder)
    assert (len(remote), remote.ignored) == (len(local), local.ignored) == (2 * len(labels), 2)
    assert described(remote) == described(remote) == described(local)
    assert [(item.size, item.mtime_ns) for item in remote] == [(item.size, None) for item in local]


@pytest.mark.parametrize(("kind", "name"), [("text", "b.txt"), ("tensor", "c.npy")])
def test_items_are_files_of_the_kind_that_the_backbone_expects(memory: MemoryFileSystem, kind: str, name: str) -> None:
    for path in ("a.png", "b.txt", "c.npy"):
        memory.pipe_file(f"/all/x/{path}", path.encode())
    source = open_source("memory://all", kind=kind)
    assert described(source) == [(f"x/{name}", "x", None, name.encode())]
    assert source.ignored == 2


def test_the_root_of_a_file_system_is_a_folder(memory: MemoryFileSystem) -> None:
    memory.pipe_file("/cat/a.png", b"a")
    assert described(open_source("memory://")) == [("cat/a.png", "cat", None, b"a")]


def test_keys_that_differ_in_slashes_are_two_items(memory: MemoryFileSystem) -> None:
    for key in ("/keys//a.png", "/keys/a.png"):
        memory.pipe_file(key, key.encode())
    found = described(open_source("flat://keys"))
    assert sorted(item[0] for item in found) == ["a.png", "a.png#2"]
    assert sorted(item[3] for item in found) == [b"/keys//a.png", b"/keys/a.png"]


def test_url_of_a_local_folder_is_that_folder(write_images: WriteImages) -> None:
    root = write_images(labels=("cat fish", "dog"), each=1)
    (root / "cat fish" / "link").symlink_to("../dog", target_is_directory=True)
    for url in (f"file://{root}", f"local://{root}/", (root / "cat fish").as_uri()):
        source = open_source(url)
        assert isinstance(source, FolderSource)
        assert next(iter(source)).mtime_ns is not None
        assert "link/0.png" in [item.id.removeprefix("cat fish/") for item in source]


def test_archive_within_another_file_system(memory: MemoryFileSystem, write_images: WriteImages) -> None:
    root, packed = write_images(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(root.rglob("*.png")):
            archive.write(path, path.relative_to(root.parent))
    memory.pipe_file("/packed.zip", packed.getvalue())
    assert described(open_source("zip://images::memory://packed.zip")) == described(FolderSource(root))


def test_listing_is_never_an_old_one(memory: MemoryFileSystem) -> None:
    memory.pipe_file("/photos/a.png", b"a")
    assert len(open_source("listed://photos")) == 1
    memory.pipe_file("/photos/b.png", b"b")
    assert len(open_source("listed://photos")) == 2


def test_time_of_modification_recognises_a_file(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe_file("/photos/a.png", b"a")
    monkeypatch.setattr(Listed, "facts", {"LastModified": datetime(2020, 1, 2, tzinfo=UTC)})
    assert [item.mtime_ns for item in open_source("listed://photos")] == [1_577_923_200_000_000_000]


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"mtime": 1.5}, 1_500_000_000),
        ({"mtime": 7}, 7_000_000_000),
        ({"mtime": datetime(1970, 1, 1, 2, 0, 0, 1, tzinfo=timezone(timedelta(hours=2)))}, 1_000),
        ({"last_modified": datetime(1970, 1, 2)}, 86_400_000_000_000),
        ({"LastModified": "1970-01-01T00:00:01Z"}, 1_000_000_000),
        ({"LastModified": ""}, None),
        ({"mtime": float("nan")}, None),
        ({"mtime": 1e12}, None),
        ({"mtime": None, "created": 5.0, "size": 3}, None),
    ],
)
def test_times_of_modification_are_nanoseconds(info: dict[str, object], expected: int | None) -> None:
    assert modified_ns(info) == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "memory://nowhere",
            r"source memory://nowhere cannot be read: memory://nowhere does not exist\. Check",
        ),
        ("listed://nowhere", "cannot be read: /nowhere does not exist"),
        ("memory://nowhere.tar", "cannot be read: .*nowhere.tar does not exist"),
        ("memory://nowhere.csv", "cannot be read: .*nowhere.csv does not exist"),
        ("file:///nowhere/at/all", "source /nowhere/at/all does not exist; expected a folder"),
        ("memory://some/a.jpg", r"is one file, or lists none; expected a folder, or a file that ends in \.csv, "),
        ("memory://some", r"holds no image items \(1 other files\)"),
        ("memory://a.tar", r"is a folder, named like a file; expected a slash at the end"),
        ("unheard://of", "unheard:// is no protocol that fsspec knows; expected one such as https://"),
        ("lost://of", "lost:// needs the package no_such_driver, which is not installed: pip install no_such_driver"),
        ("simplecache::lost://of/x.npy", "lost:// needs the package no_such_driver"),
    ],
)
def test_what_cannot_be_a_source_says_why(memory: MemoryFileSystem, url: str, reason: str) -> None:
    fsspec.register_implementation("lost", "no_such_driver.FileSystem", clobber=True, errtxt="Install it")
    for path in ("/some/a.jpg", "/a.tar/b.png"):
        memory.pipe_file(path, b"x")
    if url == "memory://some":
        memory.mv("/some/a.jpg", "/some/a.doc")
    with pytest.raises(SourceError, match=reason):
        open_source(url)


def test_folder_named_like_a_file_is_opened_by_its_slash(memory: MemoryFileSystem) -> None:
    memory.pipe_file("/a.tar/b.png", b"b")
    assert described(open_source("memory://a.tar/")) == [("b.png", None, None, b"b")]


def test_folder_that_cannot_be_listed_is_an_error(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/photos/a/1.png", "/photos/b/2.png"):
        memory.pipe_file(path, b"x")
    monkeypatch.setattr(Listed, "locked", "/photos/b")
    with pytest.raises(SourceError, match=r"'/photos/b'.*listed://"):
        open_source("listed://photos")


def test_file_that_is_gone_fails_alone(memory: MemoryFileSystem) -> None:
    for path in ("/photos/a.png", "/photos/b.png"):
        memory.pipe_file(path, b"x")
    gone, there = open_source("memory://photos")
    memory.rm_file("/photos/a.png")
    with pytest.raises(FileNotFoundError, match=r"/photos/a\.png does not exist"):
        gone.read()
    assert there.read() == b"x"


def test_any_failure_to_fetch_is_one_of_the_item(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> bytes:
        raise RuntimeError("the cloud is gone")

    memory.pipe_file("/photos/a.png", b"x")
    (item,) = open_source("memory://photos")
    monkeypatch.setattr(MemoryFileSystem, "_open", fail)
    with pytest.raises(OSError, match=r"a\.png .*the cloud is gone"):
        item.read()
    with pytest.raises(OSError, match="unheard://"):
        fetch("unheard://of")


def test_file_larger_than_any_item_is_not_fetched(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.pipe_file("/photos/a.png", b"x")
    monkeypatch.setattr(Listed, "facts", {"size": MAX_ITEM_BYTES + 1})
    (item,) = open_source("listed://photos")
    with pytest.raises(DecodeError, match=f"{MAX_ITEM_BYTES:,}"):
        item.read()


COLUMNS = pyarrow.table({"text": ["one", "two", None], "topic": ["a", "b", "a"]})


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_table_of_texts_at_a_url(memory: MemoryFileSystem, tmp_path: Path, name: str) -> None:
    if name == "t.parquet":
        parquet.write_table(COLUMNS, tmp_path / name)
    elif name == "t.jsonl":
        (tmp_path / name).write_text('{"text": "one", "topic": "a"}\n{"text": "two", "topic": "b"}\n')
    else:
        csv.write_csv(COLUMNS, tmp_path / name, csv.WriteOptions(delimiter="\t" if name == "t.tsv" else ","))
    memory.pipe_file(f"/tables/{name}", (tmp_path / name).read_bytes())
    remote = open_source(Table(f"memory://tables/{name}", label="topic"), kind="text")
    local = open_source(Table(tmp_path / name, label="topic"), kind="text")
    assert isinstance(remote, RemoteTable)
    assert [(i.id, i.label, i.split) for i in remote] == [(i.id, i.label, i.split) for i in local]
    assert [item.read() for item in list(remote)[:2]] == ["one", "two"]
    assert len(open_source(f"memory://tables/{name}", kind="text")) == len(local)


def test_paths_in_a_table_are_relative_to_its_url(memory: MemoryFileSystem, write_images: WriteImages) -> None:
    local = write_images(labels=("cat",), each=2)
    for path in ("/data/tables/own.png", "/data/photos/1.png", "/elsewhere/2.png"):
        memory.pipe_file(path, path.encode())
    paths = ["own.png", "./own.png", "../photos/1.png", "memory://elsewhere/2.png", f"{local}/cat/0.png"]
    paths += [f"file://{local}/cat/1.png", "", "gone.png"]
    memory.pipe_file("/data/tables/train.csv", "\n".join(["path", *(f'"{path}"' for path in paths)]).encode())
    table = Table("memory://data/tables/train.csv", allow_hosts=["data", "elsewhere"], allow_local=True)
    items = list(open_source(table))
    assert [item.id for item in items][:5] == ["own.png", "own.png#2", *paths[2:5]]
    contents = [item.read() for item in items[:6]]
    assert contents[:4] == [b"/data/tables/own.png"] * 2 + [b"/data/photos/1.png", b"/elsewhere/2.png"]
    assert contents[4:] == [(local / "cat" / name).read_bytes() for name in ("0.png", "1.png")]
    assert items[4].mtime_ns == (local / "cat/0.png").stat().st_mtime_ns
    with pytest.raises(DecodeError, match="empty"):
        items[6].read()
    with pytest.raises(FileNotFoundError, match=r"/data/tables/gone\.png does not exist"):
        items[7].read()


def test_urls_are_items_of_a_sequence(memory: MemoryFileSystem, write_images: WriteImages) -> None:
    path = write_images(each=1) / "cat/0.png"
    memory.pipe_file("/a.png", b"a")
    items = list(SequenceSource(["memory://a.png", f"file://{path}", str(path)]))
    assert [item.id for item in items] == ["memory://a.png", f"file://{path}", str(path)]
    assert [item.read() for item in items] == [b"a", path.read_bytes(), path.read_bytes()]
    assert items[1].mtime_ns == items[2].mtime_ns == path.stat().st_mtime_ns
    assert [item.read() for item in SequenceSource(["memory://a.png"], kind="text")] == ["memory://a.png"]


def write_files(folder: Path) -> None:
    """Write an archive and arrays into a folder."""
    with tarfile.open(folder / "texts.tar.gz", "w:gz") as archive:
        for name in ("x/a.txt", "y/b.txt"):
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(name[2].encode()))
    with tarfile.open(folder / "texts.tar", "w") as plain, tarfile.open(folder / "texts.tar.gz") as archive:
        for member in archive:
            plain.addfile(member, archive.extractfile(member))
    with zipfile.ZipFile(folder / "TEXTS.ZIP", "w") as packed, tarfile.open(folder / "texts.tar.xz", "w:xz") as plain:
        for name in ("x/a.txt", "y/b.txt"):
            packed.writestr(name, name[2])
            member = tarfile.TarInfo(name)
            member.size = 1
            plain.addfile(member, io.BytesIO(name[2].encode()))
    np.save(folder / "rows.npy", np.arange(6.0).reshape(2, 3))
    np.savez(folder / "rows.npz", X=np.arange(6.0).reshape(2, 3), y=["x", "y"])


KINDS = {
    "texts.tar.gz": "text",
    "texts.tar": "text",
    "texts.tar.xz": "text",
    "TEXTS.ZIP": "text",
    "rows.npy": "tensor",
    "rows.npz": "tensor",
}


@pytest.mark.parametrize("name", KINDS)
def test_archives_and_arrays_are_fetched(memory: MemoryFileSystem, tmp_path: Path, name: str) -> None:
    write_files(tmp_path)
    uploaded(tmp_path, "/files")
    for url in (f"memory://files/{name}", f"simplecache::memory://files/{name}"):
        remote, local = open_source(url, kind=KINDS[name]), open_source(tmp_path / name, kind=KINDS[name])
        assert isinstance(remote, FetchedSource)
        assert (len(remote), remote.ignored, remote.kind) == (2, 0, KINDS[name])
        for ours, theirs in zip(described(remote), described(local), strict=True):
            assert ours[:3] == theirs[:3]
            np.testing.assert_array_equal(ours[3], theirs[3])


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of temporary files, which is empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_copy_goes_with_the_last_that_needs_it(memory: MemoryFileSystem, tmp_path: Path, temporary: Path) -> None:
    write_files(tmp_path)
    uploaded(tmp_path, "/files")
    source: object = open_source("memory://files/texts.tar", kind="text")
    items = list(source)  # type: ignore[call-overload]
    del source
    gc.collect()
    assert [item.read() for item in items] == [b"a", b"b"]
    assert len(list(temporary.iterdir())) == 1
    del items
    gc.collect()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", ["damaged.tar", "damaged.csv", "damaged.npy", "absent.tar"])
def test_failure_leaves_no_copy_behind_and_names_the_url(memory: MemoryFileSystem, temporary: Path, name: str) -> None:
    memory.pipe_file(f"/files/{name}" if name != "absent.tar" else "/other", b"\x93NUMPY no")
    with pytest.raises(SourceError, match=re.escape(f"memory://files/{name}")) as caught:
        open_source(f"memory://files/{name}")
    assert str(temporary) not in str(caught.value)
    del caught
    gc.collect()
    assert list(temporary.iterdir()) == []


@needs_aiohttp
def test_folder_of_a_web_server(write_images: WriteImages, serve: Callable[[Path], str]) -> None:
    root = write_images(labels=("cat fish", "Größe", "50%20", "a&b?#"), each=2)
    (root / "notes.txt").write_text("no image")
    (root / "empty").mkdir()
    address = serve(root.parent)
    local = FolderSource(root)
    for url in (f"{address}/images", f"{address}/images/"):
        remote = open_source(url)
        assert isinstance(remote, RemoteFolder)
        with ThreadPoolExecutor(4) as pool:
            contents = list(pool.map(lambda item: item.read(), remote))
        assert [(item.id, item.label, item.split) for item in remote] == [(i.id, i.label, i.split) for i in local]
        assert contents == [item.read() for item in local]
        assert {(item.size, item.mtime_ns) for item in remote} == {(None, None)}
        assert (len(remote), remote.ignored) == (8, 1)


@needs_aiohttp
def test_links_that_lead_nowhere_new_are_no_files(write_images: WriteImages, serve: Callable[[Path], str]) -> None:
    root = write_images(labels=("cat",), each=1)
    links = ("./", "../", "/", "?C=N;O=D", "https://a.org/b.png", "0.png")
    (root / "cat" / "index.html").write_text("".join(f'<a href="{link}">link</a>' for link in links))
    source = open_source(serve(root))
    assert [item.id for item in source] == ["cat/0.png"]
    assert source.ignored == 0


@needs_aiohttp
def test_files_of_a_web_server(write_images: WriteImages, serve: Callable[[Path], str]) -> None:
    folder = write_images(labels=("cat fish",), each=1).parent
    write_files(folder)
    (folder / "train.csv").write_text("path\nimages/cat fish/0.png\nimages/gone.png\n")
    address = serve(folder)
    for name, kind in KINDS.items():
        assert len(list(open_source(f"{address}/{name}?key=1", kind=kind))) == 2
    there, gone = open_source(f"{address}/train.csv?key=1")
    assert (there.id, there.read()) == ("images/cat fish/0.png", (folder / "images/cat fish/0.png").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"/images/gone\.png does not exist"):
        gone.read()


@needs_aiohttp
def test_failures_of_a_web_server(write_images: WriteImages, serve: Callable[[Path], str]) -> None:
    root = write_images(labels=("cat",), each=1)
    address = serve(root)
    with pytest.raises(SourceError, match=r"http://.*/nowhere does not exist"):
        open_source(f"{address}/nowhere")
    with pytest.raises(SourceError, match=r"403.*http://"):
        open_source(f"{address}/forbidden.tar")
    with pytest.raises(SourceError, match=r"cat/0\.png is one file"):
        open_source(f"{address}/cat/0.png")
    (root / "cat" / "forbidden.png").write_bytes(b"x")
    item = list(open_source(address))[1]
    with pytest.raises(OSError, match=r"forbidden\.png .*403"):
        item.read()
    (root / "forbidden").mkdir()
    with pytest.raises(SourceError, match="403"):
        open_source(address)
    with pytest.raises(SourceError, match=r"127\.0\.0\.1"):
        open_source("http://127.0.0.1:1/photos")


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://a.org/b", True),
        ("s3://b", True),
        ("simplecache::s3://b/c.tar", True),
        ("zip://a::file:///b.zip", True),
        ("C://photos", False),
        ("C:\\photos", False),
        ("/a/b://c", False),
        ("photos", False),
        ("", False),
        (Path("s3://b"), False),
        (None, False),
    ],
)
def test_url_is_a_text_with_a_protocol(location: object, expected: bool) -> None:
    assert is_url(location) is expected


def test_local_sources_need_no_fsspec(write_images: WriteImages) -> None:
    root = write_images()
    code = f"""
import sys
sys.modules["fsspec"] = None
from topwork.extract.sources.opening import open_source
print(len(list(open_source({str(root)!r}))), len(list(open_source([{str(root / "cat/0.png")!r}]))))
try:
    open_source("memory://a")
except ValueError as error:
    print(error)
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.startswith("6 1\n")
    assert "pip install fsspec" in output

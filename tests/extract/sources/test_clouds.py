"""Items of file systems other than web servers, which lie about their size, end early or fail for a while."""

from __future__ import annotations

import io
from pathlib import Path

import fsspec
import pytest
from fsspec.asyn import AsyncFileSystem
from topwork.errors import DecodeError, SourceError
from topwork.extract.sources import clouds, retries
from topwork.extract.sources import file as file_module
from topwork.extract.sources.file import MAX_ITEM_BYTES
from topwork.extract.sources.remote import LocalCopy, RemoteFolder
from topwork.extract.sources.url import fetch

CONTENT = bytes(range(250)) * 32  # 8,000 bytes


class Stream(io.BytesIO):
    """A file that announces a size."""

    def __init__(self, content: bytes, size: int | None) -> None:
        super().__init__(content)
        if size is not None:
            self.size = size


class EndlessStream(io.RawIOBase):
    """Zeros without an end."""

    given = 0

    def read(self, size: int = -1) -> bytes:
        EndlessStream.given += size
        return bytes(size)


class LyingSystem(fsspec.AbstractFileSystem):
    """Files of which the announced size, the content and the failures are chosen by a test."""

    protocol = "lying"
    cachable = False
    content = CONTENT
    size: int | None = None
    endless = False
    failures: list[Exception] = []  # noqa: RUF012
    calls = 0

    @classmethod
    def fail(cls) -> None:
        cls.calls += 1
        if cls.failures:
            raise cls.failures.pop()

    def open(self, path: str, mode: str = "rb", **options: object) -> object:  # type: ignore[override]
        self.fail()
        return EndlessStream() if self.endless else Stream(self.content, self.size)

    def ls(self, path: str, detail: bool = True, **options: object) -> object:
        self.fail()
        return [{"name": f"{path}/1.png", "size": None, "type": "file"}]

    def get_file(self, path: str, local: str, **options: object) -> None:  # type: ignore[override]
        self.fail()
        Path(local).write_bytes(self.content)


class Cloud(AsyncFileSystem):
    """Files that are asked for by range, which an empty one does not have."""

    protocol = "cloud"
    cachable = False
    content = CONTENT
    asked: list[tuple[int | None, int | None]] = []  # noqa: RUF012
    knows_ranges = True

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: object) -> bytes:
        self.asked.append((start, end))
        if not self.content:
            raise OSError(22, "the requested range is not satisfiable")
        return self.content[start:end] if self.knows_ranges else self.content

    def open(self, path: str, mode: str = "rb", **options: object) -> object:  # type: ignore[override]
        self.asked.append((None, None))
        return Stream(self.content, len(self.content))


@pytest.fixture(autouse=True)
def file_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the file systems, and shorten the waits."""
    for kind in (LyingSystem, Cloud):
        fsspec.register_implementation(kind.protocol, kind, clobber=True)
    monkeypatch.setattr(retries, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(LyingSystem, "calls", 0)
    monkeypatch.setattr(EndlessStream, "given", 0)
    monkeypatch.setattr(Cloud, "asked", [])


@pytest.fixture
def small_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the limit of an item to a megabyte, and that of a piece to a tenth."""
    monkeypatch.setattr(file_module, "MAX_ITEM_BYTES", 10**6)
    monkeypatch.setattr(clouds, "PIECE_BYTES", 10**5)


@pytest.mark.parametrize("size", [None, 412, 8000])
def test_content_is_whole_whatever_a_small_size_says(monkeypatch: pytest.MonkeyPatch, size: int | None) -> None:
    monkeypatch.setattr(LyingSystem, "size", size)
    assert fetch("lying://1.png") == CONTENT


@pytest.mark.parametrize("size", [MAX_ITEM_BYTES + 1, 10**15])
def test_announced_size_over_the_limit_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(LyingSystem, "size", size)
    monkeypatch.setattr(LyingSystem, "endless", False)
    with pytest.raises(DecodeError, match=f"{size:,} bytes; expected at most {MAX_ITEM_BYTES:,}"):
        fetch("lying://1.png")
    assert LyingSystem.calls == 1


@pytest.mark.usefixtures("small_items")
def test_file_without_an_end_is_refused_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LyingSystem, "endless", True)
    with pytest.raises(DecodeError, match="1,100,000 bytes; expected at most 1,000,000"):
        fetch("lying://1.png")
    assert EndlessStream.given == 1_100_000


def test_file_that_ends_early_is_no_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LyingSystem, "size", 9000)
    with pytest.raises(OSError, match="ended after 8,000 of 9,000 bytes"):
        fetch("lying://1.png")
    assert LyingSystem.calls == 5


def test_passing_trouble_is_outlived(monkeypatch: pytest.MonkeyPatch) -> None:
    troubles: list[Exception] = [ConnectionResetError(104, "reset"), TimeoutError()]
    monkeypatch.setattr(LyingSystem, "failures", troubles.copy())
    assert fetch("lying://1.png") == CONTENT
    monkeypatch.setattr(LyingSystem, "failures", troubles.copy())
    assert len(RemoteFolder("lying://photos")) == 1
    monkeypatch.setattr(LyingSystem, "failures", troubles.copy())
    assert LocalCopy("lying://a.tar").path.read_bytes() == CONTENT
    assert LyingSystem.calls == 9


def test_lasting_trouble_says_what_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LyingSystem, "failures", [ConnectionResetError(104, "reset")] * 15)
    with pytest.raises(OSError, match=r"lying://1\.png cannot be fetched: .*reset"):
        fetch("lying://1.png")
    with pytest.raises(SourceError, match="reset"):
        RemoteFolder("lying://photos")
    with pytest.raises(SourceError, match="reset"):
        LocalCopy("lying://a.tar")
    assert LyingSystem.calls == 15


def test_cloud_is_asked_once_for_a_small_file() -> None:
    assert fetch("cloud://1.png") == CONTENT
    assert Cloud.asked == [(0, clouds.PIECE_BYTES)]


def test_empty_file_of_a_cloud_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cloud, "content", b"")
    assert fetch("cloud://1.txt") == b""


@pytest.mark.usefixtures("small_items")
def test_large_files_of_a_cloud_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (10**5, 10**6):
        monkeypatch.setattr(Cloud, "content", bytes(size))
        assert fetch("cloud://1.png") == bytes(size)
    monkeypatch.setattr(Cloud, "content", bytes(10**6 + 1))
    for knows_ranges in (True, False):
        monkeypatch.setattr(Cloud, "knows_ranges", knows_ranges)
        with pytest.raises(DecodeError, match="1,000,001 bytes; expected at most 1,000,000"):
            fetch("cloud://1.png")

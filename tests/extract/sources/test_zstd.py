"""Archives that are compressed by Zstandard: of one frame or several, whole or not, with its package or without."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topwork.errors import SourceError
from topwork.extract.sources.folder import FolderSource
from topwork.extract.sources.opening import open_source
from topwork.extract.sources.zstd import ZstdStream

zstandard = pytest.importorskip("zstandard")
WriteImages = Callable[..., Path]
NOISE = np.random.default_rng(0).bytes(300_000)


def pack(root: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(root, ".")
    return stream.getvalue()


def compress(content: bytes, n_frames: int = 1, **options: Any) -> bytes:
    size = -(-len(content) // n_frames)
    compressor = zstandard.ZstdCompressor(**options)
    return b"".join(compressor.compress(content[start : start + size]) for start in range(0, len(content), size))


def skippable_frame(content: bytes) -> bytes:
    return b"\x50\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content


def described(source: Any) -> list[tuple[Any, ...]]:
    return sorted((item.id, item.label, item.split, item.size, item.read()) for item in source)


@pytest.mark.parametrize("name", ["photos.tar.zst", "photos.tzst", "PHOTOS.TAR.ZST"])
@pytest.mark.parametrize("n_frames", [1, 7])
def test_items_are_those_of_the_folder(write_images: WriteImages, name: str, n_frames: int) -> None:
    root = write_images(labels=("train/cat", "val/cat", "val/dog"), each=3)
    path = root.parent / name
    path.write_bytes(compress(pack(root), n_frames))
    source = open_source(path)
    assert described(source) == described(source) == described(FolderSource(root))


def test_frames_that_are_skipped_and_an_ending_that_is_wrong(write_images: WriteImages) -> None:
    root = write_images()
    path = root.parent / "photos.tar"
    content = pack(root)
    path.write_bytes(skippable_frame(b"made by pzstd") + compress(content[:1000]) + compress(content[1000:]))
    assert described(open_source(path)) == described(FolderSource(root))


def test_sidecars_and_hard_links_are_read(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in (
            ("0.png", b"first"),
            ("0.cls", b"ant"),
            ("1.png", NOISE),
            ("1.json", b'{"label": "bee"}'),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("2.png")
        link.type = tarfile.LNKTYPE
        link.linkname = "1.png"
        archive.addfile(link)
    (tmp_path / "a.tar.zst").write_bytes(compress(stream.getvalue(), 3, level=19))
    items = [(item.id, item.label, item.read()) for item in open_source(tmp_path / "a.tar.zst")]
    assert items == [("0.png", "ant", b"first"), ("1.png", "bee", NOISE), ("2.png", None, NOISE)]


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("n_frames", [1, 5])
def test_truncated_archive_is_an_error(write_images: WriteImages, share: float, n_frames: int) -> None:
    root = write_images(each=5)
    content = compress(pack(root), n_frames)
    path = root.parent / "a.tar.zst"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(SourceError, match=r"a\.tar\.zst cannot be read: .*pack it again"):
        open_source(path)


@pytest.mark.parametrize("place", [5, 2000, -3])
def test_damaged_archive_is_an_error(write_images: WriteImages, place: int) -> None:
    root = write_images(each=5)
    content = bytearray(compress(pack(root), write_checksum=True))
    content[place] ^= 0x55
    path = root.parent / "a.tar.zst"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.tar\.zst cannot be read"):
        open_source(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x28\xb5\x2f\xfd"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar.zst").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.tar\.zst"):
        open_source(tmp_path / "a.tar.zst")


def test_stream_has_the_bytes_of_the_file_in_pieces_of_any_size(tmp_path: Path) -> None:
    content = NOISE + bytes(5_000_000) + NOISE
    (tmp_path / "a.zst").write_bytes(compress(content, 2))
    for size in (-1, 1_000_003):
        with ZstdStream(tmp_path / "a.zst") as stream:
            pieces = list(iter(lambda: stream.read(size), b""))  # noqa: B023
        assert b"".join(pieces) == content


def test_missing_package_is_named(write_images: WriteImages, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_images()
    path = root.parent / "a.tar.zst"
    path.write_bytes(compress(pack(root)))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression", None)
    with pytest.raises(SourceError, match=r"a\.tar\.zst .*zstandard.*pip install zstandard"):
        open_source(path)


def test_decompressor_of_python_is_preferred(write_images: WriteImages, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_images()
    path = root.parent / "a.tar.zst"
    path.write_bytes(compress(pack(root), 2))
    compression = type(sys)("compression")
    compression.zstd = type(sys)("compression.zstd")  # type: ignore[attr-defined]

    class Parameter:
        window_log_max = 100

    def make(options: dict[int, int]) -> Any:
        assert options == {100: 31}
        return zstandard.ZstdDecompressor().decompressobj()

    compression.zstd.DecompressionParameter = Parameter  # type: ignore[attr-defined]
    compression.zstd.ZstdDecompressor = make  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "compression", compression)
    monkeypatch.setitem(sys.modules, "compression.zstd", compression.zstd)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert described(open_source(path)) == described(FolderSource(root))

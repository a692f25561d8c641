"""A zip has the items, labels and splits of the folder that was packed, or says what is wrong with it."""

from __future__ import annotations

import shutil
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topwork.errors import DecodeError, SourceError
from topwork.extract.sources import file as file_module
from topwork.extract.sources.folder import FolderSource
from topwork.extract.sources.opening import open_source
from topwork.extract.sources.zip_archive import ZipSource

WriteImages = Callable[..., Path]


def described(source: Any) -> list[tuple[Any, ...]]:
    return [(item.id, item.label, item.split, item.size, item.read()) for item in source]


@pytest.mark.parametrize(
    "labels", [("cat", "dog"), ("train/cat", "val/cat", "val/dog"), ("data/train/cat", "data/dev/cat")]
)
@pytest.mark.parametrize("name", ["photos.zip", "PHOTOS.ZIP"])
def test_items_are_those_of_the_folder(write_images: WriteImages, labels: tuple[str, ...], name: str) -> None:
    root = write_images(labels=labels, each=3)
    (root / "notes.md").write_text("x")
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "0.png").write_bytes(b"x")
    packed = Path(shutil.make_archive(str(root), "zip", root)).rename(root.parent / name)
    source = open_source(packed)
    assert isinstance(source, ZipSource)
    assert described(source) == described(source) == described(FolderSource(root))
    assert (len(source), source.ignored) == (3 * len(labels), 1)


def test_members_are_read_by_several_threads(write_images: WriteImages) -> None:
    root = write_images(labels=("cat",), each=40)
    source = open_source(shutil.make_archive(str(root), "zip", root))
    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda item: item.read(), source))
    assert contents == [item.read() for item in FolderSource(root)]


def test_members_outside_the_root_are_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("../up.png", "/top.png", "cat/0.png"):
            archive.writestr(name, b"x")
    source = open_source(tmp_path / "a.zip")
    assert [item.id for item in source] == ["cat/0.png"]
    assert source.ignored == 2


def test_backslashes_of_windows_are_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("train\\cat\\0.png", "val\\dog\\1.png", "..\\up.png"):
            member = zipfile.ZipInfo(name)
            member.create_system = 0
            archive.writestr(member, name)
        member = zipfile.ZipInfo("one\\name.png")
        member.create_system = 3
        archive.writestr(member, b"x")
    source = open_source(tmp_path / "a.zip")
    assert described(source)[1:] == [
        ("train/cat/0.png", "cat", "train", 15, b"train\\cat\\0.png"),
        ("val/dog/1.png", "dog", "val", 13, b"val\\dog\\1.png"),
    ]
    assert next(iter(source)).id == "one\\name.png"
    assert source.ignored == 1


def test_damaged_member_fails_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat/0.png", b"first" * 10)
        archive.writestr("cat/1.png", b"second" * 10)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"firstfirst", b"firstFIRST", 1))
    first, second = open_source(path)
    with pytest.raises(DecodeError, match=r"cat/0\.png of archive .*a\.zip is damaged"):
        first.read()
    assert second.read() == b"second" * 10


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_data_of_every_compression_fail_alone(compression: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    noise = np.random.default_rng(0).bytes(5000)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("cat/0.png", noise)
        archive.writestr("cat/1.png", b"second")
    content = bytearray(path.read_bytes())
    content[100:400] = bytes(300)
    path.write_bytes(content)
    first, second = open_source(path)
    with pytest.raises(DecodeError, match=r"cat/0\.png of archive .*a\.zip"):
        first.read()
    assert second.read() == b"second"


def encrypt(path: Path, name: str) -> None:
    """Mark a member of a zip as encrypted, in both of its headers."""
    content = bytearray(path.read_bytes())
    first = content.rindex(b"PK\x03\x04", 0, content.index(name.encode()))
    content[first + 6] |= 1
    second = content.rindex(b"PK\x01\x02", 0, content.rindex(name.encode()))
    content[second + 8] |= 1
    path.write_bytes(content)


def test_encrypted_member_is_named_with_its_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat/0.png", b"first")
        archive.writestr("cat/0.cls", b"cat")
    encrypt(path, "cat/0.png")
    (item,) = open_source(path)
    with pytest.raises(DecodeError, match=r"cat/0\.png of archive .*a\.zip is encrypted"):
        item.read()
    encrypt(path, "cat/0.cls")
    with pytest.raises(SourceError, match=r"cat/0\.cls of archive .*a\.zip is encrypted.*label"):
        open_source(path)


def test_damaged_sidecar_is_an_error_that_names_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("0.png", b"first")
        archive.writestr("0.json", b'{"label": "cat"}')
    path.write_bytes(path.read_bytes().replace(b'"cat"', b'"dog"', 1))
    with pytest.raises(SourceError, match=r"0\.json of archive .*a\.zip is damaged"):
        open_source(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 truncated"])
def test_damaged_archive_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.zip"):
        open_source(tmp_path / "a.zip")


def test_member_without_a_name_is_no_item(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cat/0.png", b"first")
        archive.writestr("x", b"second")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"x", b"\0"))  # names end at a zero byte
    (item,) = open_source(tmp_path / "a.zip")
    assert item.id == "cat/0.png"


COMPRESSIONS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def state_size(path: Path, size: int) -> None:
    """Let the directory of a zip state another size of its first member."""
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, entry + 24, size)
    path.write_bytes(content)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_members_of_every_compression_are_whole(tmp_path: Path, compression: int) -> None:
    noise = np.random.default_rng(0).bytes(2**20 + 1)
    contents = {"0.png": b"", "1.png": b"x", "2.png": bytes(10**6), "3.png": noise}
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    path.write_bytes(b"before" + path.read_bytes())  # as in an archive that unpacks itself
    assert {item.id: item.read() for item in open_source(path)} == contents


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("stated", [10, 2 * 10**7 + 1])
def test_member_is_not_unpacked_beyond_the_size_that_it_states(tmp_path: Path, compression: int, stated: int) -> None:
    """Twenty million zeros, which bzip2 packs into fifty bytes."""
    path = tmp_path / "a.zip"
    size = 2 * 10**7
    if compression == zipfile.ZIP_STORED:
        size = 10**6
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("cat/0.png", bytes(size))
    state_size(path, stated)
    (item,) = open_source(path)
    tracemalloc.start()
    with pytest.raises(DecodeError, match=r"cat/0\.png of archive .*a\.zip is damaged"):
        item.read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if stated == 10:
        assert peak < 2**24  # LZMA has a dictionary of 8 MiB


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_member_larger_than_any_item_fails_alone(
    tmp_path: Path, compression: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "MAX_ITEM_BYTES", 10**6)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", compression) as archive:
        archive.writestr("cat/0.png", bytes(10**6 + 1))
        archive.writestr("cat/1.png", bytes(10**6))
    first, second = open_source(tmp_path / "a.zip")
    with pytest.raises(DecodeError, match="1,000,001 bytes; expected at most 1,000,000"):
        first.read()
    assert second.read() == bytes(10**6)

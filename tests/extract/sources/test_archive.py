"""An archive as a source: the same items as a folder, and nothing from outside its root."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from topwork.errors import DecodeError, SourceError
from topwork.extract.sources import file as file_module
from topwork.extract.sources.archive import ArchiveSource
from topwork.extract.sources.folder import FolderSource
from topwork.extract.sources.opening import open_source

WriteImages = Callable[..., Path]
MODES = {"images.tar": "w", "images.tar.gz": "w:gz", "images.tgz": "w:gz"}


def packed(root: Path, name: str, prefix: str = "") -> Path:
    """Return an archive of a folder, its members in order of path."""
    archive = root.with_name(name)
    with tarfile.open(archive, MODES[name]) as tar:
        for path in sorted(root.rglob("*")):
            tar.add(path, prefix + path.relative_to(root).as_posix(), recursive=False)
    return archive


def archive_of(path: Path, members: list[str | tarfile.TarInfo]) -> ArchiveSource:
    with tarfile.open(path, "w") as tar:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = 5 if info.isfile() else 0
            tar.addfile(info, io.BytesIO(b"pixel"))
    return ArchiveSource(path)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("prefix", ["", "./"])
@pytest.mark.parametrize(
    "labels", [("ants", "bees"), ("train/ants", "train/bees", "val/ants"), ("train/ants", "train/bees")]
)
def test_archive_has_the_items_of_its_folder(
    write_images: WriteImages, name: str, prefix: str, labels: tuple[str, ...]
) -> None:
    root = write_images(labels=labels, each=2)
    (root / "notes.txt").write_text("no image")
    folder, archive = FolderSource(root), open_source(packed(root, name, prefix))
    assert isinstance(archive, ArchiveSource)
    assert (len(archive), archive.ignored) == (len(folder), folder.ignored) == (2 * len(labels), 1)
    for _ in range(2):
        ours, theirs = list(archive), list(folder)
        assert [(i.id, i.label, i.split, i.size) for i in ours] == [(i.id, i.label, i.split, i.size) for i in theirs]
        assert [i.read() for i in ours] == [i.read() for i in theirs]
        assert {i.mtime_ns for i in ours} == {None}  # whole seconds, often constant: they prove nothing


@pytest.mark.parametrize("archive", MODES)
@pytest.mark.parametrize(("kind", "name"), [("text", "b.txt"), ("tensor", "c.npy")])
def test_items_are_members_of_the_kind_that_the_backbone_expects(
    kind: str, name: str, archive: str, write_images: WriteImages
) -> None:
    root = write_images(labels=("cat", "dog"), each=1)
    for other in ("b.txt", "c.npy", "d.npz"):
        (root / "cat" / other).write_bytes(b"content")
    source = open_source(packed(root, archive), kind=kind)
    assert [(item.id, item.read()) for item in source] == [(f"cat/{name}", b"content")]
    assert (len(source), source.ignored) == (1, 4)


def test_members_of_an_uncompressed_archive_are_read_in_any_order(write_images: WriteImages) -> None:
    root = write_images(each=3)
    items = list(ArchiveSource(packed(root, "images.tar")))
    assert [item.read() for item in reversed(items)] == [(root / item.id).read_bytes() for item in reversed(items)]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["data/v1/ants/1.jpg", "data/v1/bees/1.jpg"], ["ants", "bees"]),
        (["data/train/ants/1.jpg", "data/val/bees/1.jpg"], ["ants", "bees"]),
        (["data/ants/1.jpg", "data/ants/2.jpg"], ["ants", "ants"]),
        (["data/ants/1.jpg", "data/2.jpg"], ["data", "data"]),
        (["ants/1.jpg", "2.jpg"], ["ants", None]),
        (["1.jpg", "2.jpg"], [None, None]),
        (["ants/a/1.jpg", "antsy/a/1.jpg"], ["ants", "antsy"]),
    ],
    ids=lambda value: "+".join(map(str, value)),
)
def test_folder_that_all_members_share_is_no_label(tmp_path: Path, names: list[str], labels: list[str | None]) -> None:
    items = list(archive_of(tmp_path / "a.tar", list(names)))
    assert [item.id for item in items] == names
    assert [item.label for item in items] == labels


def test_names_outside_the_root_links_and_devices_are_refused_and_counted(tmp_path: Path) -> None:
    refused: list[str | tarfile.TarInfo] = [
        "../up.jpg",
        "ants/../../up.jpg",
        "/etc/absolute.jpg",
        special("ants/symbolic.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        special("ants/hard.jpg", tarfile.LNKTYPE, "ants/nowhere.jpg"),
        special("ants/device.jpg", tarfile.CHRTYPE),
        special("ants/pipe.jpg", tarfile.FIFOTYPE),
    ]
    source = archive_of(tmp_path / "a.tar", ["ants/1.jpg", *refused, "bees/2.jpg"])
    assert [(item.id, item.label, item.read()) for item in source] == [
        ("ants/1.jpg", "ants", b"pixel"),
        ("bees/2.jpg", "bees", b"pixel"),
    ]
    assert (len(source), source.ignored) == (2, len(refused))


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_hard_link_is_the_file_that_it_names(tmp_path: Path, name: str) -> None:
    members = ["ants/1.jpg", special("bees/1.jpg", tarfile.LNKTYPE, "ants/1.jpg"), "ants/2.jpg"]
    with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as archive:
        for member in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = 5 if isinstance(member, str) else 0
            archive.addfile(info, io.BytesIO(b"pixel"))
    source = ArchiveSource(tmp_path / name)
    assert [(item.id, item.label, item.size, item.read()) for item in source] == [
        ("ants/1.jpg", "ants", 5, b"pixel"),
        ("bees/1.jpg", "bees", 5, b"pixel"),
        ("ants/2.jpg", "ants", 5, b"pixel"),
    ]
    assert (len(source), source.ignored) == (3, 0)


@pytest.mark.parametrize("name", ["images.tar", "images.tar.gz"])
@pytest.mark.parametrize("content", [b"", b"no archive at all, but a text\n" * 50], ids=["empty", "text"])
def test_what_is_no_archive_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match="archive"):
        ArchiveSource(tmp_path / name)


@pytest.mark.parametrize("name", ["images.tar", "images.tar.gz"])
def test_a_truncated_archive_is_refused_by_name(write_images: WriteImages, name: str) -> None:
    archive = packed(write_images(each=5), name)
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(SourceError, match=name):
        ArchiveSource(archive)


def test_archive_of_zeros_ends(tmp_path: Path) -> None:
    path = tmp_path / "zeros.tar.gz"
    path.write_bytes(gzip.compress(bytes(2**25)))
    with pytest.raises(SourceError, match="cannot be read"):
        open_source(path)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tar.bz2", "a.tar.xz"])
def test_member_larger_than_any_item_fails_alone(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module, "MAX_ITEM_BYTES", 10**6)
    with tarfile.open(tmp_path / name, f"w:{name.removeprefix('a.tar').removeprefix('.')}") as archive:
        for member_name, size in (("cat/0.png", 10**6), ("cat/1.png", 10**7), ("cat/2.png", 1)):
            member = tarfile.TarInfo(member_name)
            member.size = size
            archive.addfile(member, io.BytesIO(bytes(size)))
    readers = {item.id: item.read for item in open_source(tmp_path / name)}
    with pytest.raises(DecodeError, match="10,000,000 bytes; expected at most 1,000,000"):
        readers["cat/1.png"]()
    if name == "a.tar":
        assert readers["cat/2.png"]() == bytes(1)
        assert readers["cat/0.png"]() == bytes(10**6)


@pytest.mark.parametrize("stated", [2**33, 2**61])
def test_zeros_after_a_header_that_promises_more_end(tmp_path: Path, stated: int) -> None:
    member = tarfile.TarInfo("cat/0.png")
    member.size = stated
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(member.tobuf(tarfile.GNU_FORMAT) + bytes(2**25)))
    with pytest.raises((SourceError, DecodeError), match=r"cannot be read|bytes; expected at most"):
        [item.read() for item in open_source(path)]

"""A folder as a source: labels, order, links, what is left out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from topwork.errors import SourceError
from topwork.extract.sources.folder import FolderSource

WriteImages = Callable[..., Path]


def ids(root: Path) -> list[str]:
    return [item.id for item in FolderSource(root)]


def test_sub_folders_are_labels_and_items_are_sorted_by_path(write_images: WriteImages) -> None:
    root = write_images(labels=("dog", "cat", "cat fish"), each=2)
    source = FolderSource(root)
    assert [(item.id, item.label, item.split) for item in source] == [
        ("cat/0.png", "cat", None),
        ("cat/1.png", "cat", None),
        ("cat fish/0.png", "cat fish", None),
        ("cat fish/1.png", "cat fish", None),
        ("dog/0.png", "dog", None),
        ("dog/1.png", "dog", None),
    ]
    assert (len(source), source.ignored) == (6, 0)
    item = next(iter(source))
    assert item.read() == (root / "cat/0.png").read_bytes()
    assert (item.size, item.mtime_ns) == ((root / "cat/0.png").stat().st_size, (root / "cat/0.png").stat().st_mtime_ns)


def test_split_folders_are_no_labels(write_images: WriteImages) -> None:
    root = write_images(labels=("train/ants", "valid/ants", "test"), each=1)
    found = {item.id: (item.label, item.split) for item in FolderSource(root)}
    assert found == {
        "test/0.png": (None, "test"),
        "train/ants/0.png": ("ants", "train"),
        "valid/ants/0.png": ("ants", "val"),
    }


def test_other_and_hidden_files_are_counted_as_ignored(write_images: WriteImages) -> None:
    root = write_images(each=1)
    for name in ("notes.txt", "cat/.hidden.png", "cat/Thumbs.db"):
        (root / name).write_text("x")
    assert ids(root) == ["cat/0.png", "dog/0.png"]
    assert FolderSource(root).ignored == 3


@pytest.mark.parametrize(("kind", "name"), [("text", "b.txt"), ("tensor", "c.npy")])
def test_items_are_files_of_the_kind_that_the_backbone_expects(kind: str, name: str, write_images: WriteImages) -> None:
    root = write_images(labels=("cat",), each=1)
    for other in ("b.txt", "c.npy", "d.npz"):
        (root / "cat" / other).write_bytes(b"content")
    source = FolderSource(root, kind)
    assert [(item.id, item.label, item.read()) for item in source] == [(f"cat/{name}", "cat", b"content")]
    assert source.ignored == 3


def test_names_in_any_encoding_become_ids(write_images: WriteImages) -> None:
    root = write_images(labels=("cat",), each=1)
    try:
        os.rename(root / "cat" / "0.png", os.path.join(os.fsencode(root), b"cat", b"caf\xe9.png"))
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    (item,) = FolderSource(root)
    assert item.id == "cat/caf\\xe9.png"
    assert item.read().startswith(b"\x89PNG")


def test_links_are_followed(write_images: WriteImages, tmp_path: Path) -> None:
    elsewhere = write_images("elsewhere", labels=("cow",), each=2)
    root = write_images(labels=("cat",), each=1)
    (root / "cow").symlink_to(elsewhere / "cow")
    (root / "cat" / "link.png").symlink_to(elsewhere / "cow" / "0.png")
    assert ids(root) == ["cat/0.png", "cat/link.png", "cow/0.png", "cow/1.png"]


@pytest.mark.parametrize("target", [".", "..", "../cat"])
def test_a_loop_of_links_ends(write_images: WriteImages, target: str) -> None:
    root = write_images(labels=("cat", "dog"), each=1)
    (root / "cat" / "loop").symlink_to(target, target_is_directory=True)
    assert ids(root) == ["cat/0.png", "dog/0.png"]


def test_a_link_to_a_neighbour_does_not_take_its_items_away(write_images: WriteImages) -> None:
    root = write_images(labels=("cat", "dog"), each=1)
    (root / "cat" / "link").symlink_to("../dog", target_is_directory=True)
    assert {"cat/0.png", "dog/0.png"} <= set(ids(root))


def test_a_dangling_link_is_an_item_that_fails_when_it_is_read(write_images: WriteImages) -> None:
    root = write_images(labels=("cat",), each=1)
    (root / "cat" / "gone.png").symlink_to("nowhere.png")
    item = list(FolderSource(root))[1]
    assert (item.id, item.size, item.mtime_ns) == ("cat/gone.png", None, None)
    with pytest.raises(FileNotFoundError):
        item.read()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_an_error(write_images: WriteImages) -> None:
    root = write_images(each=1)
    (root / "cat").chmod(0)
    try:
        with pytest.raises(SourceError, match=r"cat .*Permission denied"):
            FolderSource(root)
    finally:
        (root / "cat").chmod(0o755)

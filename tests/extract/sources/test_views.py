"""Views of a source's images: which items have some, what they are called, what they hold."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from topwork.errors import InputError
from topwork.extract.sources.item import Item, Source, View
from topwork.extract.sources.opening import open_source
from topwork.extract.sources.sequence import SequenceSource
from topwork.extract.sources.views import ViewedSource

WriteImages = Callable[..., Path]


class Given:
    """Items as they are, which counts how often they are gone through."""

    ignored = 3

    def __init__(self, items: list[Item]) -> None:
        self.items, self.times = items, 0

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Item]:
        self.times += 1
        return iter(self.items)


def named(*ids: str) -> Given:
    return Given([Item(identifier, identifier.encode) for identifier in ids])


def test_views_follow_their_image_with_its_label_and_group(write_images: WriteImages) -> None:
    source = open_source(write_images(labels=("cat", "dog"), each=2))
    viewed = ViewedSource(source, 2)
    assert isinstance(viewed, Source)
    for _ in range(2):
        found, plain = list(viewed), list(source)
        assert len(found) == len(viewed) == 12
        assert [replace(item, read=bytes) for item in found[::3]] == [replace(item, read=bytes) for item in plain]
        for place, item in enumerate(plain):
            for number in (1, 2):
                view = found[3 * place + number]
                assert (view.id, view.group) == (f"{item.id}@{number}", item.id)
                assert (view.label, view.split, view.size, view.mtime_ns) == (
                    item.label,
                    item.split,
                    item.size,
                    item.mtime_ns,
                )
                assert view.read() == View(item.read(), number)
    assert {item.group for item in found[::3]} == {None}


def test_only_what_is_trained_on_has_views(write_images: WriteImages) -> None:
    source = open_source(write_images(labels=("train/a", "val/a", "test/a"), each=1))
    viewed = ViewedSource(source, 2)
    ids = ["test/a/0.png", "train/a/0.png", "train/a/0.png@1", "train/a/0.png@2", "val/a/0.png"]
    assert [item.id for item in viewed] == ids
    assert len(viewed) == 5
    assert {item.split for item in viewed if item.group} == {"train"}


@pytest.mark.parametrize("split", ["val", "test", "holdout", ""])
def test_another_split_has_no_views(split: str) -> None:
    viewed = ViewedSource(Given([Item("a", bytes, split=split)]), 5)
    assert [item.id for item in viewed] == ["a"]
    assert len(viewed) == 1


def test_views_leave_items_their_ids() -> None:
    source = named("a", "a@1", "a@1#2", "b@2", "b")
    views = {item.id: item.group for item in ViewedSource(source, 2) if item.group}
    assert views == {
        "a@1#3": "a",
        "a@2": "a",
        "a@1@1": "a@1",
        "a@1@2": "a@1",
        "a@1#2@1": "a@1#2",
        "a@1#2@2": "a@1#2",
        "b@2@1": "b@2",
        "b@2@2": "b@2",
        "b@1": "b",
        "b@2#2": "b",
    }


@given(
    ids=st.lists(st.from_regex(r"\A[ab]?(@[12])?(#[23])?(@[12])?\Z"), unique=True, max_size=12), views=st.integers(0, 3)
)
def test_ids_are_unique_and_those_of_items_stay(ids: list[str], views: int) -> None:
    viewed = ViewedSource(named(*ids), views)
    found = list(viewed)
    assert len(found) == len(viewed) == len({item.id for item in found}) == len(ids) * (1 + views)
    assert [item.id for item in found if item.group is None] == ids
    assert [item.group for item in found if item.group is not None] == [name for name in ids for _ in range(views)]
    assert [item.id for item in viewed] == [item.id for item in found]


def test_without_views_the_source_is_as_it_was() -> None:
    source = named("a", "a@1")
    viewed = ViewedSource(source, 0)
    assert list(viewed) == source.items
    assert (len(viewed), viewed.ignored, source.times) == (2, 3, 1)


def test_splits_are_looked_at_once() -> None:
    source = named("a", "b")
    viewed = ViewedSource(source, 1)
    assert source.times == 0
    for _ in range(2):
        assert len(list(viewed)) == len(viewed) == 4
    assert source.times == 3
    assert viewed.ignored == 3


def test_compressed_archive_is_read_in_order(write_images: WriteImages, tmp_path: Path) -> None:
    root = write_images(each=2)
    with tarfile.open(tmp_path / "images.tar.gz", "w:gz") as archive:
        archive.add(root, "images")
    plain = {item.id: item.read() for item in open_source(tmp_path / "images.tar.gz")}
    viewed = ViewedSource(open_source(tmp_path / "images.tar.gz"), 2)
    contents = {item.id: item.read() for item in viewed if item.group}
    assert contents == {f"{name}@{number}": View(plain[name], number) for name in plain for number in (1, 2)}


def test_what_cannot_be_read_cannot_be_viewed(tmp_path: Path) -> None:
    item, view = ViewedSource(open_source([tmp_path / "none.png"]), 1)
    for one in (item, view):
        with pytest.raises(FileNotFoundError):
            one.read()


@pytest.mark.parametrize("views", [-1, 1.0, "2", None, True, np.nan])
def test_number_of_views_is_a_number(views: object) -> None:
    with pytest.raises(InputError, match=r"views="):
        ViewedSource(named("a"), views)  # type: ignore[arg-type]


def test_number_of_views_may_be_numpys() -> None:
    assert [item.id for item in ViewedSource(named("a"), np.int64(1))] == ["a", "a@1"]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["text", "tensor"])
def test_only_images_have_views(kind: str) -> None:
    values = ["a"] if kind == "text" else [np.zeros(3)]
    with pytest.raises(InputError, match=rf"views=2: .*{kind}"):
        ViewedSource(SequenceSource(values, kind=kind), 2)
    with pytest.raises(InputError, match="views"):
        ViewedSource(named("a"), 2, kind)
    assert len(ViewedSource(SequenceSource(values, kind=kind), 0)) == 1

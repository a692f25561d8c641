"""Items given from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from topwork.errors import SourceError
from topwork.extract.item import content_digest
from topwork.extract.sources.sequence import SequenceSource

ARRAY = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)


def test_paths_are_their_own_ids_and_keep_their_order(write_images: Callable[..., Path]) -> None:
    paths = sorted(write_images().rglob("*.png"), reverse=True)
    items = list(SequenceSource([str(paths[0]), *paths[1:]]))
    assert [item.id for item in items] == [path.as_posix() for path in paths]
    assert [item.read() for item in items] == [path.read_bytes() for path in paths]
    assert [(item.size, item.label, item.split) for item in items] == [(p.stat().st_size, None, None) for p in paths]


def test_arrays_and_images_are_named_by_their_content() -> None:
    array, image, other = SequenceSource([ARRAY, Image.fromarray(ARRAY), ARRAY + 1])
    assert array.id == f"array:{content_digest(ARRAY)[:32]}"
    assert image.id == f"{array.id}#2"
    assert other.id != array.id
    assert array.read() is ARRAY
    np.testing.assert_array_equal(np.asarray(image.read()), ARRAY)


def test_one_image_in_place_of_a_sequence_is_refused() -> None:
    with pytest.raises(SourceError, match=r"shape \(40, 40, 3\) is one image.*put it into a list"):
        SequenceSource(np.zeros((40, 40, 3), np.uint8))


def test_one_array_of_images_is_as_many_items() -> None:
    source = SequenceSource(np.stack([ARRAY, ARRAY + 1]))
    assert len(source) == len(list(source)) == 2
    np.testing.assert_array_equal(list(source)[1].read(), ARRAY + 1)


def test_labels_go_with_their_items_and_may_be_missing() -> None:
    items = list(SequenceSource([ARRAY, ARRAY + 1, ARRAY + 2], labels=["cat", None, "dog"]))
    assert [item.label for item in items] == ["cat", None, "dog"]


def test_as_many_labels_as_items_are_needed() -> None:
    with pytest.raises(SourceError, match="2 items but 1 labels"):
        SequenceSource([ARRAY, ARRAY], labels=["cat"])


@pytest.mark.parametrize("value", [3, None, b"bytes", [1, 2]])
def test_what_is_no_image_is_named_with_its_position(value: object) -> None:
    with pytest.raises(SourceError, match=f"item 1 is a {type(value).__name__}; expected a path"):
        list(SequenceSource([ARRAY, value]))


def test_texts_are_named_by_their_content_and_paths_by_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("of the file")
    found = list(SequenceSource(["hello", tmp_path / "a.txt", "hello", "a.txt"], kind="text"))
    digest = content_digest("hello")[:32]
    assert [item.id for item in found] == [
        f"text:{digest}",
        (tmp_path / "a.txt").as_posix(),
        f"text:{digest}#2",
        f"text:{content_digest('a.txt')[:32]}",
    ]
    assert [item.read() for item in found] == ["hello", b"of the file", "hello", "a.txt"]


def test_numpys_texts_are_texts() -> None:
    assert [item.read() for item in SequenceSource(np.array(["hello", "world"]), kind="text")] == ["hello", "world"]


def test_tensors_are_the_rows_of_an_array_of_any_shape() -> None:
    for array in (np.zeros((3, 2)), np.zeros((5, 3)), np.zeros((2, 4, 3)), [np.ones(3), np.zeros(3)]):
        assert len(list(SequenceSource(array, kind="tensor"))) == len(array)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("text", 3, "a text, or the path of a text file"),
        ("text", b"bytes", "a text, or the path of a text file"),
        ("text", np.zeros(3), "a text, or the path of a text file"),
        ("tensor", 3, r"an array of numbers, or the path of an \.npy file"),
        ("tensor", [1, 2], r"an array of numbers, or the path of an \.npy file"),
    ],
)
def test_what_is_of_another_kind_is_named_with_its_position(kind: str, value: object, expected: str) -> None:
    first = "a" if kind == "text" else np.zeros(3)
    with pytest.raises(SourceError, match=f"item 1 is a {type(value).__name__}; expected {expected}"):
        list(SequenceSource([first, value], kind=kind))

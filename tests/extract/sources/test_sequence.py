"""Items given from Python."""

from __future__ import annotations

import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from topwork.errors import DecodeError, SourceError
from topwork.extract.sources.item import content_digest
from topwork.extract.sources.opening import open_source
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


def test_image_that_is_only_opened_fails_alone() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(stream, "JPEG")
    for ids in (None, ["x", "y"]):
        images = [Image.open(io.BytesIO(content)) for content in (stream.getvalue()[:900], stream.getvalue())]
        broken, whole = SequenceSource(images, ids=ids)
        assert broken.id == ("x" if ids else "image:0")
        for _ in range(2):
            with pytest.raises(DecodeError, match=r"OSError: .*truncated"):
                broken.read()
        assert whole.read() is images[1]


def test_opened_image_is_read_by_one_thread_at_a_time() -> None:
    class Slow(Image.Image):
        reading = 0

        def load(self) -> None:
            assert not self.reading
            self.reading += 1
            time.sleep(0.01)
            self.reading -= 1

    (item,) = SequenceSource([Slow()], ids=["x"])
    with ThreadPoolExecutor(8) as pool:
        assert len({id(image) for image in pool.map(lambda _: item.read(), range(8))}) == 1


def test_one_image_in_place_of_a_sequence_is_refused() -> None:
    with pytest.raises(SourceError, match=r"shape \(40, 40, 3\)"):
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


def test_ids_are_the_users(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    values = [ARRAY, Image.fromarray(ARRAY), tmp_path / "a.png", "file:///nowhere/b.png"]
    for ids in (["x", "y", "z", "w"], np.array([3, 1, 2, 0]), (text for text in ("ä", "#", " ", "0"))):
        expected = [str(identifier) for identifier in ids] if not hasattr(ids, "send") else ["ä", "#", " ", "0"]
        found = list(SequenceSource(values, labels=[1, None, 2, 3], ids=ids))
        assert [item.id for item in found] == expected
        assert [item.label for item in found] == ["1", None, "2", "3"]
        assert found[0].read() is ARRAY
        assert found[2].read() == b"a"
    assert [item.id for item in SequenceSource(["one", "one"], kind="text", ids=[1, 2])] == ["1", "2"]


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (["a", "b"], "3 items but 2 ids"),
        (["a", "b", "c", "d"], "3 items but 4 ids"),
        (["a", "b", "a"], r"ids\[2\] .*'a'.*ids\[0\]"),
        ([1, "1", "b"], r"ids\[1\] .*'1'.*ids\[0\]"),
        (["a", "", ""], r"ids\[1\] is empty"),
        ([None, "", "a"], r"ids\[0\] is empty"),
        (["a", float("nan"), "b"], r"ids\[1\] is empty"),
    ],
)
def test_ids_that_are_not_unique_are_refused(ids: list[object], reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        SequenceSource([ARRAY, ARRAY + 1, ARRAY + 2], ids=ids)


def test_names_that_no_file_can_hold_become_texts(tmp_path: Path) -> None:
    (item,) = SequenceSource([ARRAY], labels=["\ud83d"], ids=["\ud83e"])
    assert (item.id, item.label) == ("\\ud83e", "\\ud83d")
    assert [item.id for item in SequenceSource(["caf\udce9.png"])] == ["caf\\xe9.png"]


def test_generator_is_iterated_over_once_and_kept() -> None:
    yielded = []

    def generate() -> Iterator[np.ndarray]:
        for number in range(3):
            yielded.append(number)
            yield ARRAY + number

    source = SequenceSource(generate(), labels=iter("abc"), ids=iter("xyz"))
    for _ in range(2):
        assert [(item.id, item.label) for item in source] == [("x", "a"), ("y", "b"), ("z", "c")]
        for number, item in enumerate(source):
            np.testing.assert_array_equal(item.read(), ARRAY + number)
    assert (len(source), yielded) == (3, [0, 1, 2])


@pytest.mark.parametrize("value", [3, None, Image.fromarray(ARRAY), np.array(3)])
def test_what_is_no_sequence_is_refused(value: object) -> None:
    with pytest.raises(SourceError, match=f"a {type(value).__name__} is no sequence"):
        SequenceSource(value)


@pytest.mark.parametrize("value", [{"a.png", "b.png"}, frozenset(["a.png"]), {"a.png": 1}.keys()])
def test_set_has_no_order(value: object) -> None:
    with pytest.raises(SourceError, match=f"a {type(value).__name__} .*order"):
        SequenceSource(value)


@pytest.mark.parametrize("value", [3, None, [1, 2]])
def test_what_is_no_image_is_named_with_its_position(value: object) -> None:
    with pytest.raises(SourceError, match=f"item 1 .*{type(value).__name__}"):
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
        ("text", np.zeros(3), "a text, or the path of a text file"),
        ("tensor", 3, r"an array of numbers, or the path of an \.npy file"),
        ("tensor", [1, 2], r"an array of numbers, or the path of an \.npy file"),
    ],
)
def test_what_is_of_another_kind_is_named_with_its_position(kind: str, value: object, expected: str) -> None:
    first = "a" if kind == "text" else np.zeros(3)
    with pytest.raises(SourceError, match=f"item 1 .*{type(value).__name__}.*{expected}"):
        list(SequenceSource([first, value], kind=kind))


def test_labels_that_are_missing_are_no_labels() -> None:
    labels = [None, float("nan"), np.float64("nan"), "nan", 1.0]
    items = SequenceSource([str(i) for i in range(5)], labels, "text")
    assert [item.label for item in items] == [None, None, None, "nan", "1.0"]


@pytest.mark.parametrize("kind", ["image", "text", "tensor"])
def test_bytes_and_open_files_are_items(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with open(tmp_path / "file", "rb") as stream:
        source = SequenceSource([b"content", bytearray(b"content"), io.BytesIO(b"content"), stream], kind=kind)
    assert [item.read() for item in source] == [item.read() for item in source] == [b"content"] * 4
    first, *others = [item.id for item in source]
    assert others == [f"{first}#{number}" for number in (2, 3, 4)]


def test_files_of_text_are_no_bytes() -> None:
    with pytest.raises(SourceError, match=r"StringIO.*file of bytes"):
        SequenceSource([io.StringIO("content")])


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, io.BytesIO], ids=lambda make: make.__name__)
def test_content_of_one_item_is_no_sequence(make: Callable[[bytes], object]) -> None:
    with pytest.raises(SourceError, match=r"content of one item.*put it into a list"):
        open_source(make(b"first\nsecond\n"))


def test_open_file_is_no_sequence(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("a.png\nb.png\n")
    with open(path, "rb") as stream, pytest.raises(SourceError, match=r"BufferedReader.*put it into a list"):
        open_source(stream)
    with open(path) as lines, pytest.raises(SourceError, match=r"TextIOWrapper.*list of its lines"):
        open_source(lines)
    with tempfile.TemporaryFile() as temporary, pytest.raises(SourceError, match="put it into a list"):
        open_source(temporary)


class Broken(io.RawIOBase):
    """A connection that fails."""

    def read(self, size: int = -1) -> bytes:
        raise TimeoutError("no answer")


def closed_stream() -> io.BytesIO:
    stream = io.BytesIO(b"pixels")
    stream.close()
    return stream


def written_stream() -> io.BytesIO:
    stream = io.BytesIO()
    Image.fromarray(ARRAY).save(stream, "PNG")
    return stream


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (closed_stream, "BytesIO .*closed.*open it again"),
        (written_stream, r"BytesIO .*its end; call seek\(0\)"),
        (Broken, "Broken .*no answer"),
        (lambda: open(os.devnull, "wb"), "BufferedWriter .*read"),  # noqa: SIM115
    ],
)
def test_stream_that_cannot_be_read_is_named_with_its_position(make: Callable[[], object], reason: str) -> None:
    with pytest.raises(SourceError, match=f"item 1 is a {reason}"):
        SequenceSource([b"pixels", make()])


def test_stream_may_be_read_again_from_where_it_was() -> None:
    stream = io.BytesIO(b"header pixels")
    stream.seek(7)
    for _ in range(2):
        assert [item.read() for item in SequenceSource([stream])] == [b"pixels"]


def test_connection_is_read_once() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"pixels")
    os.close(writing)
    with open(reading, "rb") as stream:
        source = SequenceSource([stream])
    assert [item.read() for item in source] == [item.read() for item in source] == [b"pixels"]


def test_empty_stream_is_an_empty_item() -> None:
    (item,) = SequenceSource([io.BytesIO()])
    assert item.read() == b""
